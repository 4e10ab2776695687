"""StyleGAN 1 discriminator; names as in GenForce's files.

Axes: B batch, C channels, H image height, P properties.
Source: Karras et al., "A Style-Based Generator Architecture for GANs", 2019, https://arxiv.org/abs/1812.04948;
we differ: property scores may join the features before the last dense layer.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ohlora_lib.nets.generator import check_resolution, feature_maps
from ohlora_lib.nets.layers import (
    Blur,
    EqualDense,
    check_shape,
    convolve,
    leaky,
    minibatch_deviation,
    smooth_kernel,
)


class EqualConv(nn.Module):
    """Convolution with equalised learning rate and leaky ReLU; `down` blurs, then halves."""

    def __init__(
        self, in_channels: int, channels: int, kernel: int, *, down: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.weight_scale = math.sqrt(2) / math.sqrt(in_channels * kernel**2)
        self.padding, self.down = kernel // 2, down
        if down:
            self.blur = Blur(in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C_in, H, W) to (B, C, H, W), or half as high and wide."""
        weight = self.weight * self.weight_scale
        if not self.down:
            return leaky(convolve(x, weight, self.bias, padding=self.padding))
        # Convolution and average pooling as one kernel: the same sums, fewer multiplications.
        kernel = smooth_kernel(weight) / 4  # (C, C_in, 4, 4)
        return leaky(convolve(self.blur(x), kernel, self.bias, stride=2, padding=1))


class Discriminator(nn.Module):
    """Scores images: high for real, low for generated.

    Args:
        image_px: Side H of the images, a power of two from 8 to 1024.
        num_properties: Number P of property scores joined before the last layer; 0 for none.
        fmaps_base: Channels at resolution r are min(fmaps_base / r, fmaps_max).
        fmaps_max: Most channels anywhere.

    Raises:
        ValueError: If a size is not allowed.
    """

    def __init__(
        self,
        image_px: int = 256,
        *,
        num_properties: int = 7,
        fmaps_base: int = 16384,
        fmaps_max: int = 512,
    ) -> None:
        super().__init__()
        check_resolution(image_px)
        self.image_px, self.num_properties = image_px, num_properties
        self.fmaps_base, self.fmaps_max = fmaps_base, fmaps_max
        self.register_buffer("lod", torch.zeros(()))
        self.num_blocks = int(math.log2(image_px)) - 1
        for k in range(self.num_blocks):
            px = image_px // 2**k
            channels = feature_maps(px, fmaps_base, fmaps_max)
            self.add_module(f"input{k}", EqualConv(3, channels, 1))
            if px > 4:
                self._add_block(k, channels, feature_maps(px // 2, fmaps_base, fmaps_max))
        last = 2 * (self.num_blocks - 1)
        self.add_module(f"layer{last}", EqualConv(channels + 1, channels, 3))
        width = feature_maps(2, fmaps_base, fmaps_max)
        self.add_module(f"layer{last + 1}", EqualDense(channels * 16, width))
        self.add_module(f"layer{last + 2}", EqualDense(width + num_properties, 1, gain=1.0))

    def _add_block(self, k: int, channels: int, next_channels: int) -> None:
        first = EqualConv(channels, channels, 3)
        self.add_module(f"layer{2 * k}", first)
        second = EqualConv(channels, next_channels, 3, down=True)
        self.add_module(f"layer{2 * k + 1}", second)

    def forward(
        self, images: Tensor, properties: Tensor | None = None, *, lod: float = 0.0
    ) -> Tensor:
        """Scores images.

        Args:
            images: Shape (B, 3, H, H), about [-1, 1].
            properties: Scores, shape (B, P); None means all zero.
            lod: Level of detail while growing: H is halved floor(lod) times, and the fraction is
                the share of the next smaller input. 0 is the full size.

        Returns:
            Logits, shape (B, 1).
        """
        first, share = math.floor(lod), lod - math.floor(lod)
        side = self.image_px >> first
        check_shape(images, (None, 3, side, side), name="images")
        last = 2 * (self.num_blocks - 1)
        x = getattr(self, f"input{first}")(images)  # (B, C, H, H)
        for k in range(2 * first, last):
            x = getattr(self, f"layer{k}")(x)  # (B, C, 4, 4) at the end
            if share and k == 2 * first + 1:
                smaller = getattr(self, f"input{first + 1}")(F.avg_pool2d(images, 2))
                x = x.lerp(smaller, share)  # (B, C, H/2, H/2)
        x = getattr(self, f"layer{last}")(minibatch_deviation(x))  # (B, C, 4, 4)
        x = leaky(getattr(self, f"layer{last + 1}")(x.flatten(1)))  # (B, C)
        if self.num_properties:
            if properties is None:
                properties = x.new_zeros(x.shape[0], self.num_properties)
            check_shape(properties, (x.shape[0], self.num_properties), name="properties")
            x = torch.cat([x, properties.to(x.dtype)], dim=1)  # (B, C + P)
        return getattr(self, f"layer{last + 2}")(x).float()  # (B, 1)
