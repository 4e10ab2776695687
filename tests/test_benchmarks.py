"""Both implementations in every benchmark do the same work, so their ratio is meaningful."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import label_study, memory, plain
from benchmarks.cases import QUICK, QUICK_2, evaluation_cases, new_tuner, plain_tuner
from benchmarks.peak import count_flops, peak_flops
from ohlora_lib.nets import Discriminator, Generator, stylegan2
from ohlora_lib.nets.samples import to_signed
from ohlora_lib.population.faces.faces import draw_attributes

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")


def measured(out, module, *options):
    """Runs a benchmark from the command line; returns its JSON and its output."""
    command = [sys.executable, "-m", module, *options, "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.read_text()), done.stdout


@pytest.fixture
def float64():
    """AdamW's first updates are signs, so in float32 rounding alone makes two versions diverge."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.slow
def test_quick_measures_every_case(tmp_path):
    found, said = measured(tmp_path / "out.json", "benchmarks", "--quick")
    assert [row["case"].split(",")[0] for row in found["cases"]] == [
        *("v9 step", "update of D") * 2, "update of G", "generating 4 images",
        "evaluation: 4 samples", "epoch of a property CNN",
        *("v9 step", "update of D") * 2, "update of G", "generating 4 images",
        "evaluation: 4 samples",
    ]  # fmt: skip
    assert sum("StyleGAN2" in row["case"] for row in found["cases"]) == 7
    for row in found["cases"]:
        assert row["times_faster"] > 0
        assert row["plain_gflop"] >= row["ours_gflop"] * 0.9 > 0
    assert found["hardware"]["cpu"] in said
    assert found["import"]["ohlora_lib_sec"] > 0


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("side", [64, 128])  # below and at the size from which kernels are fused
def test_plain_networks_are_ours(side):
    torch.manual_seed(0)
    shape = {"fmaps_base": 1024, "fmaps_max": 16}
    net = Generator(side, z_dim=16, w_dim=16, wide_dim=8, **shape).eval()
    for k in range(2 * net.synthesis.num_blocks):
        getattr(net.synthesis, f"layer{k}").apply_noise.weight.data.normal_()
        getattr(net.synthesis, f"layer{k}").bias.data.normal_()
    z = torch.randn(2, 16)
    images = net(z)
    assert torch.allclose(plain.draw(net, z), images, atol=1e-9)
    torch.manual_seed(3)
    random = plain.draw(net, z, noise="random")
    torch.manual_seed(3)
    assert torch.allclose(net(z, noise="random"), random, atol=1e-9)
    judge = Discriminator(side, **shape)
    assert torch.allclose(plain.score(judge, images).float(), judge(images), atol=1e-6)


@pytest.mark.parametrize("clamp", [None, 2.0])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_plain_stylegan2_is_ours(kind, clamp):
    torch.manual_seed(0)
    options = {"channel_base": 512, "channel_max": 16, "conv_clamp": clamp}
    net = stylegan2.Generator(64, z_dim=16, w_dim=16, wide_dim=8, **options).to(kind).eval()
    judge = stylegan2.Discriminator(64, **options).to(kind)
    for name, parameter in (*net.named_parameters(), *judge.named_parameters()):
        if name.endswith((".bias", "noise_strength")):
            parameter.data += torch.randn_like(parameter)
    near = {"rtol": 1e-9, "atol": 1e-9} if kind == torch.float64 else {"rtol": 1e-4, "atol": 1e-4}
    z = torch.randn(8, 16, dtype=kind)
    for noise in ("fixed", "random"):
        torch.manual_seed(3)
        images = net(z, noise=noise)
        torch.manual_seed(3)
        torch.testing.assert_close(plain.draw(net, z, noise=noise), images, **near)
    scores = judge(images)
    torch.testing.assert_close(plain.score(judge, images).float(), scores, rtol=1e-4, atol=1e-4)
    assert min(images.std(), scores.std()) > 0.01  # no constant would agree


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("sizes", [QUICK, QUICK_2], ids=lambda sizes: sizes.architecture)
def test_both_ways_of_a_training_step_do_the_same_work(sizes):
    ours, theirs = new_tuner(sizes, CPU, "float32"), plain_tuner(sizes, CPU)
    before = [parameter.clone() for parameter in theirs.generator.parameters()]
    losses = []
    for tuner in (ours, theirs):
        torch.manual_seed(1)
        real = to_signed(tuner.images).double()
        done = [tuner.train_batch(real) for _ in range(3)]
        losses.append([loss for batch in done for loss in (batch["d_loss"], batch["g_loss"])])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)  # batch 3 follows two updates
    after = list(theirs.generator.parameters())
    for plain_one, mine in zip(after, ours.generator.parameters(), strict=True):
        # an update is 1e-4; instance norm cancels layer 0's bias, so only rounding moves it
        assert torch.allclose(plain_one, mine, rtol=0, atol=5e-6)
    moved = [bool((old != new).any()) for old, new in zip(before, after, strict=True)]
    assert any(moved)
    assert not all(moved)


@pytest.mark.parametrize("sizes", [QUICK, QUICK_2], ids=lambda sizes: sizes.architecture)
def test_both_ways_of_an_evaluation_see_the_same_faces(tmp_path, sizes):
    """JPEG and batching change a mean score slightly; another network changes it more."""
    torch.manual_seed(0)
    *_, case = evaluation_cases(sizes, CPU, "float32", tmp_path)
    assert case.name.startswith("evaluation")
    ours, theirs = case.ours(), case.plain()
    assert ours.shape == theirs.shape == (4,)
    assert torch.allclose(ours, theirs, atol=0.02)


def test_flops_are_counted():
    weight, x = torch.ones(4, 3, 3, 3), torch.ones(1, 3, 8, 8)
    counted = count_flops(lambda: torch.nn.functional.conv2d(x, weight, padding=1))
    assert counted == 2 * 4 * 3 * 9 * 64
    grouped = torch.ones(8, 1, 3, 3, requires_grad=True)
    y = torch.nn.functional.conv2d(x.repeat(1, 8 // 3 + 1, 1, 1)[:, :8], grouped, groups=8)
    assert count_flops(y.sum().backward) == 2 * 8 * 9 * 36
    assert peak_flops(CPU, "float32", rounds=1) > 1e9


@pytest.mark.slow
def test_two_workers_are_measured_beside_one(tmp_path):
    found, said = measured(tmp_path / "out.json", "benchmarks.sweep", "--quick")
    assert f"{found['one_worker_sec'] / found['two_workers_sec']:.2f} times as fast" in said


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_images(tmp_path):
    """Most images are kept; held in memory, 30,000 more would add 88 MiB to the noise."""
    options = ("benchmarks.memory", "2000", "38000", "--quantile", "0.05")
    found, _ = measured(tmp_path / "out.json", *options)
    few, many = found["rows"]
    assert many["kept"] - few["kept"] > 30_000
    work = [row["peak_mib"] - row["before_mib"] for row in (few, many)]
    assert work[1] - work[0] < memory.NOISE_MIB


def test_a_simulated_person_answers_as_often_as_asked():
    faces = draw_attributes(range(400)).reset_index(drop=True)
    random = np.random.default_rng(0)
    traits = faces[list(label_study.CONCEPT)].to_numpy()
    features = random.normal(size=(400, 4)) + traits
    table = label_study.asked(faces, features.astype(np.float32), 150, seed=0)
    drawn = table["source"] == "random"
    assert drawn.sum() == label_study.FIRST
    for prop in label_study.CONCEPT:
        known = table[prop].dropna()
        assert len(known) == 150
        assert (known == faces[prop].astype(int)[known.index]).all()
        assert table.loc[drawn, prop].notna().all()
        assert table.loc[known.index, f"{prop}_weight"].notna().all()
