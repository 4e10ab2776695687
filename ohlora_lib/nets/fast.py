"""Two layers with hand-written gradients, which are faster than autograd's.

Axes: B batch, C channels, H height, W width, N = H * W pixels.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

STYLE_EPS = 1e-8  # added to a channel's variance
GROUP_NORM_PIXELS = 32 * 32  # from this size on, PyTorch's group norm is faster on a CPU


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, **options: int) -> Tensor:
    """Applies `conv2d` to square maps; frozen weights cost no gradient computation.

    When R1 differentiates a gradient again, PyTorch's own convolution computes gradients of the
    weights even if they are frozen: a quarter of the time of a discriminator update.
    """
    trains = weight.requires_grad or (bias is not None and bias.requires_grad)
    if trains or not (x.requires_grad and torch.is_grad_enabled()):
        return F.conv2d(x, weight, bias, **options)
    return _FrozenConv.apply(x, weight, bias, options)


class _FrozenConv(torch.autograd.Function):
    """Convolution with gradients for its input only; differentiable twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, options: dict) -> Tensor:
        ctx.save_for_backward(weight)
        padded = x.shape[2] + 2 * options.get("padding", 0)
        left_out = (padded - weight.shape[2]) % options.get("stride", 1)  # skipped rows
        ctx.options = {"output_padding": left_out, **options}
        return F.conv2d(x, weight, bias, **options)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        weight = ctx.saved_tensors[0].to(gradient.dtype)
        return F.conv_transpose2d(gradient, weight, **ctx.options), None, None, None


class _FusedStyle(torch.autograd.Function):
    """Instance norm of maps (B, C, H, W), times scale + 1, plus shift (B, C); saves one copy.

    Autograd would save several in float32. The map is centred first: in a nearly constant
    channel, the rounding error of the mean, times a large factor, would swamp the signal; so
    would that of a mean of squares.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        rows = _rows(x)
        centred = rows - (_sums(rows) / rows.shape[1])[:, None]
        large = x.device.type == "cpu" and rows.shape[1] >= GROUP_NORM_PIXELS
        modulate = _by_group_norm if large else _by_sums
        # Mean and deviation of the centred map; its mean is rounding error.
        y, mean, deviation = modulate(_planes(centred, x.shape), scale + 1, shift)
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


fused_style = _FusedStyle.apply  # arguments: x, scale, shift


def _by_group_norm(x: Tensor, gain: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Modulates centred channels_last maps; also returns x's mean and deviation, (B, C) each."""
    _, channels, height, width = x.shape
    sizes = (1, channels, height * width, channels, STYLE_EPS)
    y, mean, deviation = torch.empty_like(x), torch.empty_like(gain), torch.empty_like(gain)
    for k in range(len(x)):  # group norm takes one gain and shift for all images
        out, means, inverse = torch.native_group_norm(x[k : k + 1], gain[k], shift[k], *sizes)
        y[k], mean[k], deviation[k] = out[0], means[0], inverse[0].reciprocal()
    return y, mean, deviation


def _by_sums(x: Tensor, gain: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Does the same for all images at once."""
    centred, exact = _rows(x), gain.dtype
    mean = centred.sum(1, dtype=exact) / centred.shape[1]  # (B, C)
    square = (centred * centred).sum(1, dtype=exact) / centred.shape[1]  # (B, C)
    deviation = (square - mean.square()).clamp_(min=0).add_(STYLE_EPS).sqrt_()  # (B, C)
    factor = gain / deviation
    return _planes(_affine(centred, factor, shift - mean * factor), x.shape), mean, deviation


def _sums(rows: Tensor) -> Tensor:
    """Sums pixels (B, N, C) to (B, C); on a CPU by a matrix product, in a third of the time."""
    if rows.device.type != "cpu":
        return rows.sum(1)
    return torch.bmm(rows.new_ones(1, 1, 1).expand(len(rows), 1, rows.shape[1]), rows)[:, 0]


def _rows(x: Tensor) -> Tensor:
    """Turns planes (B, C, H, W) into pixels (B, N, C); a view when x is channels_last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _planes(rows: Tensor, shape: torch.Size) -> Tensor:
    """Turns pixels (B, N, C) back into channels_last planes of the given shape."""
    return rows.unflatten(1, shape[2:]).permute(0, 3, 1, 2)


def _affine(rows: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    return torch.addcmul(offset.to(rows.dtype)[:, None], rows, factor.to(rows.dtype)[:, None])
