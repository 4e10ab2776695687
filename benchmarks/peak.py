"""Measures this machine's peak FLOP/s with large convolutions and matrix products."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


def count_flops(work: Callable[[], object]) -> int:
    """Floating-point operations of the convolutions and matrix products in some work."""
    with _Counter() as counter:
        work()
    return counter.total


class _Counter(TorchDispatchMode):
    """Adds up torch's own formulas; its FlopCounterMode cannot follow R1's second derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        if func._overloadpacket is torch.ops.aten.convolution_backward and args[-1][1]:
            # Torch's formula counts the weights' gradient as if there were one group.
            whole = formula(*args[:-1], [False, True, False], out_val=result)
            self.total -= whole - whole // args[-2]
        return result


def seconds(work: Callable[[], object]) -> float:
    """Wall time of some work; waits for the GPU to finish."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_flops(device: torch.device, precision: str, *, size: int = 1, rounds: int = 5) -> float:
    """Highest FLOP/s measured for a 3x3 convolution or a matrix product.

    Args:
        device: Device to measure.
        precision: float32 or bfloat16.
        size: Multiplies the work; use 8 or more on a GPU.
        rounds: Timings of each operation; the best counts.
    """
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    options = {"dtype": dtype, "device": device}
    x = torch.ones(8 * size, 256, 32, 32, **options).to(memory_format=torch.channels_last)
    kernel = torch.ones(256, 256, 3, 3, **options).to(memory_format=torch.channels_last)
    a, b = torch.ones(2048 * size, 1024, **options), torch.ones(1024, 2048, **options)
    best = 0.0
    for work in (lambda: F.conv2d(x, kernel, padding=1), lambda: a @ b):
        flops = count_flops(work)
        best = max([best, *(flops / seconds(work) for _ in range(rounds))])
    return best
