"""The plain implementation: the same networks and updates, one operation after another.

StyleGAN1's networks are here, StyleGAN2's in `plain_stylegan2`.
It uses float32, PyTorch's default layout, autograd through every operation, gradients through G in
D's update, and one JPEG file per image. The published study works this way; the code is our own.
Axes: B batch, N images, P properties, H image height.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks import plain_stylegan2
from ohlora_lib.finetune.loop import FineTuner
from ohlora_lib.nets import Discriminator, PropertyCNN, stylegan2
from ohlora_lib.nets.layers import EqualConv, EqualDense, leaky, minibatch_deviation, smooth_kernel
from ohlora_lib.nets.samples import draw_latents, to_uint8
from ohlora_lib.nets.style_generator import StyleGenerator
from ohlora_lib.nets.stylegan1.generator import FUSED_FROM_PX, SynthesisLayer
from ohlora_lib.training.losses import discriminator_loss, generator_loss

# ---- networks -----------------------------------------------------------------------------------


def draw(
    net: StyleGenerator, z: Tensor, properties: Tensor | None = None, *, noise: str = "fixed"
) -> Tensor:
    """Images (B, 3, H, H) from latents, equal to `net(z, properties, noise=noise)`."""
    if isinstance(net, stylegan2.Generator):
        return plain_stylegan2.draw(net, z, properties, noise=noise)
    w = net.styles(z, properties).w
    x = None
    for k in range(2 * net.synthesis.num_blocks):
        x = _synthesis_layer(getattr(net.synthesis, f"layer{k}"), x, w, noise)
    return getattr(net.synthesis, f"output{net.synthesis.num_blocks - 1}")(x)


def _synthesis_layer(layer: SynthesisLayer, x: Tensor | None, w: Tensor, noise: str) -> Tensor:
    constant = layer.kind == "const"
    x = layer.const.expand(len(w), -1, -1, -1) if constant else _upsampled(layer, x)
    planes = layer.apply_noise.noise
    if noise == "random":
        planes = torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=x.dtype)
    x = x + planes * layer.apply_noise.weight.view(1, -1, 1, 1)
    x = leaky(x + layer.bias.view(1, -1, 1, 1))
    x = x - x.mean(dim=(2, 3), keepdim=True)
    x = x / torch.sqrt(x.square().mean(dim=(2, 3), keepdim=True) + 1e-8)
    style = EqualDense.forward(layer.style, w).view(len(w), 2, -1, 1, 1)  # (B, 2, C, 1, 1)
    return x * (style[:, 0] + 1) + style[:, 1]


def _upsampled(layer: SynthesisLayer, x: Tensor) -> Tensor:
    weight = layer.weight * layer.weight_scale
    if layer.kind == "conv":
        return F.conv2d(x, weight, padding=1)
    if layer.image_px >= FUSED_FROM_PX:
        kernel = smooth_kernel(weight).transpose(0, 1)
        return _blur(F.conv_transpose2d(x, kernel, stride=2, padding=1), layer)
    return _blur(F.conv2d(F.interpolate(x, scale_factor=2.0), weight, padding=1), layer)


def _blur(x: Tensor, layer: torch.nn.Module) -> Tensor:
    return F.conv2d(x, layer.blur.kernel, padding=1, groups=x.shape[1])


def score(net: Discriminator | stylegan2.Discriminator, images: Tensor) -> Tensor:
    """Logits (B, 1) of images (B, 3, H, H), equal to `net(images)`."""
    if isinstance(net, stylegan2.Discriminator):
        return plain_stylegan2.score(net, images)
    x, last = net.input0(images), 2 * (net.num_blocks - 1)
    for k in range(last):
        x = _equal_conv(getattr(net, f"layer{k}"), x)
    x = getattr(net, f"layer{last}")(minibatch_deviation(x))
    x = leaky(getattr(net, f"layer{last + 1}")(x.flatten(1)))
    if net.num_properties:
        x = torch.cat([x, x.new_zeros(len(x), net.num_properties)], dim=1)
    return getattr(net, f"layer{last + 2}")(x)


def _equal_conv(layer: EqualConv, x: Tensor) -> Tensor:
    weight = layer.weight * layer.weight_scale
    if not layer.down:
        return leaky(F.conv2d(x, weight, layer.bias, padding=layer.padding))
    x = _blur(x, layer)
    if x.shape[2] >= FUSED_FROM_PX:
        return leaky(F.conv2d(x, smooth_kernel(weight) / 4, layer.bias, stride=2, padding=1))
    return leaky(F.avg_pool2d(F.conv2d(x, weight, layer.bias, padding=1), 2))


# ---- updates ------------------------------------------------------------------------------------


class PlainTuner(FineTuner):
    """A fine-tuning run with plain updates; the loop, step rules and random draws are ours."""

    def make_plain(self) -> PlainTuner:
        """Sets the default layout, and keeps gradients on for all parameters the recipe trains."""
        for net, names in ((self.generator, self.g_names), (self.discriminator, self.d_names)):
            net.to(memory_format=torch.contiguous_format)
            for name, parameter in net.named_parameters():
                parameter.requires_grad_(name in set(names))
        return self

    def update_discriminator(self, real: Tensor) -> Tensor:
        """Updates the discriminator once and returns the loss, shape ()."""
        fake = draw(self.generator, *self.latents(len(real)), noise="random")  # keeps its graph
        gamma = self.settings.r1_gamma
        real = real.detach().contiguous().requires_grad_(gamma > 0)
        real_scores, fake_scores = score(self.discriminator, real), score(self.discriminator, fake)
        loss = discriminator_loss(real, real_scores, fake_scores, gamma)
        self.last_scores = (real_scores.detach().flatten(), fake_scores.detach().flatten())
        return self._step(loss, self.d_optimizer)

    def update_generator(self, real: Tensor) -> Tensor:
        """Updates the generator once and returns the loss, shape ()."""
        fake = draw(self.generator, *self.latents(len(real)), noise="random")
        loss = generator_loss(score(self.discriminator, fake))
        return self._step(loss, self.g_optimizer)

    def _step(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
        for net in (self.generator, self.discriminator):
            net.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()


# ---- evaluation and property CNNs ---------------------------------------------------------------


@torch.no_grad()
def images_to_files(net: StyleGenerator, count: int, folder: Path) -> list[Path]:
    """Draws samples one at a time and writes each to a JPEG file."""
    files = []
    for k in range(count):
        pixels = to_uint8(draw(net, *draw_latents(net, 1, seed=0, index=k)))[0]  # (H, H, 3)
        files.append(folder / f"{k:06d}.jpg")
        Image.fromarray(pixels.cpu().numpy()).save(files[-1], quality=95)
    return files


def read_image(path: Path, device: torch.device) -> Tensor:
    """Reads one image file as (1, 3, H, H) in [0, 1]."""
    with Image.open(path) as picture:
        pixels = torch.from_numpy(np.array(picture.convert("RGB")))  # (H, H, 3)
    return pixels.to(device).permute(2, 0, 1)[None].float() / 255


@contextmanager
def plain_layout(nets: Mapping[str, Sequence[PropertyCNN]]) -> Iterator[None]:
    """Puts the CNNs in PyTorch's default layout inside the block."""
    every = [net for members in nets.values() for net in members]
    for net in every:
        net.to(memory_format=torch.contiguous_format)
    yield
    for net in every:
        net.to(memory_format=torch.channels_last)


@torch.no_grad()
def evaluate(
    net: StyleGenerator, cnns: Mapping[str, Sequence[PropertyCNN]], count: int, folder: Path
) -> Tensor:
    """Mean scores (P,) of samples read back from files, one image and one CNN at a time."""
    device = next(net.parameters()).device
    files = images_to_files(net, count, folder)
    means = []
    with plain_layout(cnns):
        for members in cnns.values():
            votes = [
                torch.cat([member(pixels) for member in members]).mean().item()
                for pixels in (read_image(path, device) for path in files)
            ]
            means.append(math.fsum(votes) / len(votes))
    return torch.tensor(means)


def train_epoch(
    net: PropertyCNN,
    optimizer: torch.optim.Optimizer,
    files: Sequence[Path],
    labels: Tensor,
    batch: int,
) -> float:
    """Trains a property CNN for one epoch on images read from files; returns the mean loss."""
    net.train()
    total, device = 0.0, labels.device
    for rows in torch.randperm(len(files)).split(batch):
        pixels = torch.cat([read_image(files[row], device) for row in rows.tolist()])
        loss = F.binary_cross_entropy_with_logits(net.logits(pixels), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
    return total / len(files)
