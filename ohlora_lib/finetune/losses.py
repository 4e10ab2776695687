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
