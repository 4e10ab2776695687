"""The networks give the public networks' figures on name-seeded weights."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch

from ohlora_lib.nets import Discriminator, Generator, PropertyCNN, layers
from ohlora_lib.nets.layers import leaky
from ohlora_lib.training.losses import discriminator_loss, generator_loss, r1_penalty
from tests.log_samples import DATA

TOLERANCE = 1e-4  # relative; a missing blur or noise weight moves every figure by over 1e-2


@pytest.fixture(scope="module")
def cases() -> dict:
    return json.loads((DATA / "parity.json").read_text())["cases"]


def normal(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    draw = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    return torch.from_numpy(np.asarray(draw, dtype=np.float32))


def scale_of(name: str) -> float:
    if name.endswith(".bias") or name.endswith("apply_noise.weight") or name == "truncation.w_avg":
        return 0.1
    return 100.0 if name.startswith("mapping.dense") else 1.0


def seeded(net: torch.nn.Module, shapes: dict[str, list[int]]) -> torch.nn.Module:
    state = net.state_dict()
    assert {k: list(v.shape) for k, v in state.items()} == shapes
    for name, tensor in state.items():
        if "blur.kernel" not in name and name.split(".")[-1] != "lod":
            tensor.copy_(normal(name, tuple(tensor.shape)) * scale_of(name))
    return net.eval()


def agrees(tensor: torch.Tensor, figure: dict) -> None:
    flat = tensor.detach().double().numpy().ravel()
    assert list(tensor.shape) == figure["shape"]
    np.testing.assert_allclose(flat.mean(), figure["mean"], rtol=TOLERANCE, atol=1e-6)
    np.testing.assert_allclose(flat.std(ddof=1), figure["std"], rtol=TOLERANCE)
    scale = np.abs(figure["value"]).max()
    np.testing.assert_allclose(
        flat[figure["index"]], figure["value"], rtol=TOLERANCE, atol=TOLERANCE * scale
    )


def grad_norms(loss: torch.Tensor, net: torch.nn.Module, names: list[str]) -> dict[str, float]:
    parameters = dict(net.named_parameters())
    gradients = torch.autograd.grad(loss, [parameters[n] for n in names], allow_unused=True)
    return {
        n: 0.0 if g is None else g.norm().item() for n, g in zip(names, gradients, strict=True)
    }


def norms_agree(found: dict[str, float], wanted: dict[str, float]) -> None:
    """Compares norms one by one; small ones are sums that cancel, so they know fewer digits."""
    assert found == pytest.approx(wanted, rel=TOLERANCE, abs=TOLERANCE / 10 * max(wanted.values()))
    zero = [name for name, norm in wanted.items() if norm == 0]  # such as a label weight at zero
    assert [found[name] for name in zero] == [0.0] * len(zero)


@pytest.fixture(scope="module")
def small(cases: dict) -> dict:
    return cases["small-128"]


@pytest.fixture(scope="module")
def latents() -> tuple[torch.Tensor, torch.Tensor]:
    return normal("z", (4, 512)), normal("label", (4, 7))


SIZES = {"fmaps_base": 2048, "fmaps_max": 64}


def test_plain_generator(small: dict, latents: tuple) -> None:
    net = seeded(Generator(128, **SIZES), small["base_generator_params"])
    agrees(net(*latents), small["base_image"])
    agrees(net.styles(*latents).w, small["base_w"])
    agrees(net(*latents, psi=0.7, psi_layers=8), small["base_image_psi0.7_layers8"])


def test_split_generator(small: dict, latents: tuple) -> None:
    net = seeded(Generator(128, wide_dim=2048, **SIZES), small["v9_generator_params"])
    agrees(net(*latents), small["v9_image"])
    agrees(net(*latents, psi=0.7, psi_layers=8), small["v9_image_psi0.7_layers8"])
    styles = net.styles(*latents)
    for name in ("w", "w1", "w2", "w1_", "w2_"):
        agrees(getattr(styles, name), small[f"v9_{name}"])


def test_discriminator_losses_and_gradients(small: dict, latents: tuple) -> None:
    generator = seeded(Generator(128, wide_dim=2048, **SIZES), small["v9_generator_params"])
    net = seeded(Discriminator(128, **SIZES), small["discriminator_params"])
    real = (normal("real", (4, 3, 128, 128)) * 0.5).requires_grad_()
    agrees(net(real, latents[1]), small["discriminator_scores"])
    fake = generator(latents[0])
    real_scores, fake_scores = net(real), net(fake)
    assert real_scores.flatten().tolist() == pytest.approx(small["real_scores"], rel=TOLERANCE)
    assert fake_scores.flatten().tolist() == pytest.approx(small["fake_scores"], rel=TOLERANCE)
    penalty = r1_penalty(real, real_scores)
    assert penalty.item() == pytest.approx(small["r1_penalty"], rel=TOLERANCE)
    d_loss = discriminator_loss(real, real_scores, net(fake.detach()), r1_gamma=10.0)
    assert d_loss.item() == pytest.approx(small["d_loss"], rel=TOLERANCE)
    norms_agree(grad_norms(d_loss, net, list(small["d_grad_norm"])), small["d_grad_norm"])
    g_loss = generator_loss(fake_scores)
    assert g_loss.item() == pytest.approx(small["g_loss"], rel=TOLERANCE)
    found, wanted = grad_norms(g_loss, generator, list(small["g_grad_norm"])), small["g_grad_norm"]
    # In float32 one pre-activation on the other side of the leaky ReLU's kink (see below) moves
    # norms by 1.6e-3 of the largest; a blur or a noise plane left out by over 2e-2.
    assert found == pytest.approx(wanted, rel=0, abs=3e-3 * max(wanted.values()))


KINK = (20, 24645)  # call of the activation (layer10's), element of its input


def test_generator_gradients(small: dict, latents: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, where nothing is left to rounding but what the reference's float32 rounded.

    One pre-activation of layer10 is 1.8e-6 of its layer's deviation above zero; rounding put it
    below zero in the reference, so its slope there was 0.2. With that one slope set the same, all
    81 norms agree; no other of the pre-activations nearest to zero does that.
    """
    calls = []

    def on_the_reference_side(x: torch.Tensor, **_: bool) -> torch.Tensor:
        calls.append(x)
        if len(calls) - 1 != KINK[0]:
            return leaky(x)
        value = x.flatten()[KINK[1]].item()
        assert 0 < value < 1e-5
        slope = torch.where(x > 0, 1.0, 0.2).to(x)
        slope.view(-1)[KINK[1]] = 0.2
        return x * slope

    monkeypatch.setattr("ohlora_lib.nets.generator.leaky", on_the_reference_side)
    generator = seeded(Generator(128, wide_dim=2048, **SIZES), small["v9_generator_params"])
    judge = seeded(Discriminator(128, **SIZES), small["discriminator_params"]).double()
    g_loss = generator_loss(judge(generator.double()(latents[0].double())))
    norms_agree(grad_norms(g_loss, generator, list(small["g_grad_norm"])), small["g_grad_norm"])


def test_unconditional_layout(cases: dict) -> None:
    case = cases["unconditional-128"]
    net = seeded(Generator(128, num_properties=0, **SIZES), case["generator_params"])
    agrees(net(normal("z", (4, 512))), case["image"])
    agrees(net.styles(normal("z", (4, 512))).w, case["w"])
    judge = seeded(Discriminator(128, num_properties=0, **SIZES), case["discriminator_params"])
    agrees(judge(normal("real", (4, 3, 128, 128)) * 0.5), case["discriminator_scores"])


@pytest.mark.parametrize("prop", ["gender", "quality", "age", "glass"])
def test_property_cnn(cases: dict, prop: str) -> None:
    case = cases[f"cnn-{prop}"]
    net = PropertyCNN(prop).eval()
    state = net.state_dict()
    assert {k: list(v.shape) for k, v in state.items()} == case["params"]
    for name, tensor in state.items():
        scale = 2 / np.sqrt(tensor[0].numel()) if tensor.dim() > 1 else 0.1
        tensor.copy_(normal(name, tuple(tensor.shape)) * scale)
    images = (normal("cnn_image", (2, 3, 256, 256)) * 0.2 + 0.5).clamp(0, 1)
    assert net(images).flatten().tolist() == pytest.approx(case["output"], rel=TOLERANCE)
    assert sum(p.numel() for p in net.parameters()) == case["total"]


def without_bias(style: layers.Style, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    modulation = w @ (style.weight * style.weight_scale).T
    return layers.fused_style(x, *modulation.chunk(2, dim=1))


NO_BLUR = ("nets.layers.Blur.forward", lambda _, x, bias=None: x)
WRONG = {
    test_plain_generator: (
        NO_BLUR,
        ("nets.generator.FUSED_FROM_PX", 256),
        ("nets.layers.Noise.forward", lambda noise, x, _: x + noise.noise),
        ("nets.layers.Style.forward", without_bias),
        ("nets.generator.MAPPING_LR_MULTIPLIER", 0.011),
    ),
    test_discriminator_losses_and_gradients: (
        NO_BLUR,
        ("nets.discriminator.minibatch_deviation", lambda x: torch.cat([x, 0 * x[:, :1]], dim=1)),
        ("training.losses.r1_penalty", lambda x, scores: 2 * r1_penalty(x, scores)),
    ),
}
WRONG[test_split_generator] = WRONG[test_plain_generator]


@pytest.mark.parametrize(
    ("check", "place", "wrong"),
    [(check, *change) for check, changes in WRONG.items() for change in changes],
)
def test_a_wrong_network_or_loss_is_caught(
    small: dict,
    latents: tuple,
    monkeypatch: pytest.MonkeyPatch,
    check: Callable,
    place: str,
    wrong: object,
) -> None:
    monkeypatch.setattr(f"ohlora_lib.{place}", wrong)
    with pytest.raises(AssertionError):
        check(small, latents)
