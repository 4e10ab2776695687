"""StyleGAN2 discriminator; tensor names follow StyleGAN2-ADA's official PyTorch files.

Axes: B batch, C channels, H image height, P properties.
Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020,
https://arxiv.org/abs/1912.04958, and "Training Generative Adversarial Networks with Limited Data",
2020, https://arxiv.org/abs/2006.06676.
"""

import math

from torch import Tensor, nn

from ohlora_lib.nets.layers import EqualDense, check_shape, leaky, minibatch_deviation
from ohlora_lib.nets.style_generator import count_blocks, feature_maps
from ohlora_lib.nets.stylegan2.generator import Mapping, check_full_size
from ohlora_lib.nets.stylegan2.layers import GAIN, Conv, add_filter

SKIP_GAIN = math.sqrt(1 / 2)  # of both paths through a block, before their sum


class Block(nn.Module):
    """Two convolutions with a skip around them, which halve the resolution."""

    def __init__(self, inputs: int, channels: int, clamp: float | None, *, first: bool) -> None:
        super().__init__()
        add_filter(self)
        self.first = first
        if first:
            self.fromrgb = Conv(3, inputs, 1, clamp=clamp)
        self.conv0 = Conv(inputs, inputs, 3, clamp=clamp)
        self.conv1 = Conv(inputs, channels, 3, down=True, gain=SKIP_GAIN, clamp=clamp)
        self.skip = Conv(inputs, channels, 1, down=True, linear=True, gain=SKIP_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (B, 3, H, H) or maps (B, C_in, H, H) to maps (B, C, H/2, H/2)."""
        x = self.fromrgb(x) if self.first else x
        return self.conv1(self.conv0(x)) + self.skip(x)


class Epilogue(nn.Module):
    """Minibatch deviation and the last layers, at 4 px."""

    def __init__(self, channels: int, outputs: int, group: int, clamp: float | None) -> None:
        super().__init__()
        self.group = group
        self.conv = Conv(channels + 1, channels, 3, clamp=clamp)
        self.fc = EqualDense(channels * 16, channels, bias_gain=GAIN)
        self.out = EqualDense(channels, outputs, gain=1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, 4, 4) to (B, outputs)."""
        x = self.conv(minibatch_deviation(x, self.group))  # (B, C, 4, 4)
        return self.out(leaky(self.fc(x.flatten(1))))


def project(x: Tensor, cmap: Tensor) -> Tensor:
    """Returns the products <x, cmap> / sqrt(C), (B, 1), of features and mapped scores, (B, C)."""
    return (x * cmap).sum(dim=1, keepdim=True) / math.sqrt(cmap.shape[1])


class Discriminator(nn.Module):
    """Scores images, high for real and low for generated.

    Args:
        image_px: Side H of the images, a power of two from 8 to 1024.
        c_dim: Number P of property scores (in official files: classes) in addition to the image;
            0 for none.
        channel_base: Channels at resolution r are min(channel_base / r, channel_max).
        channel_max: Maximum number of channels.
        conv_clamp: Limit of absolute activations; None for no limit.
        mbstd_group_size: Most images per group of the minibatch deviation.
        mapping_layers: Number of dense layers of the mapping of the scores, at least 1.

    Raises:
        ValueError: If `image_px` is not allowed.
    """

    def __init__(
        self,
        image_px: int,
        c_dim: int = 0,
        channel_base: int = 32768,
        channel_max: int = 512,
        conv_clamp: float | None = None,
        mbstd_group_size: int = 4,
        mapping_layers: int = 8,
    ) -> None:
        super().__init__()
        self.image_px, self.conv_clamp = image_px, conv_clamp
        self.c_dim = self.num_properties = c_dim  # as StyleGAN1's discriminator calls it
        self.channel_base, self.channel_max = channel_base, channel_max
        self.mbstd_group_size, self.mapping_layers = mbstd_group_size, mapping_layers
        self.num_blocks = count_blocks(image_px)
        for k in range(self.num_blocks - 1):
            px = image_px >> k
            widths = (feature_maps(side, channel_base, channel_max) for side in (px, px // 2))
            self.add_module(f"b{px}", Block(*widths, conv_clamp, first=k == 0))
        last = feature_maps(4, channel_base, channel_max)
        if c_dim:
            self.mapping = Mapping(0, c_dim, last, mapping_layers, keeps_mean=False)
        self.b4 = Epilogue(last, last if c_dim else 1, mbstd_group_size, conv_clamp)

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Prefixes of parameter names by layer group; only the largest block reads an image."""
        found = {}
        for k in range(self.num_blocks):
            px = self.image_px >> k
            layers = ("conv", "fc", "out") if px == 4 else ("conv0", "conv1", "skip")
            found[f"layers@{px}px"] = tuple(f"b{px}.{layer}." for layer in layers)
            found[f"input@{px}px"] = () if k else (f"b{px}.fromrgb.",)
        return found

    def forward(
        self, images: Tensor, properties: Tensor | None = None, *, lod: float = 0.0
    ) -> Tensor:
        """Maps images (B, 3, H, H), about [-1, 1], and scores (B, P) to logits (B, 1).

        `properties=None` means all zeros. `lod` must be 0: no size grows.
        """
        check_full_size(lod)
        check_shape(images, (None, 3, self.image_px, self.image_px), name="images")
        x = images
        for k in range(self.num_blocks - 1):
            x = getattr(self, f"b{self.image_px >> k}")(x)  # (B, C, 4, 4) at the end
        x = self.b4(x)  # (B, 1), with properties (B, C)
        if self.c_dim:
            if properties is None:
                properties = images.new_zeros(len(images), self.c_dim)
            check_shape(properties, (len(images), self.c_dim), name="properties")
            x = project(x, self.mapping(None, properties).w)  # (B, 1)
        return x.float()
