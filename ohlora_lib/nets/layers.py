"""Building blocks of StyleGAN1 and 2: equalised layers, blur, noise, styles, minibatch deviation.

Axes: B batch, C channels, H height, W width, D style width.
Source: Karras et al., "Progressive Growing of GANs", 2018, https://arxiv.org/abs/1710.10196, and
"A Style-Based Generator Architecture for GANs", 2019, https://arxiv.org/abs/1812.04948.
Every layer follows the dtype of its input, so the whole network runs under `torch.autocast`;
statistics (instance norm, minibatch deviation) are always summed in float32.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ohlora_lib.nets.fast import convolve, fused_style

MOST_IN_GROUP = 16  # images per group of the minibatch deviation


def check_shape(x: Tensor, shape: tuple[int | None, ...], *, name: str) -> None:
    """Raises ValueError unless `x` has the shape; None allows any length."""
    sizes = x.shape if x.dim() == len(shape) else [-1] * len(shape)
    if any(wanted not in {None, size} for wanted, size in zip(shape, sizes, strict=True)):
        allowed = ", ".join("any" if s is None else str(s) for s in shape)
        raise ValueError(f"{name} has shape {tuple(x.shape)}; it must be ({allowed})")


def pixel_norm(x: Tensor) -> Tensor:
    """Divides each row by its root mean square over axis 1."""
    return x / torch.sqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)  # rounds as published


def leaky(x: Tensor, *, inplace: bool = False) -> Tensor:
    """Leaky ReLU with StyleGAN's slope of 0.2."""
    return F.leaky_relu(x, 0.2, inplace)


def smooth_kernel(weight: Tensor) -> Tensor:
    """Merges kernels (C_out, C_in, 3, 3) with a 2x2 box filter before or after, into 4x4."""
    padded = F.pad(weight, (1, 1, 1, 1))  # (C_out, C_in, 5, 5)
    rows = padded[:, :, 1:] + padded[:, :, :-1]  # (C_out, C_in, 4, 5)
    return rows[..., 1:] + rows[..., :-1]  # (C_out, C_in, 4, 4), sums of four shifted copies


class EqualDense(nn.Module):
    """Dense layer with equalised learning rate: weights are stored at unit scale.

    `gain` is sqrt(2) before a leaky ReLU and 1 for a linear output; StyleGAN2 multiplies the bias
    by it as well, as `bias_gain`. `lr_multiplier` multiplies weight and bias; the initial stored
    weight is divided by it.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        gain: float = math.sqrt(2),
        bias_gain: float = 1.0,
        lr_multiplier: float = 1.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.weight_scale = gain / math.sqrt(inputs) * lr_multiplier
        self.bias_scale = bias_gain * lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, inputs) to (B, outputs), without activation."""
        return F.linear(x, self.weight * self.weight_scale, self.bias * self.bias_scale)


class EqualConv(nn.Module):
    """Convolution with equalised learning rate and, unless `linear`, a leaky ReLU.

    `down` blurs the input and halves the resolution.
    """

    def __init__(
        self, inputs: int, channels: int, kernel: int, *, down: bool = False, linear: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.weight_scale = (1 if linear else math.sqrt(2)) / math.sqrt(inputs * kernel**2)
        self.padding, self.down, self.linear = kernel // 2, down, linear
        if down:
            self.blur = Blur(inputs)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C_in, H, W) to (B, C, H, W), or to (B, C, H/2, W/2) with `down`."""
        weight = self.weight * self.weight_scale
        if self.down:
            # Convolution and average pooling as one kernel: the same sums, fewer multiplications.
            kernel = smooth_kernel(weight) / 4  # (C, C_in, 4, 4)
            return leaky(convolve(self.blur(x), kernel, self.bias, stride=2, padding=1))
        x = convolve(x, weight, self.bias, padding=self.padding)  # (B, C, H, W)
        return x if self.linear else leaky(x)


class Blur(nn.Module):
    """Depthwise binomial low-pass filter with zero padding, 3x3 unless `taps` says otherwise.

    Its kernel sums to `gain`. It is a buffer, which a state dict contains if `stored`.
    """

    def __init__(
        self,
        channels: int,
        taps: tuple[int, ...] = (1, 2, 1),
        *,
        padding: int = 1,
        gain: float = 1.0,
        stored: bool = True,
    ) -> None:
        super().__init__()
        line = torch.tensor(taps) / sum(taps)
        kernel = (gain * torch.outer(line, line)).repeat(channels, 1, 1, 1)  # (C, 1, T, T)
        self.register_buffer("kernel", kernel, persistent=stored)
        self.padding = padding

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Blurs (B, C, H, W) and adds a bias (C,); the defaults keep the shape."""
        kernel = self.kernel.to(x.dtype)
        return convolve(x, kernel, bias, padding=self.padding, groups=x.shape[1])


def noise_planes(x: Tensor, plane: Tensor, mode: str) -> Tensor:
    """Returns noise for (B, C, H, W): `random` planes, (B, 1, H, W), or the `fixed` plane."""
    if mode == "random":
        return torch.randn(x.shape[0], 1, *x.shape[2:], device=x.device, dtype=x.dtype)
    return plane.to(x.dtype)


class Noise(nn.Module):
    """Adds one noise plane, scaled per channel; the fixed plane is a buffer."""

    def __init__(self, channels: int, image_px: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))
        self.register_buffer("noise", torch.randn(1, 1, image_px, image_px))

    def forward(self, x: Tensor, mode: str) -> Tensor:
        """Adds noise to (B, C, H, W) in place: a `random` plane per image, or the `fixed` one."""
        strength = self.weight.view(1, -1, 1, 1).to(x.dtype)
        return x.addcmul_(noise_planes(x, self.noise, mode), strength)


class Style(EqualDense):
    """Instance norm followed by a scale and shift computed from a style vector."""

    def __init__(self, style_dim: int, channels: int) -> None:
        super().__init__(style_dim, 2 * channels, gain=1.0)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Normalises each channel of x (B, C, H, W) and modulates it by styles w (B, D)."""
        style = super().forward(w)  # (B, 2 C)
        exact = torch.promote_types(style.dtype, torch.float32)
        return fused_style(x, *style.to(exact).chunk(2, dim=1))


def minibatch_deviation(x: Tensor, most: int = MOST_IN_GROUP) -> Tensor:
    """Appends one channel to (B, C, H, W): the mean standard deviation within groups of images.

    The group size is the largest divisor of B up to `most`.
    """
    batch, channels, height, width = x.shape
    group = next(g for g in range(min(most, batch), 0, -1) if batch % g == 0)
    y = x.float().view(group, -1, channels, height, width)  # (G, B/G, C, H, W)
    deviation = (y.var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))  # (B/G,)
    plane = deviation.repeat(group).view(batch, 1, 1, 1).expand(batch, 1, height, width)
    return torch.cat([x, plane.to(x.dtype)], dim=1)
