"""Compiled drawing: a generator's many small operations fused, where a run is long enough to pay.

A CPU spends two thirds of the time of a generator outside its convolutions. `torch.compile` fuses
that, but takes a minute and a C++ compiler. It cannot differentiate twice, so R1 stays as it is.
Source: https://docs.pytorch.org/docs/stable/generated/torch.compile.html.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ohlora_lib.nets import Generator
from ohlora_lib.precision import autocast, cpu_seconds, remembered

Draw = Callable[..., Tensor]  # (generator, z, properties, options of Generator.forward) to images

ENOUGH = 2**34  # numbers in the widest maps of all images: 33,000 of 64 px, 4,000 of 256 px
LEAST_SPEEDUP = 1.3  # of drawing, to be worth the wait


def draw_eagerly(generator: nn.Module, *inputs: Any, **options: Any) -> Tensor:
    """Draws images as the generator is, one operation after another."""
    return generator(*inputs, **options)


@dataclass
class CompiledDraw:
    """Draws by compiled code; any generator, weights changed or not, each structure compiled once.

    Args:
        batch: Images at a time that are worth compiling for; other numbers, such as a short last
            batch, are drawn as ever.
    """

    batch: int
    _call: Draw = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Random noise drawn as PyTorch draws it, so that only the rounding differs.
        self._call = torch.compile(draw_eagerly, dynamic=False, options={"fallback_random": True})

    def __call__(self, generator: nn.Module, z: Tensor, *inputs: Any, **options: Any) -> Tensor:
        """Draws images of latents (B, Z), (B, 3, H, H)."""
        call = self._call if len(z) == self.batch else draw_eagerly
        return call(generator, z, *inputs, **options)


def pays(images: int, generator: Generator, device: torch.device, precision: str) -> bool:
    """Whether so many images are worth compiling for, here; says so if they are.

    Only on a CPU: on a GPU, recorded updates do away with most of what compiling would.
    """
    if device.type != "cpu" or images * generator.widest_map < ENOUGH:
        return False
    try:
        speedup = known_speedup(precision)
    except Exception as error:  # whatever a missing or broken compiler leads to
        reason = str(error).strip().splitlines()[0][:200]
        print(f"Nothing is compiled, as no compiler works here ({reason}).")  # noqa: T201
        return False
    if speedup < LEAST_SPEEDUP:
        return False
    times = f"{speedup:.1f} times as fast here, after a minute or two of compiling"
    print(f"Drawing by compiled code: {times}.")  # noqa: T201
    return True


def known_speedup(precision: str) -> float:
    """`drawing_speedup`, measured once for this processor and torch and then remembered."""
    return remembered(f"compiled-{precision}", lambda: drawing_speedup(precision))


@torch.no_grad()
def drawing_speedup(precision: str) -> float:
    """How many times less CPU time a small generator takes compiled, one thread."""
    generator = Generator(32, w_dim=64, fmaps_base=2048, num_properties=0).eval()
    z, cpu = torch.ones(16, generator.z_dim), torch.device("cpu")
    with autocast(cpu, precision):
        ways = (draw_eagerly, CompiledDraw(len(z)))
        seconds = [cpu_seconds(functools.partial(way, generator, z)) for way in ways]
    return seconds[0] / max(seconds[1], 1e-9)
