"""`ohlora finetune`: outputs of one process, and two ranks that resume after an interrupt."""

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

from ohlora_lib.finetune import run
from ohlora_lib.io.disk import write_atomic
from ohlora_lib.io.images import new_store
from ohlora_lib.io.weights import save_weights
from ohlora_lib.nets import Discriminator, Generator, PropertyCNN
from ohlora_lib.study.parameters import FinetuneGenerator
from ohlora_lib.study.records import read_config, read_summary, to_json
from ohlora_lib.training.ranks import Ranks
from ohlora_lib.widgets.monitor import Monitor
from tests.checks import complaint
from tests.training.rank_worker import lively

SECONDS = 120  # after which a run counts as hung
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
    """A tiny project with all inputs of a fine-tuning run."""
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
    write_atomic(cnns / "config.json", '{"properties": ["gender"]}')
    pixels = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    with new_store(selection / "images" / "selected.npy", 32) as store:
        store.append(pixels)
    for folder in (base, cnns, selection):
        write_atomic(folder / "summary.json", '{"status": "finished", "results": {}}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OHLORA_ROOT", str(root))
        yield root


def params_file(root, variant, **changes):
    config = FinetuneGenerator.checked({**VALUES, "variant": variant, **changes}, "here")
    path = root / "params" / "tiny" / f"{config.stage}.yaml"
    path.write_text(to_json(config.config()))
    return path, root / "outputs" / "tiny" / config.stage


@pytest.mark.slow
def test_one_process_writes_the_same_files_as_the_notebook(root):
    path, alone = params_file(root, "alone")
    assert run.finetune_file(path, Monitor, start_anew=False)
    summary, log = read_summary(alone), pd.read_csv(alone / "train_log.csv")
    assert (log["epoch"].iloc[-1], log["idx"].iloc[-1]) == (24, 0)
    results = summary["results"]
    assert results["rows"] == len(log) == 25
    assert results["selected"] == 12
    assert results["images_seen"] == 24 * 12 + 4
    assert results["mean_gender_score"] == log["mean_gender_score"].iloc[-1]
    assert (alone / results["thumbnail"]).is_file()
    assert summary["facts"]["processes"] == 1
    assert read_config(alone)["variant"] == "alone"


def rows(folder):
    path = folder / "train_log.csv"
    return len(pd.read_csv(path)) if path.exists() else 0


def launched(path, folder, stop_at=0):
    """Runs the documented command; interrupts rank 1 once the log has `stop_at` rows."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    command += ["--num_processes", "2", "--main_process_port", "0"]
    command += ["-m", "ohlora_lib", "finetune", str(path)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, **options)
    end = time.monotonic() + SECONDS
    while rows(folder) < stop_at:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "the run hangs"
        time.sleep(0.02)
    if stop_at:
        ranks = psutil.Process(process.pid).children(recursive=True)
        (second,) = (child for child in ranks if child.environ().get("RANK") == "1")
        second.send_signal(signal.SIGINT)
    said = process.communicate(timeout=SECONDS)[0]
    return process.returncode, said


@pytest.mark.slow
def test_two_ranks_save_when_one_is_interrupted_and_resume(root):
    """`training/test_ranks.py` compares their results with those of an uninterrupted training."""
    pytest.importorskip("accelerate", reason="needs accelerate")
    path, folder = params_file(root, "pair")
    status, said = launched(path, folder, stop_at=3)
    assert status == 0, said
    assert "Interrupted; the checkpoint is saved." in said
    assert rows(folder) < 25
    status, said = launched(path, folder)
    assert status == 0, said
    assert "Resuming from the checkpoint" in said
    assert rows(folder) == 25
    assert read_summary(folder)["facts"]["processes"] == 2


def refused(path):
    return complaint(run.finetune_file, path, Monitor, start_anew=False)


def test_a_batch_that_ranks_cannot_share_and_another_stage_are_refused(root, monkeypatch):
    monkeypatch.setattr(run, "join", lambda: Ranks(0, 2))
    monkeypatch.setattr(Ranks, "from_first", lambda _, make: make())
    path, _ = params_file(root, "five", batch=5)
    assert "batch is 5, but 2 processes share it; set it to a multiple of 2" in refused(path)
    path = path.with_name("02_train_base.yaml")
    path.write_text("study: tiny\n")
    assert "holds parameters of 02_train_base" in refused(path)


def test_too_few_images_are_refused_before_anything_starts(root):
    selection = root / "outputs" / "tiny" / "04_select_images-three"
    with new_store(selection / "images" / "selected.npy", 32) as store:
        store.append(np.zeros((3, 32, 32, 3), np.uint8))
    write_atomic(selection / "summary.json", '{"status": "finished", "results": {"kept": 3}}')
    path, folder = params_file(root, "three", selection_run=str(selection.relative_to(root)))
    assert refused(path).startswith("3 images are too few to fine-tune on (at least 8)")
    assert not [left for left in folder.rglob("*") if left.suffix in {".csv", ".pt", ".png"}]
