"""Trains logs like those that `benchmarks.findings` uses; takes an hour on one thread.

`python -m benchmarks.finding_logs` needs a quickstart that has finished stage 4. It uses 160 of
the selected images, and the first CNN per property of each ensemble. The stored runs used
bfloat16, and runs of seed 0 had up to 5 epochs, so the new logs differ from the stored ones.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.findings import STORED
from benchmarks.same_science import selected_path
from ohlora_lib.base.base import load_base
from ohlora_lib.evaluation.evaluator import Evaluator
from ohlora_lib.finetune.loop import FinetuneSettings
from ohlora_lib.finetune.run import FinetuneRun
from ohlora_lib.io.images import open_store
from ohlora_lib.nets import Generator
from ohlora_lib.population.faces.faces import draw_attributes, render_faces
from ohlora_lib.properties import training
from ohlora_lib.properties.ensemble import Ensemble, load_ensemble
from ohlora_lib.properties.lesson import CNNSettings
from ohlora_lib.study import parameters as params
from ohlora_lib.study import records
from ohlora_lib.verdict.logs import read_log

RATES = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)
SEEDS = range(3)
FOOLINGS = range(11)
IMAGES = 160
FACES = 600  # faces drawn per fooled generator; each ensemble gets half
TRAINED = {"epochs": 3, "every_batches": 5, "first_epoch_every": 5}


def first_cnns(root: Path, config: params.FinetuneGenerator) -> list[Ensemble]:
    """The selector and the judge with one CNN per property."""
    whole = (
        load_ensemble(root / config.cnn_run / role, list(config.concept))
        for role in ("selector", "judge")
    )
    return [Ensemble({p: nets[:1] for p, nets in one.members.items()}) for one in whole]


def quickstart_log(root: Path, rate: float, seed: int) -> pd.DataFrame:
    """A short fine-tuning run set up as in the quickstart; odd seeds use recipe v8, even v9."""
    recipe = "v8" if seed % 2 else "v9"
    path = root / "params" / "quickstart" / f"05_finetune_generator-{recipe}.yaml"
    config = params.load(path)
    settings = replace(
        FinetuneSettings(**config.pick(FinetuneSettings, but="precision")),
        **TRAINED, learning_rate=rate, seed=seed, average_batches=20.0,
    )  # fmt: skip
    selected = torch.from_numpy(np.array(open_store(selected_path(config, root))[:IMAGES]))
    evaluator = Evaluator(*first_cnns(root, config), selected, samples=config.samples, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        run = FinetuneRun(
            Path(folder), load_base(root / config.base_run), selected, evaluator, recipe=recipe,
            wide_dim=config.wide_dim, settings=settings, grid_every=1000,
        )  # fmt: skip
        run.train(lambda _: None)
        return read_log(Path(folder) / "train_log.csv")


def fooled_log(seed: int) -> pd.DataFrame:
    """Trains a generator to raise the selector's score and lower the judge's, 20 steps per row."""
    drawn = range(FACES), 3 + seed
    images = torch.from_numpy(render_faces(drawn[0], seed=drawn[1], image_px=32))
    labels = draw_attributes(drawn[0], seed=drawn[1])
    halves = np.split(np.arange(FACES), 2)
    selector, judge = (glass_cnns(images, labels, rows, seed) for rows in halves)
    torch.manual_seed(seed)
    generator = Generator(32, z_dim=32, w_dim=32, fmaps_base=256, fmaps_max=16)
    evaluator = Evaluator(selector, judge, images[:200], samples=50)
    optimizer = torch.optim.Adam(generator.parameters(), lr=3e-3)
    rows = []
    for row in range(33):
        facts = {"epoch": row // 4, "idx": row % 4, "d_loss": 1.3, "g_loss": 0.9}
        rows.append(facts | {"real_fake_auroc": 0.8} | evaluator(generator, row).row)
        for _ in range(20):
            fool(generator, optimizer, selector, judge)
    return pd.DataFrame(rows).drop(columns=["diversity", "recall"])


def glass_cnns(
    images: torch.Tensor, labels: pd.DataFrame, rows: np.ndarray, seed: int
) -> Ensemble:
    """An ensemble of two small CNNs that detect glasses."""
    settings = CNNSettings(
        architecture="published", folds=2, width=0.25, batch=16, max_epochs=12,
        learning_rate={"glass": 2e-3}, mirror=False, seed=seed,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        list(training.train_ensemble(images, labels, rows, ["glass"], settings, Path(folder)))
        return load_ensemble(Path(folder), ["glass"])


def fool(
    generator: Generator, optimizer: torch.optim.Optimizer, selector: Ensemble, judge: Ensemble
) -> None:
    """One step toward glasses for the selector and away from them for the judge."""
    drawn = generator(torch.randn(16, 32), torch.randn(16, 7)) / 2 + 0.5
    pixels = drawn + (drawn.clamp(0, 1) - drawn).detach()  # straight-through clamp
    chosen, judged = (
        torch.cat([net(pixels) for net in ensemble.members["glass"]]).clamp(1e-6, 1 - 1e-6)
        for ensemble in (selector, judge)
    )
    optimizer.zero_grad()
    (-torch.log(chosen).mean() - torch.log(1 - judged).mean()).backward()
    optimizer.step()


def all_logs(root: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Every log, with its name."""
    for seed in SEEDS:
        for rate in RATES:
            yield f"quickstart-{rate:g}-{seed}", quickstart_log(root, rate, seed)
    for seed in FOOLINGS:
        yield f"fooled-{seed}", fooled_log(seed)


def main() -> None:
    """Trains all runs and stores their logs."""
    argparse.ArgumentParser(
        prog="python -m benchmarks.finding_logs", description=__doc__
    ).parse_args()
    torch.set_num_threads(1)
    root, parts = records.project_root(), []
    for name, log in all_logs(root):
        parts.append(log.round(4).assign(log=name))
        print(name, flush=True)
    table = pd.concat(parts).drop(columns=["time_epochs", "elapsed_sec"], errors="ignore")
    table.to_csv(STORED, index=False)


if __name__ == "__main__":
    main()
