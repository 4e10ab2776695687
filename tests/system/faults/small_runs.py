"""Complete runs on tiny networks, a few seconds each, that report their current place.

Each opens, trains and finishes its own run folder, as a notebook does.
"""

import contextlib
import functools
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ohlora_lib.base import base as base_module
from ohlora_lib.base.base import BaseRun, new_nets
from ohlora_lib.base.training import BaseSettings, BaseTrainer
from ohlora_lib.evaluation.evaluator import Evaluator
from ohlora_lib.finetune import run as stage
from ohlora_lib.finetune.loop import FineTuner, FinetuneSettings
from ohlora_lib.finetune.run import FinetuneRun
from ohlora_lib.io.disk import write_atomic
from ohlora_lib.nets import PropertyCNN
from ohlora_lib.properties import compact
from ohlora_lib.properties import training as fold_training
from ohlora_lib.properties.ensemble import Ensemble
from ohlora_lib.properties.lesson import CNNSettings, Lesson
from ohlora_lib.study.run_folder import Run, start_run
from ohlora_lib.training import checkpoint

NOTEBOOKS = {
    "finetune": "05_finetune_generator",
    "base": "02_train_base",
    "cnn": "03_train_property_cnn",
    "stylegan2": "05_finetune_generator",
}
BETWEEN = "between the steps"
FINISH = (Run, "finish", "finishing")
SAVE = (checkpoint, "save_state", "saving a checkpoint")
PLACES = {
    "finetune": [
        (FinetuneRun, "__init__", "opening"),
        (FineTuner, "update_discriminator", "discriminator step"),
        (FineTuner, "update_generator", "generator step"),
        (Evaluator, "__call__", "evaluation"),
        (stage, "write_log", "writing the log"),
        (stage, "save_png", "writing a grid"),
        (stage, "save_weights", "writing weights"),
        *(SAVE, FINISH),
    ],
    "base": [
        (BaseRun, "__init__", "opening"),
        (BaseTrainer, "update_discriminator", "discriminator step"),
        (BaseTrainer, "update_generator", "generator step"),
        (base_module, "save_table", "writing the log"),
        (base_module, "save_png", "writing a grid"),
        (base_module, "save_weights", "writing weights"),
        *(SAVE, FINISH),
    ],
    "cnn": [
        (compact, "_train_epoch", "training a fold"),
        (Lesson, "logits", "validating a fold"),
        (fold_training, "save_weights", "writing weights"),
        (fold_training, "save_state", "saving a checkpoint"),
        FINISH,
    ],
}
PLACES["stylegan2"] = PLACES["finetune"]


def marked(mark, owner, name: str, place: str) -> None:
    """Wraps a function of a module or class so that `mark` holds `place` while it runs."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def at_work(*args, **kwargs):
        before, mark.value = mark.value, place.encode()
        try:
            return original(*args, **kwargs)
        finally:
            mark.value = before

    setattr(owner, name, at_work)


def run(what: str, root: Path, mark, resumed, most_share: float = checkpoint.MOST_SHARE) -> None:
    """Trains in a project's folder from the start, or resumes a run that was killed.

    `mark` and `resumed` are shared memory for its place and for where it resumed; `most_share` is
    raised to get many checkpoints.
    """
    torch.set_num_threads(1)
    checkpoint.MOST_SHARE = most_share
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        for place in PLACES[what]:
            marked(mark, *place)
        mark.value = BETWEEN.encode()
        folder = start_run(NOTEBOOKS[what], {"study": "tiny", "seed": 3}, root=root)
        trainings = {"finetune": finetune, "base": train_base, "cnn": train_cnns}
        trainings["stylegan2"] = functools.partial(finetune, architecture="stylegan2")
        folder.finish(
            **trainings[what](folder, lambda text: setattr(resumed, "value", text.encode()))
        )


def small_cnns(seed: int) -> Ensemble:
    torch.manual_seed(seed)
    names = ("gender", "age")
    return Ensemble({name: [PropertyCNN(name, image_px=32, width=0.125)] for name in names})


def pixels(count: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=random)


def finetune(run: Run, say, architecture: str = "stylegan1") -> dict[str, float]:
    selected, selector, judge = pixels(30), small_cnns(1), small_cnns(2)
    torch.manual_seed(0)
    sizes = {"z_dim": 8, "w_dim": 8, "num_properties": 7, "fmaps_base": 64, "fmaps_max": 512}
    nets = new_nets(32, **sizes, architecture=architecture)
    evaluator = Evaluator(selector, judge, selected, samples=16, seed=3)
    settings = FinetuneSettings(
        epochs=4, batch=4, every_batches=3, first_epoch_every=2, first_epoch_each=3,
        learning_rate=run.config.get("learning_rate", 1e-3), average_batches=5.0, seed=3,
    )  # fmt: skip
    options = {"recipe": "v9", "wide_dim": 12, "checkpoint_minutes": 0.005}
    training = FinetuneRun(run.path, nets, selected, evaluator, settings=settings, **options)
    epoch, idx = training.tuner.place(training.tuner.batches_done)
    say(f"epoch {epoch}, batch {idx}" if training.resumed else "the start")
    assert training.train(lambda _: None)
    return {"checkpoint_share": training.pace.share}


def train_base(run: Run, say) -> dict[str, float]:
    torch.manual_seed(0)
    nets = new_nets(32, z_dim=8, w_dim=8, num_properties=3, fmaps_base=64, fmaps_max=32)
    settings = BaseSettings(
        total_kimg=0.4, grow_kimg={"16": 0.1}, fade_kimg=0.1, batch=8, learning_rate=1e-3,
        decay_kimg=0.2, r1_every=4, average_kimg=0.1, seed=5,
    )  # fmt: skip
    training = BaseRun(run.path, nets, pixels(60), settings, checkpoint_minutes=0.005)
    steps = training.trainer.steps
    say(f"step {steps}" if steps else "the start")
    training.train(0.05)
    return {"checkpoint_share": training.pace.share}


def train_cnns(run: Run, say) -> dict[str, float]:
    random = np.random.default_rng(0)
    labels = random.permutation(np.arange(96) % 2)
    table = pd.DataFrame({"bright": labels, "dark": 1 - labels})
    settings = CNNSettings(folds=3, width=0.125, batch=8, max_epochs=5, seed=1)
    data = (pixels(96), table, np.arange(96), list(table), settings, run.path / "selector")
    there = len(list(run.path.rglob("state-*.pt")))
    say(f"fold {there} of 3" if there else "the start")
    folds = list(fold_training.train_ensemble(*data))
    write_atomic(run.path / "folds.csv", fold_training.fold_table(folds).to_csv(index=False))
    return {}
