"""The networks give the public networks' figures on name-seeded weights (skipped without them)."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from ohlora_lib.finetune.losses import generator_loss, logistic_discriminator_loss, r1_penalty
from ohlora_lib.nets import Discriminator, Generator, PropertyCNN

PARITY = Path(__file__).parents[3] / "shared/reference/parity.json"
pytestmark = pytest.mark.skipif(not PARITY.exists(), reason="no reference figures here")
TOLERANCE = 1e-4  # relative; a missing blur or noise weight moves every figure by over 1e-2


@pytest.fixture(scope="module")
def cases() -> dict:
    return json.loads(PARITY.read_text())["cases"]


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
    """Compares norms relative to the largest of them.

    A pre-activation within rounding of zero falls on either side of the leaky ReLU's kink, and its
    slope is then 1 instead of 0.2. In a small gradient, one such pixel shows in the fourth digit:
    there is no exact figure to compare it with (seen: 2e-4 of the largest norm). One blur or one
    noise plane left out moves a norm by over 2e-2 of the largest.
    """
    assert found == pytest.approx(wanted, rel=0, abs=5e-4 * max(wanted.values()))
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
    d_loss = logistic_discriminator_loss(real_scores, net(fake.detach())) + 5 * penalty
    assert d_loss.item() == pytest.approx(small["d_loss"], rel=TOLERANCE)
    norms_agree(grad_norms(d_loss, net, list(small["d_grad_norm"])), small["d_grad_norm"])
    g_loss = generator_loss(fake_scores)
    assert g_loss.item() == pytest.approx(small["g_loss"], rel=TOLERANCE)
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
