"""Properties of the generator at small sizes; figures of the public network are in test_parity."""

import pytest
import torch

from ohlora_lib.io.weights import split_mapping
from ohlora_lib.nets import Generator
from ohlora_lib.nets.generator import Mapping, Truncation, feature_maps


def small(image_px=16, **options):
    torch.manual_seed(0)
    sizes = {"z_dim": 16, "w_dim": 16, "fmaps_base": 128}
    net = Generator(image_px, **{**sizes, **options})
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("apply_noise.weight"):
                parameter.fill_(0.3)  # zero at the start, which would hide the noise
    return net.eval()


def latents(net, count=4, seed=1):
    random = torch.Generator().manual_seed(seed)
    z = torch.randn(count, net.z_dim, generator=random)
    if not net.num_properties:
        return z, None
    return z, torch.randn(count, net.num_properties, generator=random)


@pytest.mark.parametrize("num_properties", [0, 7])
@pytest.mark.parametrize("wide_dim", [0, 24])
@pytest.mark.parametrize("image_px", [8, 16, 32, 64])
@torch.no_grad()
def test_shapes(image_px, wide_dim, num_properties):
    net = small(image_px, wide_dim=wide_dim, num_properties=num_properties)
    z, properties = latents(net, 3)
    images = net(z, properties)
    assert images.shape == (3, 3, image_px, image_px)
    assert images.std().item() > 0.1  # a dead network gives one colour
    styles = net.styles(z, properties)
    assert styles.w.shape == (3, 16)
    assert (styles.w2 is None) == (wide_dim == 0)
    if wide_dim:
        assert styles.w2.shape == (3, 24)
        torch.testing.assert_close(styles.w1_ + styles.w2_, styles.w)
    assert ("mapping.label_weight" in net.state_dict()) == (num_properties > 0)


def test_feature_maps():
    assert [feature_maps(px, 2048, 96) for px in (4, 16, 32, 64)] == [96, 96, 64, 32]
    assert feature_maps(1024, 64, 96) == 1  # never none


@pytest.mark.parametrize("wide_dim", [0, 24])
def test_gradient_reaches_every_parameter_in_use(wide_dim):
    net = small(16, wide_dim=wide_dim)
    net(*latents(net)).square().sum().backward()
    without = {n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()}
    # Full-size images are drawn by the last output alone, as published.
    outputs = ("synthesis.output0", "synthesis.output1")
    assert without == {f"{name}.{part}" for name in outputs for part in ("weight", "bias")}


@torch.no_grad()
def test_properties_matter_and_none_means_zero():
    net = small()
    z, properties = latents(net)
    assert not torch.allclose(net(z, properties), net(z), atol=1e-2)
    torch.testing.assert_close(net(z), net(z, torch.zeros(4, 7)))


@torch.no_grad()
def test_fixed_noise_repeats_and_random_noise_does_not():
    net = small()
    z, properties = latents(net)
    assert torch.equal(net(z, properties), net(z, properties))
    first, second = (net(z, properties, noise="random") for _ in range(2))
    assert (first - second).abs().mean().item() > 1e-3


@torch.no_grad()
def test_psi_zero_gives_the_mean_image():
    net = small()
    net.truncation.w_avg.normal_()
    layers = 2 * net.synthesis.num_blocks
    images = net(*latents(net), psi=0.0, psi_layers=layers)
    torch.testing.assert_close(images, images[:1].expand_as(images))
    plain = net(*latents(net))
    assert (plain - plain[:1]).abs().mean().item() > 0.01  # else the test could not fail
    torch.testing.assert_close(net(*latents(net), psi=0.0, psi_layers=0), plain)


def test_truncation_pulls_the_first_layers_only():
    net = Truncation(2)
    net.w_avg.copy_(torch.tensor([1.0, 1.0]))
    wp = net(torch.tensor([[3.0, 5.0]]), 3, 0.5, 2)
    assert wp.tolist() == [[[2.0, 3.0], [2.0, 3.0], [3.0, 5.0]]]


def test_running_mean_follows_w_in_training_only():
    net = small()
    z, properties = latents(net)
    net(z, properties)
    assert not net.truncation.w_avg.any()
    w = net.train().styles(z, properties).w
    torch.testing.assert_close(net.truncation.w_avg, 0.005 * w.mean(dim=0).detach())


@torch.no_grad()
def test_new_branch_as_published_hardly_moves_w():
    """Drawn at N(0, 0.15^2) the split mapping looks like the base; drawn as usual it would not."""
    base = small(32, w_dim=64)
    net = split_mapping(base, 256, torch.Generator().manual_seed(0)).eval()
    for name, value in base.state_dict().items():
        assert torch.equal(net.state_dict()[name], value)
    z, properties = latents(base, 16)
    w, split_w = base.styles(z, properties).w, net.styles(z, properties).w
    gap = ((split_w - w).norm() / w.norm()).item()
    assert 0 < gap < 0.02
    usual = small(32, w_dim=64, wide_dim=256)
    usual.load_state_dict(base.state_dict(), strict=False)
    usual_gap = ((usual.styles(z, properties).w - w).norm() / w.norm()).item()
    assert usual_gap > 0.3
    drawn = net.mapping.dense_new0.weight
    assert drawn.std().item() == pytest.approx(0.15, rel=0.05)
    assert net.mapping.dense_new0.bias.std().item() == pytest.approx(0.15, rel=0.2)


def test_new_branch_is_drawn_by_its_random_state_alone():
    base = small(8)
    nets = [split_mapping(base, 24, torch.Generator().manual_seed(s)) for s in (3, 3, 4)]
    first, same, other = (net.mapping.dense_new1.weight for net in nets)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    with pytest.raises(ValueError, match="split mapping already"):
        split_mapping(nets[0], 24, torch.Generator())


@torch.no_grad()
def test_bfloat16_path_agrees_with_float32():
    """Under autocast upsampling and convolution are one kernel; unflipped it would be far off."""
    net = small(64, fmaps_base=512)
    z, properties = latents(net, 8)
    slow = net(z, properties)
    with torch.autocast("cpu", torch.bfloat16):
        fast = net(z, properties).float()
    error = ((fast - slow).square().mean().sqrt() / slow.std()).item()
    assert 0 < error < 0.05


@torch.no_grad()
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_held_kernels_draw_the_same_and_are_let_go(dtype, layout):
    net = small(64, fmaps_base=512).to(memory_format=layout)
    z, properties = latents(net, 2)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is not None):
        wanted = net(z, properties)
        with net.synthesis.hold_kernels(dtype):
            held = net(z, properties)
            assert (held - wanted).norm() < (0.05 if dtype else 1e-5) * wanted.norm()
            net.synthesis.layer3.weight.zero_()
            assert torch.equal(net(z, properties), held)  # made once
        assert not torch.allclose(net(z, properties), wanted, atol=0.1)
    with pytest.raises(RuntimeError, match="midway"), net.synthesis.hold_kernels(dtype):
        raise RuntimeError("midway")
    assert all(getattr(layer, "held", None) is None for layer in net.modules())
    assert not any(name.endswith("held") for name in net.state_dict())


@torch.no_grad()
def test_level_of_detail():
    net = small(32)
    w = net.styles(*latents(net)).w
    wp = w.unsqueeze(1).expand(-1, 8, -1)
    draw = {lod: net.synthesis(wp, "fixed", lod) for lod in (0.0, 0.25, 1.0, 1.5, 2.0)}
    assert {lod: x.shape[-1] for lod, x in draw.items()} == {
        0.0: 32, 0.25: 32, 1.0: 16, 1.5: 16, 2.0: 8,
    }  # fmt: skip
    coarse = torch.nn.functional.interpolate(draw[1.0], scale_factor=2.0)
    torch.testing.assert_close(draw[0.25], draw[0.0].lerp(coarse, 0.25))
    assert not torch.allclose(draw[0.0], coarse, atol=0.05)


@pytest.mark.parametrize("image_px", [4, 12, 2048, 0])
def test_bad_resolution(image_px):
    with pytest.raises(ValueError, match=f"image_px is {image_px}; it must be a power of two"):
        Generator(image_px)


def test_bad_arguments():
    net = small(8)
    z, properties = latents(net)
    with pytest.raises(ValueError, match="noise is 'none'"):
        net(z, properties, noise="none")
    with pytest.raises(ValueError, match="z has shape"):
        net(z[:, :-1], properties)
    with pytest.raises(ValueError, match="properties has shape"):
        net(z, properties[:, :-1])
    with pytest.raises(ValueError, match="fmaps_max 0"):
        Generator(8, fmaps_max=0)
    with pytest.raises(ValueError, match="w_dim 0"):
        Mapping(w_dim=0)
    with pytest.raises(ValueError, match="wide_dim -1"):
        Mapping(wide_dim=-1)
