"""StyleGAN2 generator; tensor names follow StyleGAN2-ADA's official PyTorch files.

Axes: B batch, Z latent width, P properties, W style width, L style vectors, C channels, H height.
Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020,
https://arxiv.org/abs/1912.04958, and "Training Generative Adversarial Networks with Limited Data",
2020, https://arxiv.org/abs/2006.06676.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ohlora_lib.nets.layers import EqualDense, check_shape, leaky, pixel_norm
from ohlora_lib.nets.style_generator import (
    StyleGenerator,
    Styles,
    StyleSynthesis,
    Truncation,
    count_blocks,
    feature_maps,
)
from ohlora_lib.nets.stylegan2.layers import GAIN, StyledConv, ToRGB, add_filter, double

MAPPING_LR_MULTIPLIER = 0.01


class Mapping(nn.Module):
    """Maps a latent, property scores or both to a style vector; see `Generator` for `wide_dim`.

    `keeps_mean` adds the buffer `w_avg`. The discriminator's mapping has none, and a `z_dim` of 0.
    """

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        layers: int,
        wide_dim: int = 0,
        *,
        layer_features: int = 0,
        keeps_mean: bool = True,
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.num_layers, self.wide_dim = z_dim, c_dim, layers, wide_dim
        if c_dim:
            self.embed = EqualDense(c_dim, w_dim, gain=1.0)
        hidden = (layers - 1) * [layer_features or w_dim]
        widths = [z_dim + (w_dim if c_dim else 0), *hidden, w_dim]
        options = {"bias_gain": GAIN, "lr_multiplier": MAPPING_LR_MULTIPLIER}
        for k, (inputs, outputs) in enumerate(pairwise(widths)):
            self.add_module(f"fc{k}", EqualDense(inputs, outputs, gain=GAIN, **options))
        if wide_dim:
            self.fc_new0 = EqualDense(widths[-3], wide_dim, gain=GAIN, **options)
            self.fc_new1 = EqualDense(wide_dim, w_dim, gain=GAIN, **options)
        if keeps_mean:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z: Tensor | None, properties: Tensor | None = None) -> Styles:
        """Maps latents (B, Z) and scores (B, P; None means zero) to style vectors."""
        parts = []
        if self.z_dim:
            check_shape(z, (None, self.z_dim), name="z")
            parts.append(pixel_norm(z))
        if self.c_dim:
            if properties is None:
                properties = z.new_zeros(len(z), self.c_dim)
            rows = len(z) if self.z_dim else None
            check_shape(properties, (rows, self.c_dim), name="properties")
            parts.append(pixel_norm(self.embed(properties)))
        x = torch.cat(parts, dim=1)  # (B, Z + W)
        shared = self.num_layers - 2 * bool(self.wide_dim)
        for k in range(shared):
            x = leaky(getattr(self, f"fc{k}")(x))  # (B, W)
        if not self.wide_dim:
            return Styles(x)
        w1 = leaky(getattr(self, f"fc{shared}")(x))
        w1_ = leaky(getattr(self, f"fc{shared + 1}")(w1))
        w2 = leaky(self.fc_new0(x))
        w2_ = leaky(self.fc_new1(w2))
        return Styles(w1_ + w2_, w1, w2, w1_, w2_)


def check_full_size(lod: float) -> None:
    """Raises ValueError unless the level of detail is 0."""
    if lod:
        raise ValueError(f"the level of detail is {lod:g}, but StyleGAN2 is not grown; use 0")


class Block(nn.Module):
    """The layers of one resolution; the first block starts from a constant map."""

    def __init__(
        self, inputs: int, channels: int, image_px: int, w_dim: int, clamp: float | None
    ) -> None:
        super().__init__()
        add_filter(self)
        if inputs:
            self.conv0 = StyledConv(inputs, channels, image_px, w_dim, up=True, clamp=clamp)
        else:
            self.const = nn.Parameter(torch.randn(channels, image_px, image_px))
        self.conv1 = StyledConv(channels, channels, image_px, w_dim, clamp=clamp)
        self.torgb = ToRGB(channels, w_dim, clamp=clamp)


class Synthesis(StyleSynthesis):
    """Draws images from styles; the picture is a sum over all resolutions."""

    def __init__(
        self,
        image_px: int,
        w_dim: int,
        channel_base: int,
        channel_max: int,
        conv_clamp: float | None,
    ) -> None:
        super().__init__()
        self.num_blocks = count_blocks(image_px)
        self.widest_map, before = 0, 0  # elements of one image's widest feature map
        for k in range(self.num_blocks):
            px = 4 << k
            channels = feature_maps(px, channel_base, channel_max)
            self.add_module(f"b{px}", Block(before, channels, px, w_dim, conv_clamp))
            self.widest_map = max(self.widest_map, channels * px**2)
            before = channels

    def forward(self, wp: Tensor, noise: str, lod: float = 0.0) -> Tensor:
        """Draws images (B, 3, H, H) from the layers' styles wp (B, L, W); noise as in `Generator`.

        A block's last style vector is also its successor's first. `lod` must be 0: no size grows.
        """
        check_full_size(lod)
        x = self.b4.const.expand(len(wp), -1, -1, -1)  # (B, C, 4, 4)
        images = None
        for k in range(self.num_blocks):
            block = getattr(self, f"b{4 << k}")
            if k:
                x = block.conv0(x, wp[:, 2 * k - 1], noise)
            x = block.conv1(x, wp[:, 2 * k], noise)  # (B, C, h, h)
            colours = block.torgb(x, wp[:, 2 * k + 1])  # (B, 3, h, h)
            images = colours if images is None else double(images) + colours
        return images


class Generator(StyleGenerator):
    """StyleGAN2 generator.

    Args:
        image_px: Side H of the images, a power of two from 8 to 1024.
        z_dim: Width Z of the latent.
        c_dim: Number P of property scores (in official files: classes) in addition to the latent;
            0 for none.
        w_dim: Width W of the style vector.
        mapping_layers: Number of dense layers of the mapping, at least 1.
        channel_base: Channels at resolution r are min(channel_base / r, channel_max).
        channel_max: Maximum number of channels.
        conv_clamp: Limit of absolute activations, 256 in files trained in mixed precision;
            None for no limit.
        layer_features: Width of the mapping's hidden layers; 0 for W, as in most files.
        wide_dim: Width of the new branch beside the mapping's last two layers; 0 for none.

    Raises:
        ValueError: If `image_px` or `mapping_layers` is not allowed.
    """

    def __init__(
        self,
        image_px: int,
        z_dim: int = 512,
        c_dim: int = 0,
        w_dim: int = 512,
        mapping_layers: int = 8,
        channel_base: int = 32768,
        channel_max: int = 512,
        conv_clamp: float | None = None,
        layer_features: int = 0,
        wide_dim: int = 0,
    ) -> None:
        super().__init__()
        if mapping_layers < (least := 2 if wide_dim else 1):
            why = " to be split; recipe v8 does not split it" if wide_dim else ""
            raise ValueError(
                f"mapping_layers is {mapping_layers}; it must be at least {least}{why}"
            )
        self.image_px, self.z_dim, self.w_dim = image_px, z_dim, w_dim
        self.c_dim = self.num_properties = c_dim  # as StyleGAN1's generator calls it
        self.mapping_layers, self.conv_clamp = mapping_layers, conv_clamp
        self.channel_base, self.channel_max, self.wide_dim = channel_base, channel_max, wide_dim
        self.layer_features = layer_features
        sizes = z_dim, c_dim, w_dim, mapping_layers, wide_dim
        self.mapping = Mapping(*sizes, layer_features=layer_features)
        self.synthesis = Synthesis(image_px, w_dim, channel_base, channel_max, conv_clamp)

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Prefixes of parameter names by layer group."""
        found: dict[str, tuple[str, ...]] = {"mapping": ("mapping.",)}
        for k in range(self.synthesis.num_blocks):
            block = f"synthesis.b{4 << k}."
            layers = ("conv0." if k else "const", "conv1.")
            found[f"layers@{4 << k}px"] = tuple(block + layer for layer in layers)
            found[f"output@{4 << k}px"] = (f"{block}torgb.",)
        return found

    def draw_properties(self, count: int, random: torch.Generator) -> Tensor:
        """Draws one-hot labels, (count, P), as P is a number of classes in official files."""
        classes = torch.randint(self.c_dim, (count,), generator=random, device=random.device)
        return F.one_hot(classes, self.c_dim).float()

    def labels(self, count: int, random: torch.Generator) -> Tensor | None:
        """Draws one-hot labels if the network has classes: it was never trained with zeros."""
        return self.draw_properties(count, random) if self.c_dim else None

    @property
    def truncation(self) -> Truncation:
        """Truncation toward `mapping.w_avg`, which it shares."""
        return Truncation(self.mapping.w_avg)
