"""Muon's steps have the size that the learning rate asks for, in all directions alike."""

import pytest
import torch

from ohlora_lib.training.muon import Muon, orthogonal


def test_all_directions_of_a_gradient_get_about_the_same_step():
    torch.manual_seed(0)
    gradient = torch.randn(24, 24) * torch.logspace(0, -1, 24) @ torch.randn(24, 108)
    before, after = (torch.linalg.svdvals(each) for each in (gradient, orthogonal(gradient)))
    assert before[0] / before[11] > 5
    assert after[0] / after[11] < 2
    assert after.max() < 1.3


def test_steps_have_the_relative_size_of_the_learning_rate_and_reach_an_aim():
    torch.manual_seed(0)
    aim, start = torch.randn(2, 24, 12, 3, 3)
    aim *= 24**0.5 / aim.norm()
    filters = torch.nn.Parameter(100 * start)  # their scale does not matter, nor the gradient's
    optimizer, sizes = Muon([filters], 0.05), []
    for _ in range(60):
        filters.grad = 1e-3 * (filters.detach() - aim)
        before = filters.detach() * 24**0.5 / filters.detach().norm()
        optimizer.step()
        sizes.append(((filters.detach() - before).norm() / before.norm()).item())
    assert sizes[0] == pytest.approx(0.05, rel=0.25)
    assert max(sizes) < 0.06
    assert (filters - aim).norm() < 0.2 * (start * 24**0.5 / start.norm() - aim).norm()
