"""StyleGAN1 discriminator; parameter names follow GenForce's files.

Axes: B batch, C channels, H image height, P properties.
Source: Karras et al., "A Style-Based Generator Architecture for GANs", 2019, https://arxiv.org/abs/1812.04948;
we differ: property scores may be appended to the features before the last dense layer.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ohlora_lib.nets.layers import EqualConv, EqualDense, check_shape, leaky, minibatch_deviation
from ohlora_lib.nets.style_generator import count_blocks, feature_maps


class Discriminator(nn.Module):
    """Scores images, high for real and low for generated; arguments are those of `Generator`."""

    def __init__(
        self,
        image_px: int = 256,
        *,
        num_properties: int = 7,
        fmaps_base: int = 16384,
        fmaps_max: int = 512,
    ) -> None:
        super().__init__()
        self.image_px, self.num_properties = image_px, num_properties
        self.fmaps_base, self.fmaps_max = fmaps_base, fmaps_max
        self.register_buffer("lod", torch.zeros(()))
        self.num_blocks = count_blocks(image_px)
        last = 2 * (self.num_blocks - 1)
        for k in range(self.num_blocks):
            channels, half = (
                feature_maps(image_px // 2**n, fmaps_base, fmaps_max) for n in (k, k + 1)
            )
            self.add_module(f"input{k}", EqualConv(3, channels, 1))
            if 2 * k < last:
                self.add_module(f"layer{2 * k}", EqualConv(channels, channels, 3))
                self.add_module(f"layer{2 * k + 1}", EqualConv(channels, half, 3, down=True))
        self.add_module(f"layer{last}", EqualConv(channels + 1, channels, 3))
        self.add_module(f"layer{last + 1}", EqualDense(channels * 16, half))
        self.add_module(f"layer{last + 2}", EqualDense(half + num_properties, 1, gain=1.0))

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Prefixes of parameter names by layer group."""
        found = {}
        for k in range(self.num_blocks):
            px = self.image_px >> k
            count = 3 if px == 4 else 2  # at 4 px: convolution, dense, output dense
            found[f"layers@{px}px"] = tuple(f"layer{2 * k + i}." for i in range(count))
            found[f"input@{px}px"] = (f"input{k}.",)
        return found

    def forward(
        self, images: Tensor, properties: Tensor | None = None, *, lod: float = 0.0
    ) -> Tensor:
        """Maps images (B, 3, H, H), about [-1, 1], and scores (B, P) to logits (B, 1).

        `scores=None` means all zeros. `lod` is the level of detail, as in `Synthesis.forward`.
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
