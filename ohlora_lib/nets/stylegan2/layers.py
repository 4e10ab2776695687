"""Building blocks of StyleGAN2: modulated and residual convolutions with the filter [1, 3, 3, 1].

Axes: B batch, W style width, C channels, H height.
Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020,
https://arxiv.org/abs/1912.04958. We differ in how the same numbers are computed: modulation scales
a convolution's input and demodulation its output, so that all images share one kernel. On a CPU,
one kernel per image takes seven times as long at 8 px and about as long at 256 px.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ohlora_lib.nets.fast import convolve
from ohlora_lib.nets.layers import Blur, EqualConv, EqualDense, leaky, noise_planes

GAIN = math.sqrt(2)  # of every leaky ReLU
TAPS = (1, 3, 3, 1)  # of the filter before halving and after doubling
UP_GAIN = 4.0  # of the filter after doubling, which puts three zeros beside each pixel
DEMODULATION_EPS = 1e-8  # added to a kernel's sum of squares


def fixed_filter() -> Tensor:
    """Returns the filter of all doublings and halvings, (4, 4)."""
    line = torch.tensor(TAPS) / sum(TAPS)
    return torch.outer(line, line)


def add_filter(layer: nn.Module) -> None:
    """Adds the buffer `resample_filter`, (4, 4), which official files store with every layer.

    The layers don't read it: each has its own form of the same filter. Loading a file with another
    filter raises ValueError.
    """
    layer.register_buffer("resample_filter", fixed_filter())
    layer.register_load_state_dict_post_hook(_check_filter)


def _check_filter(layer: nn.Module, _: object) -> None:
    line = layer.resample_filter.sum(0) * sum(TAPS)  # (4,)
    if not line.is_meta and line.tolist() != [*TAPS]:
        raise ValueError(
            f"resample_filter is {line.tolist()}; only {[*TAPS]} is supported. Use a network "
            f"trained with StyleGAN2's own filter."
        )


def clamped(x: Tensor, limit: float | None) -> Tensor:
    """Limits `x` to [-limit, limit]; None means no limit."""
    return x if limit is None else x.clamp(-limit, limit)


def demodulation(style: Tensor, power: Tensor) -> Tensor:
    """Returns 1 / norm of each modulated kernel, (B, C), from styles (B, C_in) and `power`."""
    return (style.square() @ power.T + DEMODULATION_EPS).rsqrt()


def activated(x: Tensor, factor: Tensor, noise: Tensor, strength: Tensor, bias: Tensor) -> Tensor:
    """Returns the leaky ReLU of x (B, C, H, W) * factor (B, C) + noise * strength () + bias (C,).

    `noise` has one plane or B; the result is channels_last. On a CPU, operations that repeat a
    number for each channel or pixel take up to eight times as long: here a matrix product repeats
    the noise, and `factor` stands beside each row of pixels.
    """
    (height, width), rows = x.shape[2:], x.permute(0, 2, 3, 1).flatten(2)  # (B, H, W * C)
    planes = noise.reshape(-1, height, width, 1)
    shift = F.linear(planes, strength.expand(len(bias), 1), bias)  # (B or 1, H, W, C)
    factor = factor.to(x.dtype).repeat(1, width)[:, None]  # (B, 1, W * C)
    rows = leaky(torch.addcmul(shift.to(x.dtype).flatten(2), rows, factor), inplace=True)
    return rows.unflatten(2, (width, -1)).permute(0, 3, 1, 2)  # (B, C, H, W)


class StyledConv(nn.Module):
    """A 3x3 convolution modulated by a style, then noise, bias and leaky ReLU.

    `up` doubles the resolution by a transposed convolution, followed by the filter.
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        image_px: int,
        w_dim: int,
        *,
        up: bool = False,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.up, self.clamp = up, clamp
        self.affine = _affine(w_dim, inputs)
        self.weight = nn.Parameter(torch.randn(channels, inputs, 3, 3))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("noise_const", torch.randn(image_px, image_px))
        add_filter(self)
        if up:
            self.blur = Blur(channels, TAPS, gain=UP_GAIN, stored=False)
        self.held: tuple[Tensor, Tensor] | None = None  # `kernels()`, inside `hold_kernels`

    def kernels(self) -> tuple[Tensor, Tensor]:
        """Returns the kernel, (C, C_in, 3, 3), and its sum of squares over pixels, (C, C_in).

        For `up`, the kernel is (C_in, C, 3, 3).
        """
        if self.held is not None:
            return self.held
        power = self.weight.square().sum((2, 3))  # (C, C_in)
        return self.weight.transpose(0, 1) if self.up else self.weight, power

    def hold(self, dtype: torch.dtype | None) -> None:
        """Keeps the kernel, channels_last, and its power."""
        kernel, power = self.kernels()
        self.held = kernel.to(dtype=dtype, memory_format=torch.channels_last), power

    def forward(self, x: Tensor, w: Tensor, noise: str) -> Tensor:
        """Maps (B, C_in, h, h) and styles (B, W) to (B, C, H, H)."""
        kernel, power = self.kernels()
        style = self.affine(w)  # (B, C_in)
        factor = demodulation(style, power) * GAIN  # (B, C)
        x = x * style[..., None, None].to(x.dtype)
        if self.up:
            x = self.blur(F.conv_transpose2d(x, kernel, stride=2))
        else:
            x = F.conv2d(x, kernel, padding=1)  # (B, C, H, H)
        planes = noise_planes(x, self.noise_const, noise)
        x = activated(x, factor, planes, self.noise_strength * GAIN, self.bias * GAIN)
        return clamped(x, self.clamp)


class ToRGB(nn.Module):
    """A 1x1 convolution to colours, modulated by a style but not demodulated."""

    def __init__(self, inputs: int, w_dim: int, *, clamp: float | None = None) -> None:
        super().__init__()
        self.clamp, self.style_scale = clamp, 1 / math.sqrt(inputs)
        self.affine = _affine(w_dim, inputs)
        self.weight = nn.Parameter(torch.randn(3, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Maps (B, C, H, H) and styles (B, W) to colours, (B, 3, H, H), in float32 at least."""
        style = self.affine(w) * self.style_scale  # (B, C)
        kernel = self.weight.flatten(1) * style[:, None]  # (B, 3, C)
        y = torch.matmul(kernel.to(x.dtype), x.flatten(2))  # (B, 3, H * H)
        y = y.to(torch.promote_types(y.dtype, torch.float32)) + self.bias[:, None]
        return clamped(y.unflatten(2, x.shape[2:]), self.clamp)


def _affine(w_dim: int, channels: int) -> EqualDense:
    """Creates the layer that computes a scale per channel from a style; the bias starts at 1."""
    layer = EqualDense(w_dim, channels, gain=1.0)
    nn.init.ones_(layer.bias)
    return layer


def double(images: Tensor) -> Tensor:
    """Doubles images (B, 3, H, H) with the filter [1, 3, 3, 1].

    That is bilinear interpolation, with zeros beyond the border.
    """
    padded = F.pad(images, (1, 1, 1, 1))
    larger = F.interpolate(padded, scale_factor=2.0, mode="bilinear")  # (B, 3, 2 H + 4, 2 H + 4)
    return larger[:, :, 2:-2, 2:-2]


class Conv(EqualConv):
    """Equalised convolution and leaky ReLU, both times `gain`; `linear` has neither ReLU nor bias.

    `down` filters the input and halves the resolution.
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        kernel: int,
        *,
        down: bool = False,
        linear: bool = False,
        gain: float = 1.0,
        clamp: float | None = None,
    ) -> None:
        super().__init__(inputs, channels, kernel, linear=linear)
        self.weight_scale, self.bias_scale = self.weight_scale * gain, GAIN * gain
        self.down, self.clamp = down, None if clamp is None else clamp * gain
        add_filter(self)
        if linear:
            self.bias = None
        if down:
            self.blur = Blur(inputs, TAPS, padding=self.padding + 1, stored=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C_in, H, H) to (B, C, H, H), or to (B, C, H/2, H/2) with `down`."""
        weight = self.weight * self.weight_scale
        bias = None if self.linear else self.bias * self.bias_scale
        if self.down:
            x = convolve(self.blur(x), weight, bias, stride=2)
        else:
            x = convolve(x, weight, bias, padding=self.padding)
        return x if self.linear else clamped(leaky(x), self.clamp)
