import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.cases import QUICK, new_tuner, plain_step, plain_tuner
from ohlora_lib.images import to_signed

ROOT = Path(__file__).parents[1]


def our_step(tuner, real):
    result = tuner.train_batch(real)
    return result.d_loss, result.g_loss


@pytest.fixture
def float64():
    """AdamW's first updates are signs: in float32, rounding alone parts two ways of one step."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.slow
def test_quick_measures_every_case(tmp_path):
    out = tmp_path / "benchmarks.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert [row["case"].split()[0] for row in found["cases"]] == ["v9", "generating", "scoring"]
    assert all(row["times_faster"] > 0 and row["ours_sec"] > 0 for row in found["cases"])
    assert found["hardware"]["cpu"] in done.stdout
    assert found["import"]["ohlora_lib_sec"] > 0


@pytest.mark.usefixtures("float64")
def test_both_ways_of_a_training_step_do_the_same_work():
    device = torch.device("cpu")
    ours, plain = new_tuner(QUICK, device, "float32"), plain_tuner(QUICK, device)
    before = [parameter.clone() for parameter in plain.generator.parameters()]
    losses = []
    for tuner, step in ((ours, our_step), (plain, plain_step)):
        torch.manual_seed(1)
        real = to_signed(tuner.images).double()
        losses.append([loss for _ in range(3) for loss in step(tuner, real)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)  # the third batch sees two updates
    after = list(plain.generator.parameters())
    for theirs, mine in zip(after, ours.generator.parameters(), strict=True):
        # an update is 1e-4; layer 0's bias, which instance norm removes, moves by rounding alone
        assert torch.allclose(theirs, mine, rtol=0, atol=5e-6)
    moved = [bool((old != new).any()) for old, new in zip(before, after, strict=True)]
    assert any(moved)
    assert not all(moved)  # frozen layers stay, though their gradients were taken


@pytest.mark.slow
def test_two_workers_are_measured_beside_one(tmp_path):
    out = tmp_path / "sweep.json"
    command = [sys.executable, "-m", "benchmarks.sweep", "--quick", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    ratio = found["one_worker_sec"] / found["two_workers_sec"]
    assert found["times_faster"] == pytest.approx(ratio)
    assert f"{ratio:.2f} times as fast" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_memory_does_not_grow_with_the_images(tmp_path):
    """A quarter is kept: 44 MiB of the larger count, if they stayed in memory."""
    command = [sys.executable, "-m", "benchmarks.memory", "2000", "62000"]
    command += ["--out", str(tmp_path / "memory.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    few, many = json.loads((tmp_path / "memory.json").read_text())["rows"]
    assert many["kept"] > 10 * few["kept"] > 1000
    assert many["peak_mib"] - few["peak_mib"] < 18
