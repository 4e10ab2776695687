"""Properties of the discriminator at small sizes."""

import pytest
import torch
import torch.nn.functional as F

from ohlora_lib.nets import Discriminator, Generator


def small(image_px=16, **options):
    torch.manual_seed(0)
    return Discriminator(image_px, **{"fmaps_base": 128, "fmaps_max": 32, **options})


@pytest.mark.parametrize("num_properties", [0, 7])
@pytest.mark.parametrize("image_px", [8, 16, 32, 64])
@torch.no_grad()
def test_shapes(image_px, num_properties):
    scores = small(image_px, num_properties=num_properties)(torch.randn(4, 3, image_px, image_px))
    assert scores.shape == (4, 1)
    assert scores.std().item() > 1e-4  # different images, different scores


def test_gradient_reaches_every_parameter_in_use():
    net = small(16)
    net(torch.randn(4, 3, 16, 16), torch.randn(4, 7)).square().sum().backward()
    without = {n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()}
    # Full-size images enter by the first input alone.
    assert without == {f"input{k}.{part}" for k in (1, 2) for part in ("weight", "bias")}


@torch.no_grad()
def test_properties_matter_and_none_means_zero():
    net, images = small(), torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(net(images), net(images, torch.zeros(4, 7)))
    assert (net(images) - net(images, torch.ones(4, 7))).abs().min().item() > 1e-3


@pytest.mark.parametrize("lod", [0.0, 0.4, 1.0, 1.75, 2.0])
@torch.no_grad()
def test_takes_what_the_generator_draws_at_each_level_of_detail(lod):
    net = small(32)
    generator = Generator(32, z_dim=16, w_dim=16, fmaps_base=128).eval()
    wp = generator.styles(torch.randn(4, 16)).w.unsqueeze(1).expand(-1, 8, -1)
    assert net(generator.synthesis(wp, "fixed", lod), lod=lod).shape == (4, 1)


@torch.no_grad()
def test_level_of_detail_fades_from_one_input_to_the_next():
    net, images = small(32), torch.randn(4, 3, 32, 32)
    full, small_size = net(images), net(F.avg_pool2d(images, 2), lod=1.0)
    gap = (full - small_size).abs().max().item()
    assert gap > 1e-3
    assert (net(images, lod=1e-6) - full).abs().max().item() < 0.01 * gap
    assert (net(images, lod=1 - 1e-6) - small_size).abs().max().item() < 0.01 * gap


@torch.no_grad()
def test_bfloat16_agrees_with_float32():
    net, images = small(32), torch.randn(8, 3, 32, 32)
    slow = net(images)
    with torch.autocast("cpu", torch.bfloat16):
        fast = net(images)
    assert fast.dtype == torch.float32
    assert 0 < ((fast - slow).square().mean().sqrt() / slow.std()).item() < 0.1


def test_bad_arguments():
    with pytest.raises(ValueError, match="image_px is 20"):
        small(20)
    net = small(16)
    with pytest.raises(ValueError, match=r"images has shape \(2, 3, 8, 8\)"):
        net(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match="properties has shape"):
        net(torch.zeros(2, 3, 16, 16), torch.zeros(2, 3))
