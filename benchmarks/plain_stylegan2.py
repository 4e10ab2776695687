"""StyleGAN2 the plain way: one kernel per image; doubling inserts zeros and applies the filter.

The same networks in float32 and PyTorch's default layout. Every kernel is computed at each call.
Axes: B batch, C channels, k kernel side, H image height.
Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020,
https://arxiv.org/abs/1912.04958; the code is our own.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ohlora_lib.nets import stylegan2
from ohlora_lib.nets.layers import leaky, minibatch_deviation
from ohlora_lib.nets.stylegan2.layers import Conv, StyledConv, ToRGB, clamped


def draw(
    net: stylegan2.Generator, z: Tensor, properties: Tensor | None = None, *, noise: str = "fixed"
) -> Tensor:
    """Images (B, 3, H, H) from latents, equal to `net(z, properties, noise=noise)`."""
    w = net.styles(z, properties).w
    x, images = net.synthesis.b4.const.expand(len(w), -1, -1, -1), None
    for k in range(net.synthesis.num_blocks):
        block = getattr(net.synthesis, f"b{4 << k}")
        if k:
            x = _styled_conv(block.conv0, x, w, noise)
        x = _styled_conv(block.conv1, x, w, noise)
        colours = _to_rgb(block.torgb, x, w)
        images = colours if images is None else filtered(images, (2, 1), up=2) + colours
    return images


def filtered(x: Tensor, pad: tuple[int, int], *, up: int = 1, gain: float | None = None) -> Tensor:
    """Doubles maps (B, C, H, H) with zeros if `up` is 2, pads them and sums with [1, 3, 3, 1].

    `gain` is up squared unless given.
    """
    batch, channels, side, _ = x.shape
    if up > 1:
        x = F.pad(x.view(batch, channels, side, 1, side, 1), (0, up - 1, 0, 0, 0, up - 1))
        x = x.view(batch, channels, side * up, side * up)
    x = F.pad(x, (*pad, *pad))
    line = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype, device=x.device) / 8
    kernel = torch.outer(line, line) * (up**2 if gain is None else gain)  # (4, 4)
    return F.conv2d(x, kernel.repeat(channels, 1, 1, 1), groups=channels)


def _styled_conv(layer: StyledConv, x: Tensor, w: Tensor, noise: str) -> Tensor:
    kernels = layer.weight * layer.affine(w)[:, None, :, None, None]  # (B, C, C_in, k, k)
    kernels = kernels * (kernels.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = _conv_each(x, kernels, up=layer.up)
    planes = layer.noise_const
    if noise == "random":
        planes = torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=x.dtype)
    x = x + planes * layer.noise_strength
    return clamped(leaky(x + layer.bias.view(1, -1, 1, 1)) * math.sqrt(2), layer.clamp)


def _to_rgb(layer: ToRGB, x: Tensor, w: Tensor) -> Tensor:
    style = layer.affine(w) / math.sqrt(x.shape[1])  # (B, C)
    x = _conv_each(x, layer.weight * style[:, None, :, None, None])
    return clamped(x + layer.bias.view(1, -1, 1, 1), layer.clamp)


def _conv_each(x: Tensor, kernels: Tensor, *, up: bool = False) -> Tensor:
    """Convolves each image of (B, C_in, H, H) with its own kernel of (B, C, C_in, k, k)."""
    batch, side = len(x), x.shape[2]
    x = x.reshape(1, -1, side, side)  # (1, B * C_in, H, H)
    if up:
        kernels = kernels.transpose(1, 2).flatten(0, 1)  # (B * C_in, C, k, k)
        x = F.conv_transpose2d(x, kernels, stride=2, groups=batch)
        return filtered(x.view(batch, -1, *x.shape[2:]), (1, 1), gain=4.0)
    x = F.conv2d(x, kernels.flatten(0, 1), padding=kernels.shape[3] // 2, groups=batch)
    return x.view(batch, -1, side, side)


def score(net: stylegan2.Discriminator, images: Tensor) -> Tensor:
    """Logits (B, 1) of images (B, 3, H, H), equal to `net(images)` of a net without properties."""
    x = images
    for k in range(net.num_blocks - 1):
        block = getattr(net, f"b{net.image_px >> k}")
        x = x if k else _equal_conv(block.fromrgb, x)
        skip = filtered(x, (1, 1))[:, :, ::2, ::2]
        skip = F.conv2d(skip, block.skip.weight / math.sqrt(x.shape[1])) * math.sqrt(0.5)
        x = _equal_conv(block.conv1, _equal_conv(block.conv0, x), gain=math.sqrt(0.5)) + skip
    x = _equal_conv(net.b4.conv, minibatch_deviation(x, net.b4.group))
    return net.b4.out(leaky(net.b4.fc(x.flatten(1))))


def _equal_conv(layer: Conv, x: Tensor, *, gain: float = 1.0) -> Tensor:
    weight = layer.weight / math.sqrt(layer.weight[0].numel())
    if layer.down:
        x = F.conv2d(filtered(x, (2, 2)), weight, stride=2)
    else:
        x = F.conv2d(x, weight, padding=layer.padding)
    x = leaky(x + layer.bias.view(1, -1, 1, 1)) * (math.sqrt(2) * gain)
    return clamped(x, layer.clamp)
