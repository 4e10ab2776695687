"""The stage as a whole, by one process and by two: the same files, and a stop goes on anywhere."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from ohlora_lib.finetune import launch
from ohlora_lib.io.disk import write_atomic
from ohlora_lib.io.images import save_store
from ohlora_lib.io.weights import save_weights
from ohlora_lib.nets import Discriminator, Generator, PropertyCNN
from ohlora_lib.study.parameters import FinetuneGenerator, load
from ohlora_lib.study.run_folder import release
from tests.training.rank_worker import lively

SECONDS = 120  # until a hang is told
INPUTS = {
    "base_run": "outputs/tiny/02_train_base",
    "cnn_run": "outputs/tiny/03_train_property_cnn",
    "selection_run": "outputs/tiny/04_select_images",
}
VALUES = {
    "study": "tiny", "device": "cpu", "precision": "float32", "concept": {"gender": 1.0},
    "wide_dim": 12, "epochs": 24, "batch": 4, "every_batches": 3, "first_epoch_each": 0,
    "learning_rate": 1e-4, "samples": 6, "checkpoint_every": 100, "grid_every": 100, **INPUTS,
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A project with everything that a fine-tuning needs, very small."""
    root = tmp_path_factory.mktemp("project")
    for name in ("params/tiny", "notebooks"):
        (root / name).mkdir(parents=True)
    torch.manual_seed(0)
    base, cnns, selection = (root / folder for folder in INPUTS.values())
    generator = lively(Generator(32, z_dim=8, w_dim=8, fmaps_base=64))
    save_weights(generator, base / "generator.safetensors")
    save_weights(Discriminator(32, fmaps_base=64), base / "discriminator.safetensors")
    for role in ("selector", "judge"):
        net = PropertyCNN("gender", image_px=32, width=0.1)
        save_weights(net, cnns / role / "gender-fold0.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    save_store(selection / "images" / "selected.npy", pixels)
    for folder in (base, cnns, selection):
        write_atomic(folder / "summary.json", '{"status": "finished", "results": {}}')
    return root


def params_file(root, variant, **changes):
    config = FinetuneGenerator.checked({**VALUES, "variant": variant, **changes}, "here")
    path = root / "params" / "tiny" / f"{config.stage}.yaml"
    path.write_text(json.dumps(config.config()).replace("1e-05", "1.0e-05"))
    return path, root / "outputs" / "tiny" / config.stage


@pytest.fixture(scope="module")
def alone(root):
    """Run folder of a fine-tuning by this process alone."""
    path, folder = params_file(root, "alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OHLORA_ROOT", str(root))
        assert launch.finetune_file(path)
    return folder


def test_by_one_process_it_leaves_what_the_notebook_leaves(alone):
    summary = json.loads((alone / "summary.json").read_text())
    log = pd.read_csv(alone / "train_log.csv")
    assert summary["status"] == "finished"
    assert (log["epoch"].iloc[-1], log["idx"].iloc[-1]) == (24, 0)
    results = summary["results"]
    assert results["rows"] == len(log) == 25
    assert results["selected"] == 12
    assert results["images_seen"] == 24 * 12 + 4
    assert results["mean_gender_score"] == log["mean_gender_score"].iloc[-1]
    assert (alone / results["thumbnail"]).is_file()
    assert summary["facts"]["processes"] == 1
    assert json.loads((alone / "config.json").read_text())["variant"] == "alone"


def launcher(*words, root):
    """The documented command."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    command += ["--num_processes", "2", "--main_process_port", "0", "-m", "ohlora_lib", *words]
    env = {**os.environ, "OHLORA_ROOT": str(root), "OMP_NUM_THREADS": "1"}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=env, **options)


def rank_of(process):
    try:
        return process.environ().get("RANK")
    except psutil.Error:  # it ended meanwhile
        return None


def wait_for(condition, process):
    end = time.monotonic() + SECONDS
    while not (found := condition()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "it hangs"
        time.sleep(0.02)
    return found


def rows(folder):
    path = folder / "train_log.csv"
    return len(pd.read_csv(path)) if path.exists() else 0


def train_by_notebook(path, monkeypatch, stop_at=0):
    """What notebook 5 does with `processes: 2`; interrupted at some row of the log, if any."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    config = load(path)
    run = config.open_run()
    training = launch.open_training(config, run)
    assert isinstance(training, launch.LaunchedTraining)
    seen = []

    def watch(progress):
        seen.append(len(progress.log))
        if len(progress.log) == stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    finished = training.train(watch)
    if finished:
        run.finish(**launch.results(run.path, config))
    release(run.path)
    return finished, seen, training.facts


@pytest.mark.slow
def test_two_processes_interrupted_killed_and_resumed_end_as_one(root, alone, monkeypatch, capfd):
    pytest.importorskip("accelerate", reason="needs accelerate")
    monkeypatch.setenv("OHLORA_ROOT", str(root))
    path, folder = params_file(root, "pair", processes=2)

    # From the notebook; interrupting its cell saves.
    finished, seen, facts = train_by_notebook(path, monkeypatch, stop_at=3)
    assert not finished
    assert seen[:3] == [1, 2, 3]
    assert (facts["processes"], facts["selected"]) == (2, 12)
    saved = folder / "checkpoints" / "state.pt"
    assert saved.is_file()
    kept = pd.read_csv(folder / "train_log.csv")

    # By hand; one rank is killed, and the others end with it.
    process = launcher("finetune", str(path), root=root)
    wait_for(lambda: rows(folder) >= len(kept) + 3, process)
    ours = psutil.Process(process.pid).children(recursive=True)
    (victim,) = [child for child in ours if rank_of(child) == "1"]
    victim.kill()
    said = process.communicate(timeout=SECONDS)[0]
    assert process.returncode != 0, said
    assert not any(child.is_running() for child in ours)
    assert "Going on from the checkpoint" in said
    assert not (folder / "summary.json").exists()
    assert 3 < rows(folder) < 25

    # From the notebook again, to the end.
    finished, seen, _ = train_by_notebook(path, monkeypatch)
    assert finished
    assert seen[0] > len(kept)  # it began where the interrupted one had saved, or later
    assert "Going on from the checkpoint" in capfd.readouterr().out
    one, two = (pd.read_csv(run / "train_log.csv") for run in (alone, folder))
    pd.testing.assert_frame_equal(kept, two[: len(kept)])
    one, two = (log.drop(columns="elapsed_sec") for log in (one, two))
    pd.testing.assert_frame_equal(one, two, atol=5e-4, rtol=0)  # float32, four decimals written
    found = [sorted(str(p.relative_to(run)) for p in run.rglob("*")) for run in (alone, folder)]
    assert found[0] == found[1]


def test_a_batch_that_does_not_divide_is_one_line():
    with pytest.raises(ValueError, match="batch is 5, which 2 processes cannot share") as caught:
        FinetuneGenerator.checked({**VALUES, "batch": 5, "processes": 2}, "here")
    assert "\n" not in str(caught.value)


def test_another_notebooks_file_is_told(root, monkeypatch):
    monkeypatch.setenv("OHLORA_ROOT", str(root))
    path = root / "params" / "tiny" / "02_train_base.yaml"
    path.write_text("study: tiny\n")
    with pytest.raises(ValueError, match="holds parameters of 02_train_base"):
        launch.finetune_file(path)


def test_too_few_images_are_refused_before_anything_starts(root, monkeypatch):
    monkeypatch.setenv("OHLORA_ROOT", str(root))
    selection = root / "outputs" / "tiny" / "04_select_images-three"
    save_store(selection / "images" / "selected.npy", np.zeros((3, 32, 32, 3), np.uint8))
    write_atomic(selection / "summary.json", '{"status": "finished", "results": {"kept": 3}}')
    changes = {"selection_run": "outputs/tiny/04_select_images-three"}
    path, folder = params_file(root, "three", **changes)
    with pytest.raises(ValueError, match=r"^3 images are too few to fine-tune on \(at least 8\)"):
        launch.finetune_file(path)
    assert not [left for left in folder.rglob("*") if left.suffix in {".csv", ".pt", ".png"}]
    release(folder)
