"""Stops a training at the step where a number is no number any more.

The gradients' largest value travels to the host together with the loss, which the step rules need
there anyway: no step waits for the device once more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor


class NotFiniteError(ArithmeticError):
    """A loss, gradient or score is NaN or infinite; the message is one line."""

    exit_status = 1


def with_gradient(loss: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    """The loss and the largest absolute gradient of what was updated, (2,), on the device."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    largest = torch.nn.utils.get_total_norm(gradients, float("inf"))
    return torch.stack([loss.detach().float(), largest.float()])


def finite_loss(values: Tensor, name: str) -> float:
    """The loss on the host.

    Args:
        values: A loss, or what `with_gradient` gave.
        name: What the loss is called.

    Raises:
        NotFiniteError: If it or a gradient is NaN or infinite.
    """
    loss, *gradient = values.reshape(-1).tolist()  # the one host sync
    check_finite({name: loss} | {f"a gradient of {name}": value for value in gradient})
    return loss


def check_finite(numbers: Mapping[str, float]) -> None:
    """Raises if one of them is NaN or infinite; names it.

    Raises:
        NotFiniteError: One line.
    """
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise NotFiniteError(f"{name} is {value}")
