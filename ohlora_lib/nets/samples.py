"""Random samples of a generator, and the pixel conversions around the networks.

Axes: B batch, Z latent width, P properties, H image height.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ohlora_lib.nets.compute import autocast, images_at_once
from ohlora_lib.nets.generator import Generator


def to_signed(images: Tensor) -> Tensor:
    """Turns uint8 (B, H, H, 3) into floats (B, 3, H, H) in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float().div(127.5).sub(1)


def to_unit(images: Tensor) -> Tensor:
    """Turns uint8 (B, H, H, 3) into floats (B, 3, H, H) in [0, 1]."""
    return images.permute(0, 3, 1, 2).float().div(255)


def to_uint8(images: Tensor) -> Tensor:
    """Turns floats (B, 3, H, H) in [-1, 1] into uint8 (B, H, H, 3), rounding to the nearest."""
    scaled = images.float().add(1).mul(127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1)


@torch.no_grad()
def sample_images(
    generator: Generator,
    count: int,
    *,
    seed: int,
    batch: int = 100,
    precision: str = "float32",
    start: int = 0,
) -> Iterator[Tensor]:
    """Images from random latents and property scores, both standard normal, noise fixed.

    Args:
        generator: On its device.
        count: How many images.
        seed: The same one draws the same latents for any generator of these widths.
        batch: Images whose latents are drawn together.
        precision: Number format to draw in.
        start: First latent, a multiple of `batch`: every batch has its own random state.

    Yields:
        uint8 images, shape (batch, H, H, 3), on the generator's device; the last may be shorter.
    """
    dtype = torch.bfloat16 if precision == "bfloat16" else None
    for first in range(start, start + count, batch):
        z, properties = draw_latents(generator, batch, seed=seed, index=first // batch)
        z, drawn = z[: start + count - first], []
        parts = -(-len(z) // images_at_once(generator.synthesis.widest_map, z.device))
        with generator.synthesis.hold_kernels(dtype), autocast(z.device, precision):
            for rows in torch.arange(len(z)).chunk(parts):  # of nearly one size
                scores = None if properties is None else properties[rows]
                drawn.append(to_uint8(generator(z[rows], scores)))
        yield torch.cat(drawn)


def draw_latents(
    generator: Generator, count: int, *, seed: int, index: int = 0
) -> tuple[Tensor, Tensor | None]:
    """Standard normal latents (count, Z) and property scores (count, P), drawn on the CPU.

    Batches of one seed have different indices; seed and index are mixed as in the published study.
    """
    (mixed,) = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)
    random = torch.Generator().manual_seed(int(mixed) >> 1)
    device = next(generator.parameters()).device
    z, properties = (
        torch.randn(count, width, generator=random).to(device) if width else None
        for width in (generator.z_dim, generator.num_properties)
    )
    return z, properties
