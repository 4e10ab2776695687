"""The property CNN: as published at 256 px, fewer blocks where the images are small."""

import pytest
import torch

from ohlora_lib.nets import PropertyCNN

PUBLISHED = {  # parameters; flattened features
    "gender": (5_845_697, 256 * 6 * 6),
    "quality": (6_828_481, 256 * 12 * 4),
    "age": (7_418_561, 256 * 12 * 4),
    "glass": (3_682_753, 256 * 12 * 2),
}


@pytest.mark.parametrize("prop", PUBLISHED)
def test_published_sizes(prop):
    with torch.device("meta"):
        net = PropertyCNN(prop)
    parameters = sum(p.numel() for p in net.parameters())
    assert (parameters, net.fc1[0].in_features) == PUBLISHED[prop]


@pytest.mark.parametrize(
    ("prop", "px", "convs"),
    [
        *(("gender", 32, 4), ("gender", 64, 5), ("gender", 256, 6)),
        *(("age", 32, 3), ("age", 64, 4), ("age", 256, 6)),
        *(("quality", 32, 2), ("quality", 64, 3), ("quality", 256, 5)),
        *(("glass", 32, 2), ("glass", 64, 3), ("glass", 256, 5), ("hat", 32, 4)),
    ],
)
@torch.no_grad()
def test_small_images_lose_the_last_blocks(prop, px, convs):
    net = PropertyCNN(prop, image_px=px, width=0.125).eval()
    assert len(net.pools) == convs
    scores = net(torch.rand(3, 3, px, px))
    assert scores.shape == (3, 1)
    assert ((scores > 0) & (scores < 1)).all()
    assert scores.std().item() > 0


@pytest.mark.parametrize("width", [0.01, 0.25, 0.3, 1.5])
@torch.no_grad()
def test_any_width(width):
    net = PropertyCNN("gender", image_px=32, width=width).eval()
    assert net.conv1[0].out_channels == max(1, round(32 * width))
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 1)


@torch.no_grad()
def test_only_the_crop_is_seen():
    net = PropertyCNN("gender", image_px=32, width=0.25, crop=[0.5, 1.0, 0.0, 0.5]).eval()
    images = torch.rand(2, 3, 32, 32)
    outside, inside = images.clone(), images.clone()
    outside[:, :, :16], outside[:, :, :, 16:] = 0, 0
    inside[:, :, 16:, :16] = 0
    assert torch.equal(net(outside), net(images))
    assert (net(inside) - net(images)).abs().min().item() > 1e-5


def test_gradient_reaches_every_parameter():
    torch.manual_seed(0)
    net = PropertyCNN("age", image_px=32, width=0.25)
    net.logits(torch.rand(4, 3, 32, 32)).square().sum().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


@torch.no_grad()
def test_signal_survives_the_convolutions():
    """PyTorch's own draw lets it die: different images would get equal features."""
    torch.manual_seed(0)
    net = PropertyCNN("gender", image_px=64).eval()
    features = net.features(torch.rand(8, 3, 64, 64) * torch.rand(8, 3, 1, 1))
    assert features.std(dim=0).mean().item() > 0.05


@torch.no_grad()
def test_forward_is_the_sigmoid_of_the_logits():
    net = PropertyCNN(image_px=32, width=0.125).eval()
    images = torch.rand(4, 3, 32, 32)
    torch.testing.assert_close(net(images), torch.sigmoid(net.logits(images)))


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"image_px 8 leaves a crop of 2x4 pixels for 'quality'"):
        PropertyCNN("quality", image_px=8)
    with pytest.raises(ValueError, match="a convolution needs 3x3"):
        PropertyCNN("gender", image_px=32, crop=[0.0, 0.05, 0.0, 1.0])
    with pytest.raises(ValueError, match="width is 0"):
        PropertyCNN("gender", image_px=32, width=0)
    net = PropertyCNN("gender", image_px=32, width=0.125)
    with pytest.raises(ValueError, match="images has shape"):
        net(torch.zeros(1, 3, 64, 64))
