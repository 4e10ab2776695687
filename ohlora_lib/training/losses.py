"""Losses of StyleGAN training, logistic with R1 on the real images, and their guard.

Axes: B batch, C channels, H height, W width.
Source: Mescheder et al., "Which Training Methods for GANs do actually Converge?", 2018,
https://arxiv.org/abs/1801.04406.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def generator_loss(fake_scores: Tensor) -> Tensor:
    """Non-saturating loss softplus(-D(fake)), averaged; scores (B, 1), result ()."""
    return F.softplus(-fake_scores).mean()


def discriminator_loss(
    real_images: Tensor, real_scores: Tensor, fake_scores: Tensor, r1_gamma: float
) -> Tensor:
    """softplus(D(fake)) + softplus(-D(real)), each averaged, and gamma / 2 times the R1 penalty.

    Gamma 0 leaves the penalty out; else the real images (B, C, H, W) must require a gradient.
    Scores (B, 1), result ().
    """
    loss = F.softplus(fake_scores).mean() + F.softplus(-real_scores).mean()
    return loss + r1_gamma / 2 * r1_penalty(real_images, real_scores) if r1_gamma else loss


def r1_penalty(real_images: Tensor, real_scores: Tensor) -> Tensor:
    """Mean squared length of the scores' gradient at the real images, to be differentiated again.

    Images (B, C, H, W) and scores (B, 1) as above; the result () has no factor gamma / 2.
    """
    (gradient,) = torch.autograd.grad(real_scores.sum(), real_images, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean()


class NotFiniteError(ArithmeticError):
    """A loss, gradient or score is NaN or infinite; the message is one line."""

    exit_status = 1


def with_gradient(loss: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    """The loss and the largest absolute gradient of what was updated, (2,), on the device.

    Both travel to the host together: no step waits for the device once more.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    largest = torch.nn.utils.get_total_norm(gradients, float("inf"))
    return torch.stack([loss.detach().float(), largest.float()])


def finite_loss(values: Tensor, name: str) -> float:
    """The loss on the host, of a loss or what `with_gradient` gave.

    Raises:
        NotFiniteError: If the loss, which the message calls `name`, or the gradient is not finite.
    """
    loss, *gradient = values.reshape(-1).tolist()  # the one host sync
    check_finite({name: loss} | {f"a gradient of {name}": value for value in gradient})
    return loss


def check_finite(numbers: Mapping[str, float]) -> None:
    """Raises NotFiniteError, one line that names it, if a number is NaN or infinite."""
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise NotFiniteError(f"{name} is {value}")
