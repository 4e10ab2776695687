"""Losses against their closed forms."""

import math

import pytest
import torch

from ohlora_lib.training.losses import discriminator_loss, generator_loss, r1_penalty


def test_losses_are_means_of_softplus():
    real, fake = torch.tensor([[2.0], [0.0]]), torch.tensor([[-3.0], [0.0]])
    of_real = (math.log1p(math.exp(-2)) + math.log(2)) / 2
    of_fake = (math.log1p(math.exp(-3)) + math.log(2)) / 2
    assert discriminator_loss(real, real, fake, 0.0).item() == pytest.approx(of_real + of_fake)
    # Real and fake swapped is a bad discriminator; the generator wants high scores.
    assert discriminator_loss(fake, fake, real, 0.0).item() > 2
    assert generator_loss(real).item() == pytest.approx(of_real)
    assert generator_loss(torch.full((2, 1), -1e4)).item() == pytest.approx(1e4)  # finite


def test_r1_of_a_linear_score():
    """Gradient of sum(a x) is a: the penalty is |a|^2, whatever the batch, without gamma / 2."""
    torch.manual_seed(0)
    images = torch.randn(5, 3, 4, 4, requires_grad=True)
    weight = torch.randn(3, 4, 4, requires_grad=True)
    penalty = r1_penalty(images, (images * weight).sum(dim=(1, 2, 3))[:, None])
    torch.testing.assert_close(penalty, weight.square().sum())
    (gradient,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(gradient, 2 * weight)  # it can be differentiated again
