"""The compact property CNN: probabilities of several properties from one pass over an image.

Axes: B batch, H image height, P properties, C channels of the last block.
In evaluation mode, batch normalisation uses the training statistics, so the score of an image
does not depend on the rest of its batch.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ohlora_lib.nets.layers import check_shape

# Channels of the stem and the blocks at width 1; the last number repeats.
CHANNELS, RESIDUAL = (12, 24, 48, 96, 128), (24, 32, 64, 96, 128)
LAST_PX = 4  # side of the last feature map


def pooled(inputs: int, outputs: int) -> nn.Sequential:
    """Maps (B, inputs, h, h) to (B, outputs, h/2, h/2) and keeps fine detail.

    Max-pooling comes before normalisation, which then takes a quarter of the time.
    """
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.MaxPool2d(2), nn.BatchNorm2d(outputs), nn.ReLU())


class Block(nn.Module):
    """A residual block that halves the resolution, for files of earlier versions.

    Source: He et al., "Deep Residual Learning for Image Recognition", 2016,
    https://arxiv.org/abs/1512.03385.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, inputs, h, h) to (B, outputs, h/2, h/2)."""
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.skip(F.avg_pool2d(x, 2)))


class CompactCNN(nn.Module):
    """Predicts several properties from a whole image; they share all layers but the last.

    Args:
        properties: Names of the properties, in the order of the columns.
        image_px: Side H of the images, a power of two of at least 16.
        width: Multiplier of all channel counts.
        residual: Builds the network of earlier versions, which lost fine detail.

    Raises:
        ValueError: If H is not such a power of two.
    """

    def __init__(
        self,
        properties: Sequence[str],
        *,
        image_px: int = 64,
        width: float = 1.0,
        residual: bool = False,
    ) -> None:
        super().__init__()
        blocks = image_px.bit_length() - 1 - (2 * LAST_PX - 1).bit_length()
        if blocks < 1 or image_px != 2 * LAST_PX << blocks:
            raise ValueError(
                f"image_px is {image_px}; a compact CNN needs a power of two of at least 16. "
                f"Choose one, or set `architecture: published`."
            )
        self.properties, self.image_px, self.width = tuple(properties), image_px, width
        counts = RESIDUAL if residual else CHANNELS
        counts = [*counts, *[counts[-1]] * blocks][: blocks + 1]
        channels = [max(1, round(count * width)) for count in counts]
        strided = nn.Conv2d(3, channels[0], 3, stride=2, padding=1, bias=False)
        earlier = nn.Sequential(strided, nn.BatchNorm2d(channels[0]), nn.ReLU())
        self.stem = earlier if residual else pooled(3, channels[0])
        self.blocks = nn.Sequential(*map(Block if residual else pooled, channels, channels[1:]))
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(channels[-1] * LAST_PX**2, len(self.properties))
        self.register_buffer(
            "calibration", torch.tensor([[1.0], [0.0]]).repeat(1, len(properties))
        )
        self.widest_map = channels[0] * image_px**2  # elements of the widest feature map

    def _maps(self, images: Tensor) -> Tensor:
        """Maps images (B, 3, H, H) in [0, 1] to the last feature maps, (B, C, 4, 4)."""
        check_shape(images, (None, 3, self.image_px, self.image_px), name="images")
        return self.blocks(self.stem((images - 0.5) * 4))

    def features(self, images: Tensor) -> Tensor:
        """Maps images (B, 3, H, H) in [0, 1] to spatial means of the last feature maps, (B, C)."""
        return self._maps(images).mean(dim=(2, 3))

    def raw_logits(self, images: Tensor) -> Tensor:
        """Maps images (B, 3, H, H) in [0, 1] to uncalibrated logits, (B, P)."""
        flat = self.dropout(self._maps(images).float().flatten(1))
        with torch.autocast(images.device.type, enabled=False):  # the last layer runs in float32
            return self.head(flat)

    def logits(self, images: Tensor) -> Tensor:
        """Maps images (B, 3, H, H) in [0, 1] to calibrated logits, (B, P)."""
        scale, shift = self.calibration  # (P,) each
        return self.raw_logits(images) * scale + shift

    def forward(self, images: Tensor) -> Tensor:
        """Maps images (B, 3, H, H) in [0, 1] to probabilities, (B, P)."""
        return torch.sigmoid(self.logits(images))
