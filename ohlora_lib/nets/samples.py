"""Random samples of a generator, and the pixel conversions around the networks.

Axes: B batch, Z latent width, P properties, H image height.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ohlora_lib.nets.compute import autocast, images_at_once
from ohlora_lib.nets.generator import Generator

WORD = 2**32  # seeds are mixed in words of 32 bits


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
        seed: Draws latents; the same seed gives the same ones for any generator of these widths.
        batch: Images whose latents are drawn together.
        precision: Number format to draw in.
        start: First latent, a multiple of `batch`: every batch has its own random state.

    Yields:
        uint8 images, shape (batch, H, H, 3), on the generator's device; the last may be shorter.
    """
    for first in range(start, start + count, batch):
        z, properties = draw_latents(generator, batch, seed=seed, index=first // batch)
        left = start + count - first
        drawn = _drawn(generator, z[:left], properties, precision)
        yield torch.cat(list(drawn))


def _drawn(
    generator: Generator, z: Tensor, properties: Tensor | None, precision: str
) -> Iterator[Tensor]:
    """Images of latents, uint8 (b, H, H, 3), as many at a time as is fastest."""
    most = images_at_once(generator.widest_map, z.device)
    with generator.synthesis.hold_kernels(torch.bfloat16 if precision == "bfloat16" else None):
        for rows in torch.arange(len(z)).chunk(-(-len(z) // most)):  # of nearly one size
            with autocast(z.device, precision):
                images = generator(z[rows], None if properties is None else properties[rows])
            yield to_uint8(images)


def draw_latents(
    generator: Generator, count: int, *, seed: int, index: int = 0
) -> tuple[Tensor, Tensor | None]:
    """Standard normal latents (count, Z) and property scores (count, P), drawn on the CPU."""
    device = next(generator.parameters()).device
    random = torch.Generator().manual_seed(mix_seed(seed, index) >> 1)
    z = torch.randn(count, generator.z_dim, generator=random).to(device)
    if not generator.num_properties:
        return z, None
    return z, torch.randn(count, generator.num_properties, generator=random).to(device)


def mix_seed(seed: int, index: int) -> int:
    """Mixes two words of 32 bits to 64 bits that share nothing with those of their neighbours.

    The result is that of NumPy's `SeedSequence([seed, index])`, which seeded every published
    sample; networks do without NumPy.
    Source: O'Neill, "Developing a seed_seq alternative", 2015,
    https://www.pcg-random.org/posts/developing-a-seed_seq-alternative.html.
    """
    scramble = _scrambler(0x43B0D7E5, 0x931E8875)
    pool = [scramble(word) for word in (seed, index, 0, 0)]
    for source in range(4):
        for target in [word for word in range(4) if word != source]:
            mixed = 0xCA01F9DD * pool[target] - 0x4973F715 * scramble(pool[source])
            pool[target] = _folded(mixed)
    scramble = _scrambler(0x8B51F9DD, 0x58F38DED)
    low, high = (scramble(word) for word in pool[:2])
    return high * WORD + low


def _scrambler(key: int, factor: int) -> Callable[[int], int]:
    """A hash of words that is another one at each call."""

    def scramble(word: int) -> int:
        nonlocal key
        word, key = word ^ key, key * factor % WORD
        return _folded(word * key)

    return scramble


def _folded(word: int) -> int:
    """The lower 32 bits, their upper half folded into the lower."""
    word %= WORD
    return word ^ word >> 16
