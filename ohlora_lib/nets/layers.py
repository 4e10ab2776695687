"""Building blocks of StyleGAN 1: equalised layers, blur, noise, styles, minibatch deviation.

Axes: B batch, C channels, H height, W width, D style width.
Source: Karras et al., "Progressive Growing of GANs", 2018, https://arxiv.org/abs/1710.10196, and
"A Style-Based Generator Architecture for GANs", 2019, https://arxiv.org/abs/1812.04948.
Every layer follows the dtype of its input, so the whole network runs under `torch.autocast`;
statistics (instance norm, minibatch deviation) are always summed in float32.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LEAKY_SLOPE = 0.2
MOST_IN_GROUP = 16  # images whose deviation the discriminator is shown
STYLE_EPS = 1e-8  # added to a channel's variance


def check_shape(x: Tensor, shape: tuple[int | None, ...], *, name: str) -> None:
    """Raises ValueError unless `x` has the shape; None allows any length."""
    if x.dim() != len(shape) or any(
        s is not None and s != n for s, n in zip(shape, x.shape, strict=True)
    ):
        allowed = ", ".join("any" if s is None else str(s) for s in shape)
        raise ValueError(f"{name} has shape {tuple(x.shape)}; it must be ({allowed})")


def pixel_norm(x: Tensor, eps: float = 1e-8) -> Tensor:
    """Divides each row by its root mean square over axis 1."""
    return x / torch.sqrt(x.square().mean(dim=1, keepdim=True) + eps)  # rounds as published


def leaky(x: Tensor, *, inplace: bool = False) -> Tensor:
    """Leaky ReLU with StyleGAN's slope of 0.2."""
    return F.leaky_relu(x, LEAKY_SLOPE, inplace)


def smooth_kernel(weight: Tensor) -> Tensor:
    """Turns a 3x3 kernel into the 4x4 kernel of convolution after (or before) a 2x box filter.

    Args:
        weight: Kernels, shape (C_out, C_in, 3, 3).

    Returns:
        Sums of the four shifted copies, shape (C_out, C_in, 4, 4).
    """
    padded = F.pad(weight, (1, 1, 1, 1))  # (C_out, C_in, 5, 5)
    rows = padded[:, :, 1:] + padded[:, :, :-1]  # (C_out, C_in, 4, 5)
    return rows[..., 1:] + rows[..., :-1]  # (C_out, C_in, 4, 4)


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> Tensor:
    """2d convolution; one whose weights are frozen spends nothing on gradients they never get.

    Where R1 differentiates a gradient again, PyTorch's own convolution also works out gradients
    of the weights, wanted or not: a quarter of the time of a discriminator update.
    """
    frozen = not (weight.requires_grad or (bias is not None and bias.requires_grad))
    if not (frozen and x.requires_grad and torch.is_grad_enabled()):
        return F.conv2d(x, weight, bias, stride=stride, padding=padding, groups=groups)
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    return _FrozenConv.apply(x, weight, bias, (stride, padding, groups))


class _FrozenConv(torch.autograd.Function):
    """Convolution as a linear map of its input alone; any order of derivative."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, how: tuple[int, int, int]
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.how = x.shape, how
        stride, padding, groups = how
        return F.conv2d(x, weight, bias, stride=stride, padding=padding, groups=groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (weight,) = ctx.saved_tensors
        return _FrozenConvAdjoint.apply(gradient, weight, ctx.shape, ctx.how), None, None, None


class _FrozenConvAdjoint(torch.autograd.Function):
    """The adjoint of `_FrozenConv`: gradients of outputs to gradients of inputs."""

    @staticmethod
    def forward(
        ctx: Any, gradient: Tensor, weight: Tensor, shape: torch.Size, how: tuple[int, int, int]
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.how = how
        stride, padding, groups = how
        dense = gradient.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if dense else torch.contiguous_format
        like = torch.empty(  # only its shape and layout are looked at
            shape, dtype=gradient.dtype, device=gradient.device, memory_format=layout
        )
        options = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups)
        mask = [True, False, False]  # of the input alone
        return torch.ops.aten.convolution_backward(gradient, like, weight, None, *options, mask)[0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (weight,) = ctx.saved_tensors
        return _FrozenConv.apply(gradient, weight, None, ctx.how), None, None, None


class EqualDense(nn.Module):
    """Dense layer with equalised learning rate: weights are stored at unit scale.

    Args:
        in_features: Width of the input.
        out_features: Width of the output.
        gain: Gain of the initialisation; sqrt(2) before a leaky ReLU, 1 for a linear output.
        lr_multiplier: Factor on weight and bias; the stored weight is divided by it at the start.
        bias_init: Effective bias at the start.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        gain: float = math.sqrt(2),
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier))
        self.weight_scale = gain / math.sqrt(in_features) * lr_multiplier
        self.bias_scale = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in_features) to (B, out_features), no activation."""
        return F.linear(x, self.weight * self.weight_scale, self.bias * self.bias_scale)


class Blur(nn.Module):
    """Depthwise 3x3 binomial low-pass filter with zero padding; its kernel is a buffer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        line = torch.tensor([1.0, 2.0, 1.0]) / 4
        kernel = torch.outer(line, line)  # (3, 3)
        self.register_buffer("kernel", kernel.repeat(channels, 1, 1, 1))  # (C, 1, 3, 3)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Blurs (B, C, H, W), shape kept; adds a bias (C,)."""
        return convolve(x, self.kernel.to(x.dtype), bias, padding=1, groups=x.shape[1])


class Noise(nn.Module):
    """Adds one noise plane, scaled per channel; the fixed plane is a buffer."""

    def __init__(self, channels: int, image_px: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))
        self.register_buffer("noise", torch.randn(1, 1, image_px, image_px))

    def forward(self, x: Tensor, mode: str, *, inplace: bool = False) -> Tensor:
        """Adds noise to (B, C, H, W): `random` is drawn anew per image, `fixed` is the buffer."""
        if mode == "random":
            noise = torch.randn(x.shape[0], 1, *x.shape[2:], device=x.device, dtype=x.dtype)
        else:
            noise = self.noise.to(x.dtype)
        add = x.addcmul_ if inplace else x.addcmul
        return add(noise, self.weight.to(x.dtype).view(1, -1, 1, 1))


class Style(EqualDense):
    """Instance norm followed by the scale and shift that a style vector asks for."""

    def __init__(self, style_dim: int, channels: int) -> None:
        super().__init__(style_dim, 2 * channels, gain=1.0)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Normalises each channel of x and modulates it as x * (scale + 1) + shift.

        Args:
            x: Feature maps, shape (B, C, H, W).
            w: Style vectors, shape (B, D).

        Returns:
            Feature maps, shape (B, C, H, W).
        """
        scale, shift = _at_least_float32(super().forward(w)).chunk(2, dim=1)  # (B, C) each
        return _FusedStyle.apply(x, scale, shift)


class _FusedStyle(torch.autograd.Function):
    """Instance norm, scale and shift of a feature map, with its gradient written out.

    Autograd would keep and walk several float32 copies of the map; this keeps one. The map is
    centred before anything else: where a channel is nearly constant, its mean times a large factor
    would be off by more than the channel says, and so would a mean of squares.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        rows = _rows(x)  # (B, N, C), N pixels
        centred = rows - (_sums(rows) / rows.shape[1])[:, None]
        way = _style_by_group_norm if _suits_group_norm(x) else _style_by_sums
        # Mean and deviation of the centred map; its mean is what rounding left.
        y, mean, deviation = way(_planes(centred, x.shape), scale + 1, shift)
        ctx.save_for_backward(centred, mean, deviation, (scale + 1) / deviation)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        centred, mean, deviation, factor = ctx.saved_tensors
        grad, pixels = _rows(gradient), centred.shape[1]  # (B, N, C)
        shift_grad = _sums(grad).to(mean.dtype)  # (B, C)
        product = _sums(grad * centred).to(mean.dtype)  # (B, C)
        scale_grad = (product - mean * shift_grad) / deviation
        # d loss / d x = factor * (grad - mean of grad - normalised x * mean of (grad * it)).
        slope = -factor * scale_grad / (deviation * pixels)
        offset = -factor * shift_grad / pixels - mean * slope
        x_grad = _affine(centred, slope, offset).addcmul_(grad, factor.to(grad.dtype)[:, None])
        return _planes(x_grad, gradient.shape), scale_grad, shift_grad


def _suits_group_norm(x: Tensor) -> bool:
    """Whether PyTorch's group norm is the faster way: large maps on a CPU."""
    return x.device.type == "cpu" and x.shape[2] * x.shape[3] >= 32 * 32


def _style_by_group_norm(x: Tensor, gain: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Normalises centred channels_last maps (B, C, H, W); gain and shift (B, C) are an image's.

    Returns:
        The maps, and the mean and deviation of what came in, (B, C) each.
    """
    _, channels, height, width = x.shape
    sizes = (1, channels, height * width, channels, STYLE_EPS)
    y, mean, deviation = torch.empty_like(x), torch.empty_like(gain), torch.empty_like(gain)
    for k in range(len(x)):
        out, means, inverse = torch.native_group_norm(x[k : k + 1], gain[k], shift[k], *sizes)
        y[k], mean[k], deviation[k] = out[0], means[0], inverse[0].reciprocal()
    return y, mean, deviation


def _style_by_sums(x: Tensor, gain: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same, all images at once."""
    centred, exact = _rows(x), gain.dtype  # (B, N, C)
    pixels = centred.shape[1]
    mean = centred.sum(1, dtype=exact) / pixels  # (B, C)
    square = (centred * centred).sum(1, dtype=exact) / pixels  # (B, C)
    deviation = (square - mean.square()).clamp_(min=0).add_(STYLE_EPS).sqrt_()  # (B, C)
    factor = gain / deviation
    return _planes(_affine(centred, factor, shift - mean * factor), x.shape), mean, deviation


def _sums(rows: Tensor) -> Tensor:
    """Sums of pixels (B, N, C), rounded to their dtype, (B, C).

    On a CPU as a matrix product, which adds up in float32 and takes a third of the time or less.
    """
    if rows.device.type != "cpu":
        return rows.sum(1)
    ones = rows.new_ones(1, 1, 1).expand(len(rows), 1, rows.shape[1])
    return torch.bmm(ones, rows)[:, 0]


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _rows(x: Tensor) -> Tensor:
    """Turns planes (B, C, H, W) into pixels (B, H * W, C); a view when x is channels_last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _planes(rows: Tensor, shape: torch.Size) -> Tensor:
    """Turns pixels (B, H * W, C) back into channels_last planes of the given shape."""
    batch, channels, height, width = shape
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _affine(rows: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    return torch.addcmul(offset.to(rows.dtype)[:, None], rows, factor.to(rows.dtype)[:, None])


def minibatch_deviation(x: Tensor) -> Tensor:
    """Appends one channel: the mean deviation of features inside each group of images.

    The size of a group is the largest divisor of B up to 16.

    Args:
        x: Feature maps, shape (B, C, H, W).

    Returns:
        Feature maps, shape (B, C + 1, H, W).
    """
    batch, channels, height, width = x.shape
    group = next(g for g in range(min(MOST_IN_GROUP, batch), 0, -1) if batch % g == 0)
    y = x.float().view(group, -1, channels, height, width)  # (G, B/G, C, H, W)
    deviation = (y.var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))  # (B/G,)
    plane = deviation.repeat(group).view(batch, 1, 1, 1).expand(batch, 1, height, width)
    return torch.cat([x, plane.to(x.dtype)], dim=1)
