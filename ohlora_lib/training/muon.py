"""Muon: gradient descent whose steps change a filter bank in all directions alike.

Source: Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024,
https://arxiv.org/abs/2404.00498, and its optimiser Muon, https://kellerjordan.github.io/posts/muon
"""

from collections.abc import Iterable

import torch
from torch import Tensor

QUINTIC = (3.4445, -4.7750, 2.0315)  # coefficients of the iteration, from the source
ITERATIONS = 3


class Muon(torch.optim.Optimizer):
    """Optimises the filters, (outputs, ...), of convolutions before a batch normalisation.

    That normalisation undoes the scale of the filters, so each step sets their norm to
    √outputs; the learning rate is then the relative size of a step.
    """

    def __init__(self, filters: Iterable[Tensor], lr: float, momentum: float = 0.6) -> None:
        super().__init__(filters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        """Takes one step with Nesterov momentum."""
        for group in self.param_groups:
            for filters in group["params"]:
                memory = self.state[filters].setdefault("sum", torch.zeros_like(filters))
                memory.mul_(group["momentum"]).add_(filters.grad)
                step = filters.grad.add(memory, alpha=group["momentum"]).flatten(1)
                filters.mul_(len(filters) ** 0.5 / filters.norm())
                filters.sub_(group["lr"] * orthogonal(step).view_as(filters))


def orthogonal(matrix: Tensor) -> Tensor:
    """Brings all singular values of a matrix (R, C) near 1, by Newton-Schulz iteration."""
    first, second, third = QUINTIC
    found = matrix / (matrix.norm() + 1e-7)
    for _ in range(ITERATIONS):
        square = found @ found.T  # (R, R)
        found = first * found + (second * square + third * square @ square) @ found
    return found
