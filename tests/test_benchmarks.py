import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.cases import QUICK, new_tuner, plain_step, plain_tuner
from ohlora_lib.images import to_signed

ROOT = Path(__file__).parents[1]


def our_step(tuner):
    result = tuner.train_batch(to_signed(tuner.images))
    return result.d_loss, result.g_loss


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


def test_both_ways_of_a_training_step_do_the_same_work():
    device = torch.device("cpu")
    ours, plain = new_tuner(QUICK, device, "float32"), plain_tuner(QUICK, device)
    before = [parameter.clone() for parameter in plain.generator.parameters()]
    losses = []
    for tuner, step in ((ours, our_step), (plain, plain_step)):
        torch.manual_seed(1)
        losses.append([loss for _ in range(3) for loss in step(tuner)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)  # the third batch sees two updates
    assert losses[0][:2] == pytest.approx(losses[1][:2], rel=1e-4)
    pairs = zip(before, plain.generator.parameters(), strict=True)
    moved = [bool((old != new).any()) for old, new in pairs]
    assert any(moved)
    assert not all(moved)  # frozen layers stay, though their gradients were taken
