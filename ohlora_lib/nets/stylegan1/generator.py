"""StyleGAN1 generator with a plain or split mapping; parameter names follow GenForce's files.

Axes: B batch, Z latent width, P properties, W style width, L synthesis layers, H image height.
Source: Karras et al., "A Style-Based Generator Architecture for GANs", 2019, https://arxiv.org/abs/1812.04948;
we differ: embedded property scores may be appended to the latent, and the split mapping runs its
last two dense layers as two branches, a narrow (pretrained) and a wide (new) one, which it sums.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ohlora_lib.nets.layers import (
    Blur,
    EqualConv,
    EqualDense,
    Noise,
    Style,
    check_shape,
    leaky,
    pixel_norm,
    smooth_kernel,
)
from ohlora_lib.nets.style_generator import (
    StyleGenerator,
    Styles,
    StyleSynthesis,
    Truncation,
    count_blocks,
    feature_maps,
)

EMBEDDING_DIM = 16  # width of the embedded property scores
MAPPING_LAYERS = 8
MAPPING_LR_MULTIPLIER = 0.01
FUSED_FROM_PX = 128  # from here on, public weights expect upsampling fused with the convolution


class Mapping(nn.Module):
    """Maps a latent and its property scores to one style vector; see `Generator` for arguments."""

    def __init__(self, z_dim: int, w_dim: int, num_properties: int, wide_dim: int) -> None:
        super().__init__()
        self.z_dim, self.num_properties, self.wide_dim = z_dim, num_properties, wide_dim
        widths = [z_dim] + MAPPING_LAYERS * [w_dim]
        if num_properties:
            self.label_weight = nn.Parameter(torch.randn(num_properties, EMBEDDING_DIM))
            widths[0] += EMBEDDING_DIM
        layers = {f"dense{k}": widths[k : k + 2] for k in range(MAPPING_LAYERS)}
        if wide_dim:
            layers |= {"dense_new0": [w_dim, wide_dim], "dense_new1": [wide_dim, w_dim]}
        for name, (inputs, outputs) in layers.items():
            layer = EqualDense(inputs, outputs, lr_multiplier=MAPPING_LR_MULTIPLIER)
            self.add_module(name, layer)

    def forward(self, z: Tensor, properties: Tensor | None = None) -> Styles:
        """Maps latents (B, Z) and scores (B, P; None means zero) to style space."""
        check_shape(z, (None, self.z_dim), name="z")
        if self.num_properties:
            if properties is None:
                properties = z.new_zeros(z.shape[0], self.num_properties)
            check_shape(properties, (z.shape[0], self.num_properties), name="properties")
            z = torch.cat([z, properties @ self.label_weight], dim=1)  # (B, Z + 16)
        x = pixel_norm(z)
        for k in range(MAPPING_LAYERS - 2):
            x = leaky(getattr(self, f"dense{k}")(x))  # (B, W)
        w1 = leaky(self.dense6(x))
        w1_ = leaky(self.dense7(w1))
        if not self.wide_dim:
            return Styles(w1_)
        w2 = leaky(self.dense_new0(x))
        w2_ = leaky(self.dense_new1(w2))
        return Styles(w1_ + w2_, w1, w2, w1_, w2_)


class SynthesisLayer(nn.Module):
    """One styled layer: constant or convolution, blur after upsampling, bias, noise, style."""

    def __init__(self, before: int, channels: int, image_px: int, w_dim: int, kind: str) -> None:
        super().__init__()
        self.kind, self.image_px = kind, image_px  # kind: const, conv or up
        self.bias = nn.Parameter(torch.zeros(channels))
        if kind == "const":
            self.const = nn.Parameter(torch.ones(1, channels, image_px, image_px))
        else:
            self.weight = nn.Parameter(torch.randn(channels, before, 3, 3))
            self.weight_scale = math.sqrt(2) / math.sqrt(before * 9)
        self.apply_noise = Noise(channels, image_px)
        self.style = Style(w_dim, channels)
        if kind == "up":
            self.blur = Blur(channels)
        self.held: Tensor | None = None  # the kernel, inside `hold_kernels`

    def kernel(self) -> Tensor:
        """Returns the convolution kernel: (C, C_in, 3, 3), for an up layer (C_in, C, 4, 4)."""
        if self.held is not None:
            return self.held
        weight = self.weight * self.weight_scale
        if self.kind == "conv":
            return weight
        # Upsampling and convolution as one transposed convolution, which mirrors its kernel.
        # Public weights expect that from 128 px on; at smaller sizes, the flip undoes it.
        weight = weight if self.image_px >= FUSED_FROM_PX else weight.flip(2, 3)
        return smooth_kernel(weight).transpose(0, 1)

    def hold(self, dtype: torch.dtype | None) -> None:
        """Keeps the kernel, channels_last; a const layer has none."""
        if self.kind != "const":
            self.held = self.kernel().to(dtype=dtype, memory_format=torch.channels_last)

    def forward(self, x: Tensor | None, w: Tensor, noise: str) -> Tensor:
        """Maps (B, C_in, H, W) to (B, C, image_px, image_px); a const layer ignores x."""
        if self.kind == "const":
            x = (self.const + self.bias.view(-1, 1, 1)).repeat(len(w), 1, 1, 1).to(w.dtype)
        elif self.kind == "conv":
            x = F.conv2d(x, self.kernel(), self.bias, padding=1)
        else:
            x = self.blur(F.conv_transpose2d(x, self.kernel(), stride=2, padding=1), self.bias)
        return self.style(leaky(self.apply_noise(x, noise), inplace=True), w)


class Synthesis(StyleSynthesis):
    """Draws images from styles, from 4x4 up; at full size only the last output layer is used."""

    def __init__(self, image_px: int, w_dim: int, fmaps_base: int, fmaps_max: int) -> None:
        super().__init__()
        self.register_buffer("lod", torch.zeros(()))
        self.num_blocks = count_blocks(image_px)
        self.widest_map, before = 0, 0  # elements of one image's widest feature map
        for k in range(self.num_blocks):
            px = 4 * 2**k
            channels = feature_maps(px, fmaps_base, fmaps_max)
            for n, kind in ((2 * k, "up" if k else "const"), (2 * k + 1, "conv")):
                self.add_module(f"layer{n}", SynthesisLayer(before, channels, px, w_dim, kind))
                before = channels
            self.add_module(f"output{k}", EqualConv(channels, 3, 1, linear=True))
            self.widest_map = max(self.widest_map, channels * px**2)

    def forward(self, wp: Tensor, noise: str, lod: float = 0.0) -> Tensor:
        """Draws images (B, 3, H, H) from the layers' styles wp (B, L, W); noise as in `Generator`.

        `lod` is the level of detail while growing: H is halved floor(lod) times, and the fraction
        is the weight of the next smaller output. 0 means full size.
        """
        last, share, x = self.num_blocks - 1 - math.floor(lod), lod - math.floor(lod), None
        for k in range(last + 1):
            before = x
            for n in (2 * k, 2 * k + 1):
                x = getattr(self, f"layer{n}")(x, wp[:, n], noise)
        images = getattr(self, f"output{last}")(x)  # (B, 3, H, H)
        if not share:
            return images
        smaller = getattr(self, f"output{last - 1}")(before)  # (B, 3, H / 2, H / 2)
        return images.lerp(F.interpolate(smaller, scale_factor=2.0), share)


class Generator(StyleGenerator):
    """StyleGAN1 generator.

    Args:
        image_px: Side H of the images, a power of two from 8 to 1024.
        z_dim: Width Z of the latent.
        w_dim: Width W of the style vector and of the mapping's dense layers.
        num_properties: Number P of property scores in addition to the latent; 0 for none. The
            caller chooses their order.
        fmaps_base: Channels at resolution r are min(fmaps_base / r, fmaps_max).
        fmaps_max: Maximum number of channels.
        wide_dim: Width of the new branch of a split mapping (published: 2048); 0 for plain.

    Raises:
        ValueError: If `image_px` is not allowed.
    """

    def __init__(
        self,
        image_px: int = 256,
        *,
        z_dim: int = 512,
        w_dim: int = 512,
        num_properties: int = 7,
        fmaps_base: int = 16384,
        fmaps_max: int = 512,
        wide_dim: int = 0,
    ) -> None:
        super().__init__()
        self.image_px, self.z_dim, self.w_dim = image_px, z_dim, w_dim
        self.num_properties, self.wide_dim = num_properties, wide_dim
        self.fmaps_base, self.fmaps_max = fmaps_base, fmaps_max
        self.mapping = Mapping(z_dim, w_dim, num_properties, wide_dim)
        self.truncation = Truncation(torch.zeros(w_dim))
        self.synthesis = Synthesis(image_px, w_dim, fmaps_base, fmaps_max)

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Prefixes of parameter names by layer group."""
        found: dict[str, tuple[str, ...]] = {"mapping": ("mapping.",)}
        for k in range(self.synthesis.num_blocks):
            layers = tuple(f"synthesis.layer{2 * k + i}." for i in (0, 1))
            found |= {
                f"layers@{4 << k}px": layers,
                f"output@{4 << k}px": (f"synthesis.output{k}.",),
            }
        return found
