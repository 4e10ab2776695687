"""The compact property CNN: probabilities of several properties from one pass over an image.

Axes: B batch, H image height, P properties, C channels of the last block.
In evaluation mode, batch normalisation uses the training statistics, so the score of an image
does not depend on the rest of its batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ohlora_lib.nets.layers import check_shape

CHANNELS = (12, 24, 48, 96, 128)  # of the stem and the blocks at width 1; the last one repeats
LAST_PX = 4  # side of the last feature map


def pooled(inputs: int, outputs: int) -> nn.Sequential:
    """Maps (B, inputs, h, h) to (B, outputs, h/2, h/2) and keeps fine detail.

    Max-pooling comes before normalisation, which then takes a quarter of the time.
    """
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.MaxPool2d(2), nn.BatchNorm2d(outputs), nn.ReLU())


class CompactCNN(nn.Module):
    """Predicts several properties from a whole image; they share all layers but the last.

    Args:
        properties: Names of the properties, in the order of the columns.
        image_px: Side H of the images, a power of two of at least 16.
        width: Multiplier of all channel counts.

    Raises:
        ValueError: If H is not such a power of two.
    """

    def __init__(
        self, properties: Sequence[str], *, image_px: int = 64, width: float = 1.0
    ) -> None:
        super().__init__()
        blocks = image_px.bit_length() - 1 - (2 * LAST_PX - 1).bit_length()
        if blocks < 1 or image_px != 2 * LAST_PX << blocks:
            raise ValueError(
                f"image_px is {image_px}; a compact CNN needs a power of two of at least 16. "
                f"Choose one, or set `architecture: published`."
            )
        self.properties, self.image_px, self.width = tuple(properties), image_px, width
        channels = [*CHANNELS, *[CHANNELS[-1]] * blocks][: blocks + 1]
        channels = [max(1, round(count * width)) for count in channels]
        self.stem = pooled(3, channels[0])
        self.blocks = nn.Sequential(*map(pooled, channels, channels[1:]))
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
