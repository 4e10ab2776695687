"""Losses without R1 match their closed forms; nets/test_parity tests R1 and gradients."""

import math

import pytest
import torch

from ohlora_lib.training.losses import discriminator_loss, generator_loss


def test_losses_are_means_of_softplus():
    real, fake = torch.tensor([[2.0], [0.0]]), torch.tensor([[-3.0], [0.0]])
    of_real = (math.log1p(math.exp(-2)) + math.log(2)) / 2
    of_fake = (math.log1p(math.exp(-3)) + math.log(2)) / 2
    assert discriminator_loss(real, real, fake, 0.0).item() == pytest.approx(of_real + of_fake)
    # Swapped scores mean a bad discriminator; the generator wants high scores.
    assert discriminator_loss(fake, fake, real, 0.0).item() > 2
    assert generator_loss(real).item() == pytest.approx(of_real)
    assert generator_loss(torch.full((2, 1), -1e4)).item() == pytest.approx(1e4)  # finite
