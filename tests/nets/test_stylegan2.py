"""With weights seeded by name, StyleGAN2's networks give the two public references' figures."""

import json
import re

import pytest
import torch
from torch.nn import functional

from ohlora_lib.io.stylegan2.rosinality import official, rosinality
from ohlora_lib.nets import layers
from ohlora_lib.nets.samples import sample_images
from ohlora_lib.nets.stylegan2 import Discriminator, Generator, generator
from ohlora_lib.nets.stylegan2 import layers as blocks
from ohlora_lib.training.losses import discriminator_loss, generator_loss
from tests.log_samples import DATA
from tests.nets.test_parity import TOLERANCE, agrees, grad_norms, normal

REFERENCE = json.loads((DATA / "stylegan2.json").read_text())
CASES, OTHER_LAYOUT = REFERENCE["cases"], REFERENCE["rosinality"]
NORM_TOLERANCE = 1e-3
SHARED = ("c_dim", "channel_base", "channel_max", "conv_clamp")
FIXED = ("resample_filter",)


def stored(name, shape):
    """The tensor that the references store under this name."""
    draw = normal(name, tuple(shape))
    if re.match(r"mapping\.fc|style\.", name):
        return draw * (100 if name.endswith("weight") else 10)
    if name.endswith(("affine.bias", "modulation.bias")):
        return 1 + 0.1 * draw
    small = (".bias", "noise_strength", "noise.weight", "w_avg", "latent_avg")
    return draw * 0.1 if name.endswith(small) else draw


def seeded(net, shapes):
    state = net.state_dict()
    fixed = {name: t for name, t in state.items() if name.endswith(FIXED)}
    wanted = {name: stored(name, shape) for name, shape in shapes.items()}
    net.load_state_dict(wanted | fixed)  # strict
    return net.eval()


def networks(case):
    settings = case["settings"]
    options = {name: settings[name] for name in SHARED}
    own = {name: settings[name] for name in ("z_dim", "w_dim", "mapping_layers")}
    px = settings["img_resolution"]
    g = seeded(Generator(px, **own, **options), case["generator_params"])
    return g, seeded(Discriminator(px, **options), case["discriminator_params"])


def inputs(case):
    settings = case["settings"]
    z, c = (settings[name] for name in ("z_dim", "c_dim"))
    return normal("z", (4, z)), normal("label", (4, c)) if c else None


def near(figure):
    return pytest.approx(figure, rel=TOLERANCE)


def norms_agree(found, wanted):
    assert found == pytest.approx(wanted, rel=NORM_TOLERANCE)


def check_pictures(case):
    net, _ = networks(case)
    latents = inputs(case)
    agrees(net.styles(*latents).w, case["w"])
    agrees(net(*latents), case["image"])
    agrees(net(*latents, psi=0.7, psi_layers=4), case["image_psi0.7_cutoff4"])
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("noise_strength"):
                parameter.zero_()
    agrees(net(*latents), case["image_no_noise"])


def check_losses(case):
    """Scores, R1 with the gradients of its own gradient, and the generator's gradients."""
    net, judge = networks(case)
    latents, px = inputs(case), net.image_px
    real = (normal("real", (4, 3, px, px)) * 0.5).requires_grad_()
    scores = judge(real, latents[1])
    agrees(scores, case["discriminator_scores"])
    (gradient,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
    agrees(gradient, case["real_gradient"])
    agrees(gradient.square().sum(dim=(1, 2, 3)), case["r1_penalty"])
    certain = torch.full_like(scores, -100.0)  # fakes that add nothing to the loss
    d_loss = discriminator_loss(real, scores, certain, r1_gamma=10.0)
    assert d_loss.item() == near(case["d_loss_real_r1gamma10"])
    wanted = case["d_gradient_norms"]
    norms_agree(grad_norms(d_loss, judge, list(wanted)), wanted)
    g_loss = generator_loss(judge(net(*latents), latents[1]))
    assert g_loss.item() == near(case["g_loss"])
    wanted = case["g_gradient_norms"]
    norms_agree(grad_norms(g_loss, net, list(wanted)), wanted)


@pytest.mark.parametrize("name", CASES)
def test_pictures(name):
    check_pictures(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_scores_penalty_and_gradients(name):
    check_losses(CASES[name])


@pytest.mark.slow
def test_rosinalitys_layout():
    """Its tensors are renamed by `official`; a wrong name or shape would change the figures."""
    case, z = OTHER_LAYOUT, normal("z", (4, 64))
    shapes = {**case["generator_params"], "latent_avg": (64,)}
    net, judge = Generator(32, z_dim=64, w_dim=64).eval(), Discriminator(32).eval()
    for one, named in ((net, shapes), (judge, case["discriminator_params"])):
        tensors = {name: stored(name, shape) for name, shape in named.items()}
        one.load_state_dict(official(tensors))
        assert named.keys() == {n for n in rosinality(one.state_dict()) if "kernel" not in n}
    with torch.no_grad():
        agrees(net(z), case["image"])
        agrees(net(z, psi=0.7, psi_layers=8), case["image_truncation0_7_latent_avg"])
        real = normal("real", (4, 3, 32, 32)) * 0.5
        agrees(judge(real), case["discriminator_scores"])


def small(**options):
    torch.manual_seed(0)
    options = {"channel_base": 128, **options}
    return Generator(16, z_dim=8, w_dim=8, **options).eval(), Discriminator(16, **options).eval()


def largest_outputs(*nets):
    """Maps names of convolutions to the largest absolute output, filled at the next pass."""
    kinds, largest = (blocks.StyledConv, blocks.ToRGB, blocks.Conv), {}
    for name, layer in (pair for net in nets for pair in net.named_modules()):
        if isinstance(layer, kinds):
            layer.register_forward_hook(
                lambda _, __, y, name=name: largest.update({name: y.abs().max().item()})
            )
    return largest


def check_clamps(case):
    """The references' figures never reach 256. The skip has no limit, the way beside it less."""
    clamp = case["settings"]["conv_clamp"]
    net, judge = small(conv_clamp=clamp)
    largest = largest_outputs(net, judge)
    judge(100 * net(torch.randn(16, 8)))
    assert len(largest) == 8 + 8
    for name, value in largest.items():
        if clamp is None or name.endswith("skip"):
            assert value > 1.1 * (clamp or 0.1)
        else:
            gain = 0.5**0.5 if re.fullmatch(r"b\d+\.conv1", name) else 1
            assert value == pytest.approx(clamp * gain)


@pytest.mark.parametrize("clamp", [0.1, None])
def test_clamps(clamp):
    check_clamps({"settings": {"conv_clamp": clamp}})


KERNELS = blocks.StyledConv.kernels
FORWARD = {net: net.forward for net in (generator.Synthesis, blocks.ToRGB)}


def without_torgb_gain(layer, x, w):
    layer.style_scale = 1.0
    return FORWARD[blocks.ToRGB](layer, x, w)


def shifted(net, wp, noise):
    """Each layer takes the style vector of the layer before it."""
    return FORWARD[generator.Synthesis](net, wp.roll(1, dims=1), noise)


def mirrored(layer):
    kernel, power = KERNELS(layer)
    return (kernel.flip(2, 3) if layer.up else kernel), power


def pairs(x, _):
    return layers.minibatch_deviation(x, 2)


def own_planes(x, plane, mode):
    return layers.noise_planes(x, plane.T, mode)


def same_border(images):
    return functional.interpolate(images, scale_factor=2.0, mode="bilinear")


def without_skip(block, x):
    return block.conv1(block.conv0(block.fromrgb(x) if block.first else x))


WRONG_PICTURES = (
    ("layers.UP_GAIN", 1.0),  # the filter's gain in a layer
    ("layers.StyledConv.kernels", mirrored),
    ("layers.TAPS", (1, 2, 2, 1)),
    ("generator.double", lambda images: same_border(images) / 4),  # the filter's gain in a picture
    ("generator.double", same_border),
    ("layers.demodulation", lambda style, power: torch.ones(len(style), len(power))),
    ("layers.ToRGB.forward", without_torgb_gain),
    ("generator.Synthesis.forward", shifted),
    ("layers.noise_planes", own_planes),
    ("layers.noise_planes", lambda x, plane, _: torch.zeros_like(plane)),
    ("layers.GAIN", 1.0),
    ("generator.MAPPING_LR_MULTIPLIER", 0.011),
    ("generator.pixel_norm", lambda x: x),
    ("layers._affine", lambda w_dim, c: layers.EqualDense(w_dim, c)),  # gain sqrt(2)
)
WRONG_LOSSES = (
    ("layers.TAPS", (1, 2, 2, 1)),
    ("discriminator.SKIP_GAIN", 1.0),
    ("discriminator.Block.forward", without_skip),
    ("layers.GAIN", 1.0),
    ("discriminator.minibatch_deviation", pairs),
    ("discriminator.project", lambda x, cmap: (x * cmap).sum(dim=1, keepdim=True)),
    ("discriminator.project", lambda x, _: x.sum(dim=1, keepdim=True)),
    ("layers._affine", lambda w_dim, c: layers.EqualDense(w_dim, c)),  # gain sqrt(2)
)
WRONG_CLAMPS = (
    ("layers.clamped", lambda x, _: x),
    ("discriminator.SKIP_GAIN", 1.0),  # the limit beside the skip is 256 times this
)
WRONG = {
    check_pictures: WRONG_PICTURES,
    check_losses: WRONG_LOSSES,
    check_clamps: WRONG_CLAMPS,
}
MUTANTS = [
    (check, f"ohlora_lib.nets.stylegan2.{place}", wrong)
    for check, places in WRONG.items()
    for place, wrong in places
]


@pytest.mark.parametrize(("check", "place", "wrong"), MUTANTS)
def test_a_wrong_network_is_caught(monkeypatch, check, place, wrong):
    monkeypatch.setattr(place, wrong)
    case = CASES["conditional32"]
    if check is check_clamps:
        case = {"settings": {"conv_clamp": 0.1}}
    with pytest.raises(AssertionError):
        check(case)


def test_truncation_of_all_layers_gives_the_mean_face():
    net, _ = small(mapping_layers=2)
    z = torch.randn(6, 8)
    whole = net(z, psi=0.0, psi_layers=6)
    torch.testing.assert_close(whole, whole[:1].expand_as(whole))
    torch.testing.assert_close(net(z, psi=0.0, psi_layers=0), net(z))


def test_samples_and_fresh_noise():
    net, _ = small(c_dim=2)
    with torch.no_grad():
        net.synthesis.b16.conv0.noise_strength.fill_(1.0)
    (images,) = sample_images(net, 5, seed=3)
    assert images.shape == (5, 16, 16, 3)
    z = torch.randn(2, 8)
    assert not torch.equal(net(z, noise="random"), net(z, noise="random"))
    assert torch.equal(net(z), net(z, torch.zeros(2, 2)))  # scores of None mean zero
    assert not torch.equal(net(z), net(z, torch.ones(2, 2)))


@pytest.mark.parametrize("image_px", [8, 1024])
def test_smallest_and_largest_have_the_official_names(image_px):
    with torch.device("meta"):
        net, judge = Generator(image_px), Discriminator(image_px, c_dim=1)
    blocks = net.synthesis.num_blocks
    assert len(net.state_dict()) == 17 + 13 + 19 * (blocks - 1)
    assert f"b{image_px}.fromrgb.resample_filter" in judge.state_dict()
    assert net.synthesis.widest_map == (512 * 64 if image_px == 8 else 32 * 1024**2)


def test_other_filters_are_refused():
    for net in small():
        state = net.state_dict()
        name = next(name for name in state if name.endswith("b16.resample_filter"))
        with pytest.raises(ValueError, match="only .1, 3, 3, 1. is supported"):
            net.load_state_dict(state | {name: torch.ones(4, 4) / 16})
