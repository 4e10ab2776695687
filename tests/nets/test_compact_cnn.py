"""The compact CNN predicts several properties in one pass, whatever else is in the batch."""

import pytest
import torch

from ohlora_lib.nets import CompactCNN


@pytest.mark.parametrize(("px", "blocks"), [(16, 1), (64, 3), (256, 5)])
@torch.no_grad()
def test_scores_of_every_property_do_not_depend_on_the_other_images(px, blocks):
    net = CompactCNN(["a", "b", "c"], image_px=px, width=0.25).eval()
    assert len(net.blocks) == blocks
    images = torch.rand(3, 3, px, px)
    scores = net(images)
    assert scores.shape == (3, 3)
    assert scores.std(dim=0).min().item() > 0
    torch.testing.assert_close(scores[1:2], net(images[1:2]))
    assert net.features(images).shape == (3, net.head.in_features // 4**2)


@torch.no_grad()
def test_calibration_scales_and_shifts_the_logits():
    net = CompactCNN(["a", "b"], image_px=16, width=0.25).eval()
    images = torch.rand(2, 3, 16, 16)
    as_trained = net.raw_logits(images)
    torch.testing.assert_close(net.logits(images), as_trained)
    net.calibration.copy_(torch.tensor([[2.0, 0.5], [1.0, -1.0]]))
    torch.testing.assert_close(net.logits(images)[:, 0], 2 * as_trained[:, 0] + 1)
    torch.testing.assert_close(net.logits(images)[:, 1], as_trained[:, 1] / 2 - 1)
