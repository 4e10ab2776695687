"""The property CNN is as published at 256 px and has fewer blocks for small images."""

import pytest
import torch

from ohlora_lib.nets import PropertyCNN


@pytest.mark.parametrize(
    ("prop", "px", "convs"),
    [
        *(("gender", 32, 4), ("gender", 64, 5), ("age", 32, 3), ("age", 64, 4), ("hat", 32, 4)),
        *(("quality", 32, 2), ("quality", 64, 3), ("glass", 32, 2), ("glass", 64, 3)),
    ],
)
@torch.no_grad()
def test_small_images_lose_the_last_blocks(prop, px, convs):
    net = PropertyCNN(prop, image_px=px, width=0.125).eval()
    assert len(net.pools) == convs
    images = torch.rand(3, 3, px, px)
    scores = net(images)
    assert scores.shape == (3, 1)
    assert ((scores > 0) & (scores < 1)).all()
    assert scores.std().item() > 0
    assert PropertyCNN(image_px=32, width=0.01).conv1[0].out_channels == 1
    torch.testing.assert_close(scores, torch.sigmoid(net.logits(images)))


@torch.no_grad()
def test_only_the_crop_is_seen():
    net = PropertyCNN("gender", image_px=32, width=0.25, crop=[0.5, 1.0, 0.0, 0.5]).eval()
    images = torch.rand(2, 3, 32, 32)
    outside, inside = images.clone(), images.clone()
    outside[:, :, :16], outside[:, :, :, 16:] = 0, 0
    inside[:, :, 16:, :16] = 0
    assert torch.equal(net(outside), net(images))
    assert (net(inside) - net(images)).abs().min().item() > 1e-5


@torch.no_grad()
def test_signal_survives_the_convolutions():
    """With PyTorch's default initialisation, different images would get equal features."""
    torch.manual_seed(0)
    net = PropertyCNN("gender", image_px=64).eval()
    features = net.features(torch.rand(8, 3, 64, 64) * torch.rand(8, 3, 1, 1))
    assert features.std(dim=0).mean().item() > 0.05
