"""The property CNN: one probability from one crop of an image.

Axes: B batch, H image height.
Source: the crops, widths and heads of the published study; here at any width and resolution.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ohlora_lib.nets.layers import check_shape

CHANNELS = (32, 64, 128, 128, 256, 256)  # conv1 .. conv6 at width 1
HEAD_WIDTH = 512


class Layout(NamedTuple):
    """What differs between properties; a new property uses gender's."""

    crop: tuple[float, float, float, float]  # top, bottom, left, right; fractions of H
    convolutions: int
    pool_after: tuple[int, ...]  # numbers of the convolutions before a max-pool


LAYOUTS = {
    "gender": Layout((0.0, 1.0, 0.0, 1.0), 6, (2, 3, 4, 5, 6)),
    "quality": Layout((0.0, 1 / 4, 1 / 4, 3 / 4), 5, (2, 3, 4)),
    "age": Layout((0.0, 1 / 2, 0.0, 1.0), 6, (2, 3, 4, 5)),
    "glass": Layout((5 / 16, 1 / 2, 1 / 4, 3 / 4), 5, (2, 3, 4)),
}


class PropertyCNN(nn.Module):
    """Predicts one property from an image.

    Args:
        prop: Name of the property; sets crop and depth.
        image_px: Side H of the images, at least 16.
        width: Multiplier of all channel counts; 1 is as published.
        crop: As in `Layout`; None uses the property's own.

    Raises:
        ValueError: If the crop is too small for one convolution.
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
        layout = LAYOUTS.get(prop, LAYOUTS["gender"])
        self.prop, self.image_px, self.width = prop, image_px, width
        self.properties = (prop,)
        self.crop = tuple(float(side) for side in (crop or layout.crop))
        top, bottom, left, right = (round(side * image_px) for side in self.crop)
        self.box = (slice(top, bottom), slice(left, right))
        size, channels = [bottom - top, right - left], 3
        self.pools: list[bool] = []
        self.widest_map = 0  # elements of one image's widest feature map
        for k in range(1, layout.convolutions + 1):
            if min(size) < 3:
                break  # at a small resolution the last blocks no longer fit
            convolution = nn.Conv2d(channels, max(1, round(CHANNELS[k - 1] * width)), 3)
            block = nn.Sequential(convolution, nn.LeakyReLU(0.01), nn.Dropout2d(0.05))
            self.add_module(f"conv{k}", block)
            size, channels = [side - 2 for side in size], convolution.out_channels
            self.widest_map = max(self.widest_map, channels * math.prod(size))
            self.pools.append(k in layout.pool_after and min(size) >= 2)
            if self.pools[-1]:
                size = [side // 2 for side in size]
        if not self.pools:
            raise ValueError(
                f"image_px {image_px} leaves a crop of {size[0]}x{size[1]} pixels for {prop!r}; "
                f"a convolution needs 3x3. Use larger images or a larger crop."
            )
        head = nn.Linear(channels * math.prod(size), max(1, round(HEAD_WIDTH * width)))
        self.fc1 = nn.Sequential(head, nn.Tanh(), nn.Dropout(0.45))
        self.fc_final = nn.Sequential(nn.Linear(head.out_features, 1))
        for layer in self.modules():  # PyTorch's default would let the signal vanish in six layers
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
            # The next layers are monotonic per channel, so pooling first changes only their cost.
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
