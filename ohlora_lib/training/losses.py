"""Losses of StyleGAN training, logistic with R1 on real images, and checks for finite values.

Axes: B batch, C channels, H height, W width.
Source: Mescheder et al., "Which Training Methods for GANs do actually Converge?", 2018,
https://arxiv.org/abs/1801.04406.
"""

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
    """softplus(D(fake)) + softplus(-D(real)), each averaged, plus gamma / 2 times R1.

    Gamma 0 omits R1; otherwise, the real images (B, C, H, W) must require a gradient.
    Scores (B, 1), result ().
    """
    loss = F.softplus(fake_scores).mean() + F.softplus(-real_scores).mean()
    return loss + r1_gamma / 2 * r1_penalty(real_images, real_scores) if r1_gamma else loss


def r1_penalty(real_images: Tensor, real_scores: Tensor) -> Tensor:
    """Mean squared norm of the scores' gradient at the real images; differentiable.

    Images (B, C, H, W) and scores (B, 1) as above; the result () excludes the factor gamma / 2.
    """
    (gradient,) = torch.autograd.grad(real_scores.sum(), real_images, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean()


class NotFiniteError(ArithmeticError):
    """A loss, gradient or score is NaN or infinite; the message is one line."""

    exit_status = 1


def with_gradient(loss: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    """Returns the loss and the largest absolute gradient of the parameters, (2,), on the device.

    Both go to the host in one transfer, so that no step waits for the device twice.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    largest = torch.nn.utils.get_total_norm(gradients, float("inf"))
    return torch.stack([loss.detach().float(), largest.float()])


def finite_loss(values: Tensor, name: str) -> float:
    """Returns the loss on the host, given a loss or the result of `with_gradient`.

    Raises:
        NotFiniteError: If the loss, called `name` in the message, or the gradient is not finite.
    """
    loss, *gradient = values.reshape(-1).tolist()  # the one host sync
    check_finite({name: loss} | {f"a gradient of {name}": value for value in gradient})
    return loss


def check_finite(numbers: Mapping[str, float]) -> None:
    """Raises NotFiniteError, which names the number, if one is NaN or infinite."""
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise NotFiniteError(f"{name} is {value}")
