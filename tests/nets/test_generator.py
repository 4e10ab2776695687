"""The generator at small sizes; test_parity compares it with the public one."""

import pytest
import torch

from ohlora_lib.nets import CompactCNN, Discriminator, Generator, PropertyCNN, stylegan2
from tests.checks import complaint


def small(image_px=16, **options):
    torch.manual_seed(0)
    sizes = {"z_dim": 16, "w_dim": 16, "fmaps_base": 128}
    net = Generator(image_px, **{**sizes, **options})
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("apply_noise.weight"):
                parameter.fill_(0.3)  # the initial zero would hide the noise
    return net.eval()


def latents(net, count=4, seed=1):
    random = torch.Generator().manual_seed(seed)
    z = torch.randn(count, net.z_dim, generator=random)
    if not net.num_properties:
        return z, None
    return z, torch.randn(count, net.num_properties, generator=random)


@pytest.mark.parametrize("num_properties", [0, 7])
@pytest.mark.parametrize("wide_dim", [0, 24])
def test_every_layout_draws_and_trains_every_parameter_in_use(wide_dim, num_properties):
    net = small(16, wide_dim=wide_dim, num_properties=num_properties)
    z, properties = latents(net, 3)
    images = net(z, properties)
    assert images.shape == (3, 3, 16, 16)
    assert torch.equal(images, net(z)) == (num_properties == 0)
    torch.testing.assert_close(net(z), net(z, torch.zeros(3, num_properties)))
    assert (net.styles(z).w2 is None) == (wide_dim == 0)
    assert ("mapping.label_weight" in net.state_dict()) == (num_properties > 0)
    images.square().sum().backward()
    without = {n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()}
    # Full-size images use only the last output layer, as published.
    outputs = ("synthesis.output0", "synthesis.output1")
    assert without == {f"{name}.{part}" for name in outputs for part in ("weight", "bias")}


def small_stylegan2(image_px=32, **options):
    torch.manual_seed(0)
    return stylegan2.Generator(image_px, z_dim=16, channel_base=256, **options).eval()


@pytest.mark.parametrize("make", [small, small_stylegan2])
def test_running_mean_follows_w_in_training_only(make):
    net = make()
    z, properties = latents(net)
    net(z, properties)
    assert not net.truncation.w_avg.any()
    w = net.train().styles(z, properties).w
    torch.testing.assert_close(net.truncation.w_avg, 0.005 * w.mean(dim=0).detach())


@torch.no_grad()
@pytest.mark.parametrize(("make", "new"), [(small, "dense_new"), (small_stylegan2, "fc_new")])
def test_new_branch_as_published_hardly_moves_w(make, new):
    """A new branch from N(0, 0.15^2) keeps w close to the base's; the usual one would not."""
    base = make(w_dim=64)
    net, same, other = (
        base.split(256, torch.Generator().manual_seed(seed)).eval() for seed in (3, 3, 4)
    )
    for name, value in base.state_dict().items():
        assert torch.equal(net.state_dict()[name], value)
    z, properties = latents(base, 16)
    w, split_w = base.styles(z, properties).w, net.styles(z, properties).w
    assert 0 < ((split_w - w).norm() / w.norm()).item() < 0.02
    usual = make(w_dim=64, wide_dim=256)
    usual.load_state_dict(base.state_dict(), strict=False)
    assert ((usual.styles(z, properties).w - w).norm() / w.norm()).item() > 0.3
    for name in (f"mapping.{new}{k}.{part}" for k in (0, 1) for part in ("weight", "bias")):
        tolerance = 0.05 if name.endswith("weight") else 0.3
        assert net.get_parameter(name).std().item() == pytest.approx(0.15, rel=tolerance)
    drawn, again, others = (
        one.get_parameter(f"mapping.{new}0.weight") for one in (net, same, other)
    )
    assert torch.equal(drawn, again)  # depends on the seed only
    assert not torch.equal(drawn, others)
    with pytest.raises(ValueError, match="already has a split mapping. Use recipe v8"):
        net.split(24, torch.Generator())


@torch.no_grad()
@pytest.mark.parametrize("layers", [2, 8])
def test_the_last_two_layers_of_a_stylegan2_are_split(layers):
    base = small_stylegan2(w_dim=12, mapping_layers=layers)
    net, z = base.split(24, torch.Generator().manual_seed(0)).eval(), latents(base)[0]
    shapes = {name: p.shape for name, p in net.named_parameters() if "new" in name}
    assert shapes["mapping.fc_new0.weight"] == (24, 16 if layers == 2 else 12)
    assert shapes["mapping.fc_new1.weight"] == (12, 24)
    styles = net.styles(z)
    assert torch.equal(styles.w1_, base.styles(z).w)
    assert torch.equal(styles.w, styles.w1_ + styles.w2_)
    getattr(net.mapping, f"fc{layers - 2}").weight.add_(1.0)  # not above the new branch
    assert torch.equal(net.styles(z).w2_, styles.w2_)
    assert not torch.equal(net.styles(z).w1_, styles.w1_)


@torch.no_grad()
@pytest.mark.parametrize(
    ("make", "layout"),
    [
        *((small, layout) for layout in (torch.contiguous_format, torch.channels_last)),
        (small_stylegan2, torch.contiguous_format),
    ],
)
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_held_kernels_draw_the_same_and_are_released(make, dtype, layout):
    net = make(64).to(memory_format=layout)
    z, properties = latents(net, 2)
    exact = net(z, properties)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is not None):
        wanted = net(z, properties)
        assert (wanted - exact).norm() < 0.05 * exact.norm()
        with net.synthesis.hold_kernels(dtype):
            held = net(z, properties)
            summed = dtype is None or make is small_stylegan2  # its pictures, in float32
            assert (held.dtype == torch.float32) == summed
            assert (held - wanted).norm() < (0.05 if dtype else 1e-5) * wanted.norm()
            for name, parameter in net.synthesis.named_parameters():
                if name in ("layer3.weight", "b8.conv1.weight"):
                    parameter.zero_()
            assert torch.equal(net(z, properties), held)  # computed once
        assert not torch.allclose(net(z, properties), wanted, atol=0.1)
    with pytest.raises(RuntimeError, match="midway"), net.synthesis.hold_kernels(dtype):
        raise RuntimeError("midway")
    assert all(getattr(layer, "held", None) is None for layer in net.modules())
    assert not any(name.endswith("held") for name in net.state_dict())


@torch.no_grad()
def test_level_of_detail_fades_from_one_output_and_one_input_to_the_next():
    net = small(32)
    wp = net.styles(*latents(net)).w.unsqueeze(1).expand(-1, 8, -1)
    draw = {lod: net.synthesis(wp, "fixed", lod) for lod in (0.0, 0.25, 1.0, 1.5, 2.0)}
    assert [x.shape[-1] for x in draw.values()] == [32, 32, 16, 16, 8]
    coarse = torch.nn.functional.interpolate(draw[1.0], scale_factor=2.0)
    torch.testing.assert_close(draw[0.25], draw[0.0].lerp(coarse, 0.25))
    assert not torch.allclose(draw[0.0], coarse, atol=0.05)
    judge, given = Discriminator(32, fmaps_base=128, fmaps_max=32), torch.randn(4, 3, 32, 32)
    full, half = judge(given), judge(torch.nn.functional.avg_pool2d(given, 2), lod=1.0)
    gap = (full - half).abs().max().item()
    assert gap > 1e-3
    assert (judge(given, lod=1e-6) - full).abs().max().item() < 0.01 * gap
    assert (judge(given, lod=1 - 1e-6) - half).abs().max().item() < 0.01 * gap
    assert {judge(images, lod=lod).shape for lod, images in draw.items()} == {(4, 1)}


def images(px, count=2):
    return torch.zeros(count, 3, px, px)


POWER = "it must be a power of"
REFUSED = [  # a call that must fail, its message
    *((lambda px=px: Generator(px), f"image_px is {px}; {POWER}") for px in (4, 12, 2048, 0)),
    *((lambda px=px: Discriminator(px), f"image_px is {px}; {POWER}") for px in (4, 12, 2048, 0)),
    (lambda: stylegan2.Generator(48), f"image_px is 48; {POWER}"),
    (lambda: stylegan2.Generator(8, mapping_layers=0), "mapping_layers is 0; it must be"),
    (lambda: small(8)(torch.zeros(4, 16), noise="none"), "noise is 'none'"),
    (lambda: small(8)(torch.zeros(4, 15)), "z has shape (4, 15); it must be (any, 16)"),
    (lambda: small(8)(torch.zeros(4, 16), torch.zeros(4, 6)), "properties has shape"),
    (lambda: Discriminator(8, fmaps_base=64)(images(4)), "images has shape (2, 3, 4, 4)"),
    (
        lambda: Discriminator(8, fmaps_base=64)(images(8), torch.zeros(2, 3)),
        "properties has shape",
    ),
    (lambda: stylegan2.Discriminator(16, channel_base=64)(images(8)), "images has shape"),
    (lambda: PropertyCNN("gender", image_px=32, width=0.125)(images(64)), "images has shape"),
    (
        lambda: PropertyCNN("quality", image_px=8),
        "image_px 8 leaves a crop of 2x4 pixels for 'quality'",
    ),
    *((lambda px=px: CompactCNN(["a"], image_px=px), f"image_px is {px}; ") for px in (8, 48)),
    (
        lambda: small_stylegan2(mapping_layers=1).split(24, torch.Generator()),
        "mapping_layers is 1; it must be at least 2 to be split; r",
    ),
]


@pytest.mark.parametrize(("call", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_arguments_that_do_not_fit_are_refused(call, said):
    assert said in complaint(call)
