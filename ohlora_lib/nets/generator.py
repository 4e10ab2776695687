"""StyleGAN 1 generator, with a plain or a split mapping network; names as in GenForce's files.

Axes: B batch, Z latent width, P properties, W style width, L synthesis layers, H image height.
Source: Karras et al., "A Style-Based Generator Architecture for GANs", 2019, https://arxiv.org/abs/1812.04948;
we differ: the latent may be joined by property scores, and the split mapping runs its last two
dense layers as two branches, a narrow (pretrained) and a wide (new) one, which are summed.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ohlora_lib.nets.layers import (
    Blur,
    EqualDense,
    Noise,
    Style,
    check_shape,
    leaky,
    pixel_norm,
    smooth_kernel,
)

EMBEDDING_DIM = 16  # width of the embedded property scores
MAPPING_LAYERS = 8
MAPPING_LR_MULTIPLIER = 0.01
W_AVG_STEP = 0.005  # share of a training batch's mean w that enters the running mean
FUSED_FROM_PX = 128  # from here on, upsampling and convolution are one kernel
NEW_BRANCH_STD = 0.15  # at the usual 1 / lr_multiplier the first images stop looking like faces


def check_resolution(image_px: int) -> None:
    """Raises ValueError unless the resolution is a power of two from 8 to 1024."""
    if image_px not in {2**k for k in range(3, 11)}:
        raise ValueError(f"image_px is {image_px}; it must be a power of two from 8 to 1024")


def feature_maps(image_px: int, fmaps_base: int, fmaps_max: int) -> int:
    """Number of channels at a resolution."""
    return max(1, min(fmaps_base // image_px, fmaps_max))


@dataclass(frozen=True)
class Styles:
    """Style vectors and, for a split mapping, the four vectors inside its branches (else None).

    `w1` and `w1_` are the narrow branch after its first and second layer, `w2` and `w2_` the wide.
    """

    w: Tensor  # (B, W)
    w1: Tensor | None = None  # (B, W)
    w2: Tensor | None = None  # (B, wide)
    w1_: Tensor | None = None  # (B, W)
    w2_: Tensor | None = None  # (B, W)


class Mapping(nn.Module):
    """Maps a latent and its property scores to one style vector.

    Args:
        z_dim: Width Z of the latent.
        w_dim: Width W of the style vector and of every dense layer.
        num_properties: Number P of scores; 0 leaves them out. Their order is the caller's.
        wide_dim: Width of the new branch of a split mapping; 0 for a plain mapping.

    Raises:
        ValueError: If a width is negative, or z_dim or w_dim is 0.
    """

    def __init__(
        self, z_dim: int = 512, w_dim: int = 512, num_properties: int = 7, wide_dim: int = 0
    ) -> None:
        super().__init__()
        if min(z_dim, w_dim) < 1 or min(num_properties, wide_dim) < 0:
            raise ValueError(
                f"widths are z_dim {z_dim}, w_dim {w_dim}, num_properties {num_properties}, "
                f"wide_dim {wide_dim}; the first two must be positive, the others not negative"
            )
        self.z_dim, self.w_dim = z_dim, w_dim
        self.num_properties, self.wide_dim = num_properties, wide_dim
        in_dim = z_dim
        if num_properties:
            self.label_weight = nn.Parameter(torch.randn(num_properties, EMBEDDING_DIM))
            in_dim += EMBEDDING_DIM
        for k in range(MAPPING_LAYERS):
            self.add_module(f"dense{k}", _mapping_dense(in_dim if k == 0 else w_dim, w_dim))
        if wide_dim:
            self.dense_new0 = _mapping_dense(w_dim, wide_dim)
            self.dense_new1 = _mapping_dense(wide_dim, w_dim)

    @torch.no_grad()
    def reset_new_branch(self, generator: torch.Generator) -> None:
        """Draws the wide branch as published: weights and biases N(0, 0.15^2) as stored."""
        for layer in (self.dense_new0, self.dense_new1):
            for parameter in (layer.weight, layer.bias):
                draw = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(draw * NEW_BRANCH_STD)

    def forward(self, z: Tensor, properties: Tensor | None = None) -> Styles:
        """Maps to style space.

        Args:
            z: Latents, shape (B, Z), standard normal.
            properties: Standardised scores, shape (B, P); None means all zero.
        """
        check_shape(z, (None, self.z_dim), name="z")
        x = z
        if self.num_properties:
            if properties is None:
                properties = z.new_zeros(z.shape[0], self.num_properties)
            check_shape(properties, (z.shape[0], self.num_properties), name="properties")
            x = torch.cat([z, properties @ self.label_weight], dim=1)  # (B, Z + 16)
        x = pixel_norm(x)
        for k in range(MAPPING_LAYERS - 2):
            x = leaky(getattr(self, f"dense{k}")(x))  # (B, W)
        w1 = leaky(self.dense6(x))  # (B, W)
        w1_out = leaky(self.dense7(w1))  # (B, W)
        if not self.wide_dim:
            return Styles(w=w1_out)
        w2 = leaky(self.dense_new0(x))  # (B, wide)
        w2_out = leaky(self.dense_new1(w2))  # (B, W)
        return Styles(w=w1_out + w2_out, w1=w1, w2=w2, w1_=w1_out, w2_=w2_out)


def _mapping_dense(in_features: int, out_features: int) -> EqualDense:
    return EqualDense(in_features, out_features, lr_multiplier=MAPPING_LR_MULTIPLIER)


class Truncation(nn.Module):
    """Holds the running mean of w, and pulls styles of the first layers toward it."""

    def __init__(self, w_dim: int) -> None:
        super().__init__()
        self.register_buffer("w_avg", torch.zeros(w_dim))

    @torch.no_grad()
    def update(self, w: Tensor) -> None:
        """Moves the running mean by 0.005 of the mean of w, shape (B, W)."""
        self.w_avg.lerp_(w.detach().to(self.w_avg.dtype).mean(dim=0), W_AVG_STEP)

    def forward(self, w: Tensor, num_layers: int, psi: float, psi_layers: int) -> Tensor:
        """Repeats w (B, W) for each layer to (B, L, W); the first `psi_layers` are truncated."""
        wp = w.unsqueeze(1).expand(-1, num_layers, -1)  # (B, L, W)
        if psi == 1.0 or psi_layers == 0:
            return wp
        pull = torch.ones(num_layers, 1, device=w.device)
        pull[:psi_layers] = psi
        return self.w_avg + (wp - self.w_avg) * pull


class SynthesisLayer(nn.Module):
    """One styled layer: constant or convolution, blur after upsampling, bias, noise, style."""

    def __init__(
        self, in_channels: int, channels: int, image_px: int, w_dim: int, *, kind: str
    ) -> None:
        super().__init__()
        self.kind, self.image_px = kind, image_px  # kind: const, conv or up
        self.bias = nn.Parameter(torch.zeros(channels))
        if kind == "const":
            self.const = nn.Parameter(torch.ones(1, channels, image_px, image_px))
        else:
            self.weight = nn.Parameter(torch.randn(channels, in_channels, 3, 3))
            self.weight_scale = math.sqrt(2) / math.sqrt(in_channels * 9)
        self.apply_noise = Noise(channels, image_px)
        self.style = Style(w_dim, channels)
        if kind == "up":
            self.blur = Blur(channels)
        self.held: Tensor | None = None  # the kernel, while it is held

    def kernel(self) -> Tensor:
        """What x is convolved with: (C, C_in, 3, 3), of an up layer (C_in, C, 4, 4)."""
        weight = self.weight * self.weight_scale
        if self.kind == "conv":
            return weight
        # Upsampling and convolution as one transposed convolution, which mirrors its kernel.
        # Public weights expect that from 128 px on; below, mirroring back gives the same sums.
        weight = weight if self.image_px >= FUSED_FROM_PX else weight.flip(2, 3)
        return smooth_kernel(weight).transpose(0, 1)

    def _convolve(self, x: Tensor) -> Tensor:
        kernel = self.kernel() if self.held is None else self.held
        if self.kind == "conv":
            return F.conv2d(x, kernel, self.bias, padding=1)
        return self.blur(F.conv_transpose2d(x, kernel, stride=2, padding=1), self.bias)

    def forward(self, x: Tensor | None, w: Tensor, noise: str) -> Tensor:
        """Maps (B, C_in, H, W) to (B, C, image_px, image_px); a const layer ignores x."""
        if self.kind == "const":
            x = (self.const + self.bias.view(-1, 1, 1)).repeat(len(w), 1, 1, 1).to(w.dtype)
        else:
            x = self._convolve(x)  # with its bias
        x = leaky(self.apply_noise(x, noise, inplace=True), inplace=True)  # x is nobody else's
        return self.style(x, w)


class OutputLayer(nn.Module):
    """1x1 convolution from features to RGB, no activation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.weight_scale = 1 / math.sqrt(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, 3, H, W)."""
        return F.conv2d(x, self.weight * self.weight_scale, self.bias)


class Synthesis(nn.Module):
    """Draws images from style vectors, from 4x4 up; full size uses only the last output layer."""

    def __init__(self, image_px: int, w_dim: int, fmaps_base: int, fmaps_max: int) -> None:
        super().__init__()
        self.register_buffer("lod", torch.zeros(()))
        self.num_blocks = int(math.log2(image_px)) - 1
        in_channels = 0
        for k in range(self.num_blocks):
            px = 4 * 2**k
            channels = feature_maps(px, fmaps_base, fmaps_max)
            first = SynthesisLayer(in_channels, channels, px, w_dim, kind="up" if k else "const")
            self.add_module(f"layer{2 * k}", first)
            second = SynthesisLayer(channels, channels, px, w_dim, kind="conv")
            self.add_module(f"layer{2 * k + 1}", second)
            self.add_module(f"output{k}", OutputLayer(channels))
            in_channels = channels

    @contextlib.contextmanager
    @torch.no_grad()
    def hold_kernels(self, dtype: torch.dtype | None = None) -> Iterator[None]:
        """Makes kernels once for all images that are drawn within, instead of at every call.

        They are channels_last, and so all feature maps will be. Within, weights may not change
        and get no gradient, and the network may not be copied.
        """
        layers = [layer for layer in self.modules() if isinstance(layer, SynthesisLayer)]
        try:
            for layer in layers:
                if layer.kind != "const":
                    kernel = layer.kernel().contiguous(memory_format=torch.channels_last)
                    layer.held = kernel if dtype is None else kernel.to(dtype)
            yield
        finally:
            for layer in layers:
                layer.held = None

    def forward(self, wp: Tensor, noise: str, lod: float = 0.0) -> Tensor:
        """Draws images.

        Args:
            wp: Styles of the layers, shape (B, L, W).
            noise: `fixed` or `random`.
            lod: Level of detail while growing: H is halved floor(lod) times, and the fraction is
                the share of the next smaller output. 0 is the full size.

        Returns:
            Images, shape (B, 3, H, H).
        """
        last = self.num_blocks - 1 - math.floor(lod)
        share = lod - math.floor(lod)
        x, smaller = None, None
        for k in range(last + 1):
            if share and k == last:
                smaller = getattr(self, f"output{k - 1}")(x)
            x = getattr(self, f"layer{2 * k}")(x, wp[:, 2 * k], noise)
            x = getattr(self, f"layer{2 * k + 1}")(x, wp[:, 2 * k + 1], noise)
        images = getattr(self, f"output{last}")(x)  # (B, 3, H, H)
        if smaller is None:
            return images
        return images.lerp(F.interpolate(smaller, scale_factor=2.0), share)


class Generator(nn.Module):
    """StyleGAN 1 generator.

    Args:
        image_px: Side H of the images, a power of two from 8 to 1024.
        z_dim: Width Z of the latent.
        w_dim: Width W of the style vector.
        num_properties: Number P of property scores beside the latent; 0 for none.
        fmaps_base: Channels at resolution r are min(fmaps_base / r, fmaps_max).
        fmaps_max: Most channels anywhere.
        wide_dim: Width of the new branch of a split mapping (published: 2048); 0 for plain.

    Raises:
        ValueError: If a size is not allowed.
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
        check_resolution(image_px)
        if min(fmaps_base, fmaps_max) < 1:
            raise ValueError(
                f"fmaps_base is {fmaps_base} and fmaps_max {fmaps_max}; both must be positive"
            )
        self.image_px, self.z_dim, self.w_dim = image_px, z_dim, w_dim
        self.num_properties, self.wide_dim = num_properties, wide_dim
        self.fmaps_base, self.fmaps_max = fmaps_base, fmaps_max
        self.mapping = Mapping(z_dim, w_dim, num_properties, wide_dim)
        self.truncation = Truncation(w_dim)
        self.synthesis = Synthesis(image_px, w_dim, fmaps_base, fmaps_max)

    @property
    def widest_map(self) -> int:
        """Numbers in the widest feature map of an image."""
        sides = [4 * 2**k for k in range(self.synthesis.num_blocks)]
        return max(feature_maps(px, self.fmaps_base, self.fmaps_max) * px**2 for px in sides)

    def styles(self, z: Tensor, properties: Tensor | None = None) -> Styles:
        """Style vectors of latents (B, Z) and scores (B, P); in training, w_avg follows them."""
        styles = self.mapping(z, properties)
        if self.training:
            self.truncation.update(styles.w)
        return styles

    def forward(
        self,
        z: Tensor,
        properties: Tensor | None = None,
        *,
        psi: float = 1.0,
        psi_layers: int = 0,
        noise: str = "fixed",
    ) -> Tensor:
        """Draws images.

        Args:
            z: Latents, shape (B, Z), standard normal.
            properties: Standardised scores, shape (B, P); None means all zero.
            psi: Truncation: 1 keeps the styles, 0 gives the mean face.
            psi_layers: How many of the first layers are truncated.
            noise: `fixed` uses the stored planes, `random` draws new ones.

        Returns:
            Images, shape (B, 3, H, H), about [-1, 1].
        """
        if noise not in {"fixed", "random"}:
            raise ValueError(f"noise is {noise!r}; it must be 'fixed' or 'random'")
        w = self.styles(z, properties).w
        wp = self.truncation(w, 2 * self.synthesis.num_blocks, psi, psi_layers)
        return self.synthesis(wp, noise)
