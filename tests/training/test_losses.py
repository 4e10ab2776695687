"""Losses against their closed forms."""

import math

import pytest
import torch
import torch.nn.functional as F

from ohlora_lib.training.losses import generator_loss, logistic_discriminator_loss, r1_penalty


def test_losses_at_known_points():
    zero = torch.zeros(4, 1)
    assert logistic_discriminator_loss(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert generator_loss(zero).item() == pytest.approx(math.log(2))
    real, fake = torch.tensor([[2.0]]), torch.tensor([[-3.0]])
    wanted = math.log1p(math.exp(-2)) + math.log1p(math.exp(-3))
    assert logistic_discriminator_loss(real, fake).item() == pytest.approx(wanted)
    # Real and fake swapped is a bad discriminator; the generator wants high scores.
    assert logistic_discriminator_loss(fake, real).item() > 5
    assert generator_loss(fake).item() == pytest.approx(math.log1p(math.exp(3)))


def test_losses_are_means_and_stay_finite():
    scores = torch.tensor([[1.0], [-1.0]])
    both = (F.softplus(torch.tensor(1.0)) + F.softplus(torch.tensor(-1.0))) / 2
    assert generator_loss(scores).item() == pytest.approx(both.item())
    assert generator_loss(torch.full((2, 1), -1e4)).item() == pytest.approx(1e4)


def test_r1_of_a_linear_score():
    """Gradient of sum(a x) is a: the penalty is |a|^2, whatever the batch, without gamma / 2."""
    torch.manual_seed(0)
    images = torch.randn(5, 3, 4, 4, requires_grad=True)
    weight = torch.randn(3, 4, 4, requires_grad=True)
    scores = (images * weight).sum(dim=(1, 2, 3))[:, None]
    penalty = r1_penalty(images, scores)
    wanted = weight.square().sum()
    torch.testing.assert_close(penalty, wanted)
    (gradient,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(gradient, 2 * weight)  # it can be differentiated again
