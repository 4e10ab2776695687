"""Random samples from a generator, and pixel conversions for the networks.

Axes: B batch, Z latent width, P properties, H image height.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ohlora_lib.nets.compute import autocast, images_at_once
from ohlora_lib.nets.style_generator import StyleGenerator


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
    generator: StyleGenerator,
    count: int,
    *,
    seed: int,
    batch: int = 100,
    precision: str = "float32",
    start: int = 0,
) -> Iterator[Tensor]:
    """Draws images from standard normal latents and property scores, with fixed noise.

    Args:
        generator: The network, already on its device.
        count: Number of images.
        seed: Determines the latents, for every generator of the same widths.
        batch: Number of images whose latents are drawn together.
        precision: Number format of the forward pass.
        start: Index of the first latent, a multiple of `batch`: each batch has its own seed.

    Yields:
        uint8 batches, (batch, H, H, 3), on the generator's device; the last may be smaller.
    """
    dtype = torch.bfloat16 if precision == "bfloat16" else None
    for first in range(start, start + count, batch):
        z, properties = draw_latents(generator, batch, seed=seed, index=first // batch)
        z, drawn = z[: start + count - first], []
        parts = -(-len(z) // images_at_once(generator.synthesis.widest_map, z.device))
        with generator.synthesis.hold_kernels(dtype), autocast(z.device, precision):
            for rows in torch.arange(len(z)).chunk(parts):  # parts of nearly equal size
                scores = None if properties is None else properties[rows]
                drawn.append(to_uint8(generator(z[rows], scores)))
        yield torch.cat(drawn)


def draw_latents(
    generator: StyleGenerator, count: int, *, seed: int, index: int = 0
) -> tuple[Tensor, Tensor | None]:
    """Draws standard normal latents (count, Z) and scores or labels (count, P) on the CPU.

    Batches of one seed differ in `index`; seed and index are mixed as in the published study.
    """
    (mixed,) = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)
    random = torch.Generator().manual_seed(int(mixed) >> 1)
    device = next(generator.parameters()).device
    z = torch.randn(count, generator.z_dim, generator=random).to(device)
    if not generator.num_properties:
        return z, None
    return z, generator.draw_properties(count, random).to(device)
