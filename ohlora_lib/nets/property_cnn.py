"""The property CNN: one probability from one crop of an image.

Axes: B batch, H image height.
Source: the published study's figures (crops, widths, heads); any width and any resolution here.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ohlora_lib.nets.layers import check_shape

WHOLE = (Fraction(0), Fraction(1), Fraction(0), Fraction(1))  # rows from, to, columns from, to
CROPS = {
    "gender": WHOLE,
    "quality": (Fraction(0), Fraction(1, 4), Fraction(1, 4), Fraction(3, 4)),
    "age": (Fraction(0), Fraction(1, 2), Fraction(0), Fraction(1)),
    "glass": (Fraction(5, 16), Fraction(1, 2), Fraction(1, 4), Fraction(3, 4)),
}
CHANNELS = (32, 64, 128, 128, 256, 256)  # conv1 .. conv6 at width 1
HEAD_WIDTH = 512
DEEP = (2, 3, 4, 5, 6)  # convolutions that a max-pool follows, in a deep CNN of a whole image
POOL_AFTER = {"age": (2, 3, 4, 5), "quality": (2, 3, 4), "glass": (2, 3, 4)}
NUM_CONVS = {"quality": 5, "glass": 5}


def crop_of(prop: str) -> tuple[Fraction, Fraction, Fraction, Fraction]:
    """Crop of a property as fractions (rows from, to, columns from, to); new ones see all."""
    return CROPS.get(prop, WHOLE)


class PropertyCNN(nn.Module):
    """Reads one property off an image.

    Args:
        prop: Name of the property; sets crop and depth. Unknown names get gender's.
        image_px: Side H of the images, from 16 up.
        width: Multiplier of all channel counts; 1 is as published.
        crop: Rows from, to, columns from, to, as fractions of H; None takes the property's own.

    Raises:
        ValueError: If the image is too small for one convolution, or the width is not positive.
    """

    def __init__(
        self,
        prop: str = "gender",
        *,
        image_px: int = 256,
        width: float = 1.0,
        crop: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if width <= 0:
            raise ValueError(f"width is {width}; it must be positive")
        self.prop, self.image_px, self.width = prop, image_px, width
        self.crop = tuple(float(side) for side in (crop or crop_of(prop)))
        top, bottom, left, right = (round(side * image_px) for side in self.crop)
        self.box = (slice(top, bottom), slice(left, right))
        size, channels = (bottom - top, right - left), 3
        self.pools: list[bool] = []
        self.widest_map = 0  # numbers in the widest feature map of an image
        for k in range(1, NUM_CONVS.get(prop, 6) + 1):
            if min(size) < 3:
                break  # at a small resolution the last blocks no longer fit
            out = scaled(CHANNELS[k - 1], width)
            self.add_module(f"conv{k}", _conv_block(channels, out))
            size, channels = (size[0] - 2, size[1] - 2), out
            self.widest_map = max(self.widest_map, out * size[0] * size[1])
            self.pools.append(k in POOL_AFTER.get(prop, DEEP) and min(size) >= 2)
            if self.pools[-1]:
                size = (size[0] // 2, size[1] // 2)
        if not self.pools:
            raise ValueError(
                f"image_px {image_px} leaves a crop of {size[0]}x{size[1]} pixels for {prop!r}; "
                f"a convolution needs 3x3. Use larger images or a larger crop."
            )
        head = scaled(HEAD_WIDTH, width)
        flat = channels * size[0] * size[1]
        self.fc1 = nn.Sequential(nn.Linear(flat, head), nn.Tanh(), nn.Dropout(0.45))
        self.fc_final = nn.Sequential(nn.Linear(head, 1))
        for layer in self.modules():  # PyTorch's own draw lets the signal die in six convolutions
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=0.01)
                nn.init.zeros_(layer.bias)

    def features(self, images: Tensor) -> Tensor:
        """Maps images (B, 3, H, H) in [0, 1] to the features before the last layer, (B, F)."""
        check_shape(images, (None, 3, self.image_px, self.image_px), name="images")
        x = images[(slice(None), slice(None), *self.box)]  # (B, 3, crop rows, crop columns)
        for k, pool in enumerate(self.pools, start=1):
            convolution, *rest = getattr(self, f"conv{k}")
            x = convolution(x)
            # The largest of four stays the largest under what follows, which then has less to do.
            x = F.max_pool2d(x, 2) if pool else x
            for layer in rest:
                x = layer(x)
        return self.fc1(x.flatten(1))  # (B, F)

    def logits(self, images: Tensor) -> Tensor:
        """Maps images (B, 3, H, H) in [0, 1] to logits, (B, 1)."""
        return self.fc_final(self.features(images)).float()

    def forward(self, images: Tensor) -> Tensor:
        """Maps images (B, 3, H, H) in [0, 1] to probabilities, (B, 1)."""
        return torch.sigmoid(self.logits(images))


def scaled(channels: int, width: float) -> int:
    """Number of channels at a width multiplier."""
    return max(1, round(channels * width))


def _conv_block(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3), nn.LeakyReLU(0.01), nn.Dropout2d(0.05)
    )
