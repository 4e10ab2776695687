"""Losses of StyleGAN training: logistic, with R1 on the real images.

Axes: B batch, C channels, H height, W width.
Source: Mescheder et al., "Which Training Methods for GANs do actually Converge?", 2018,
https://arxiv.org/abs/1801.04406.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def logistic_discriminator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """softplus(D(fake)) + softplus(-D(real)), each averaged; scores (B, 1), result ()."""
    return F.softplus(fake_scores).mean() + F.softplus(-real_scores).mean()


def generator_loss(fake_scores: Tensor) -> Tensor:
    """Non-saturating loss softplus(-D(fake)), averaged; scores (B, 1), result ()."""
    return F.softplus(-fake_scores).mean()


def discriminator_loss(
    real_images: Tensor, real_scores: Tensor, fake_scores: Tensor, r1_gamma: float
) -> Tensor:
    """Logistic loss and gamma / 2 times the R1 penalty, which 0 leaves out.

    Args:
        real_images: Shape (B, C, H, W), with `requires_grad` where gamma is not 0.
        real_scores: Shape (B, 1), made from them.
        fake_scores: Shape (B, 1).
        r1_gamma: Weight of the penalty; published: 10.
    """
    loss = logistic_discriminator_loss(real_scores, fake_scores)
    return loss + r1_gamma / 2 * r1_penalty(real_images, real_scores) if r1_gamma else loss


def r1_penalty(real_images: Tensor, real_scores: Tensor) -> Tensor:
    """Mean squared length of the scores' gradient at the real images, to be differentiated again.

    Args:
        real_images: Shape (B, C, H, W), with `requires_grad`, that `real_scores` were made from.
        real_scores: Shape (B, 1).

    Returns:
        Penalty, shape (), without the factor gamma / 2.
    """
    (gradient,) = torch.autograd.grad(real_scores.sum(), real_images, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean()
