"""Distances between sets, against what is known of Gaussians."""

import numpy as np
import pytest
import torch

from ohlora_lib.evaluation.distances import DiversityScale, frechet_distance, share_inside


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_frechet_distance_of_gaussians():
    x = torch.randn(300, 4)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(x, x + torch.tensor([3.0, 0, -4, 0])) == pytest.approx(25, rel=1e-4)
    x = x - x.mean(dim=0)  # covariances S and 4 S: the trace of S + 4 S - 2 * 2 S is that of S
    trace = np.trace(np.cov(x.double().numpy(), rowvar=False))
    assert frechet_distance(x, 2 * x) == pytest.approx(trace, rel=1e-4)
    y = torch.randn(100, 4) @ torch.randn(4, 4)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-6)


def test_frechet_with_fewer_images_than_features():
    """A singular covariance must not give nan or a distance below zero."""
    x = torch.randn(10, 64)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-4)
    assert frechet_distance(x, torch.randn(10, 64) + 1) > 30


def test_share_inside_of_itself_a_copy_and_strangers():
    x = torch.randn(100, 3)
    assert share_inside(x, x) == 1
    assert share_inside(x + 100, x) == 0
    half = torch.cat([x, x + 100])
    assert share_inside(half, x) == 0.5
    assert share_inside(torch.randn(500, 3), x) == pytest.approx(0.95, abs=0.05)


def test_ball_reaches_the_third_neighbour():
    line = torch.arange(5.0)[:, None]  # the end point's third neighbour is 3 away
    assert share_inside(torch.tensor([[-2.9]]), line) == 1
    assert share_inside(torch.tensor([[-3.1]]), line) == 0
    assert share_inside(torch.tensor([[-1.1]]), line, k=1) == 0


def test_diversity_scale():
    scale = DiversityScale(torch.randn(1000, 8), 200)
    distance, recall = scale(torch.randn(200, 8))
    assert distance == pytest.approx(1, abs=0.05)
    assert recall == pytest.approx(1, abs=0.15)
    collapsed = torch.randn(1, 8) + 1e-3 * torch.randn(200, 8)
    distance, recall = scale(collapsed)
    assert distance < 0.01
    assert recall < 0.1
    assert scale(torch.randn(1, 8).expand(200, 8)) == pytest.approx((0, 0), abs=0.05)


def test_diversity_scale_sees_half_of_the_modes_missing():
    modes = torch.randn(8, 6) * 10
    selected = modes.repeat(125, 1) + torch.randn(1000, 6)
    all_modes = modes.repeat(25, 1) + torch.randn(200, 6)
    half = modes[:4].repeat(50, 1) + torch.randn(200, 6)
    scale = DiversityScale(selected, 200)
    assert scale(all_modes)[1] > 0.85
    assert 0.4 < scale(half)[1] < 0.65
