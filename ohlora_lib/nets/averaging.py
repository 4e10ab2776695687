"""Running averages of weights, in place."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def move_average(average: nn.Module, net: nn.Module, keep: float) -> None:
    """Moves averaged weights toward the trained ones; buffers are copied.

    Args:
        average: Network that holds the average.
        net: Trained network of the same architecture.
        keep: Share of the old average that stays, from 0 to 1.
    """
    for mean, value in zip(average.parameters(), net.parameters(), strict=True):
        mean.lerp_(value, 1 - keep)
    for mean, value in zip(average.buffers(), net.buffers(), strict=True):
        mean.copy_(value)
