"""Tests whether speed changes results: one small study, fast and plain, with several seeds.

`python -m benchmarks.same_science` needs a finished quickstart. Both implementations start from
the same base, selected images, latents and order; the fast one uses bfloat16 where that is faster.
The ends of training are pooled over seeds and compared by the selecting CNNs and by the judge.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import pandas as pd
import torch

from benchmarks.plain import PlainTuner
from ohlora_lib.base.base import load_base
from ohlora_lib.evaluation.evaluator import Evaluator
from ohlora_lib.finetune.loop import FineTuner, FinetuneSettings, finetune
from ohlora_lib.finetune.recipe import RECIPES
from ohlora_lib.finetune.run import write_log
from ohlora_lib.io.images import hold, open_store
from ohlora_lib.nets.compute import pick_device, pick_precision
from ohlora_lib.properties.ensemble import load_ensemble
from ohlora_lib.study import parameters, records
from ohlora_lib.verdict.comparison import compare_groups
from ohlora_lib.verdict.logs import read_log
from ohlora_lib.verdict.verdict import verdict_sentence

FINETUNE = "05_finetune_generator-v9"


def new_tuner(
    kind: type[FineTuner],
    config: parameters.FinetuneGenerator,
    settings: FinetuneSettings,
    root: Path,
) -> FineTuner:
    """A fine-tuning run set up as in the study, of either kind."""
    base = load_base(root / config.base_run)
    random = torch.Generator().manual_seed(settings.seed)
    generator = base.generator.split(config.wide_dim, random)
    selected = hold(open_store(selected_path(config, root)), torch.device("cpu"))
    return kind(generator, base.discriminator, selected, RECIPES["v9"], settings)


def selected_path(config: parameters.FinetuneGenerator, root: Path) -> Path:
    """Path of the selected images."""
    return root / config.selection_run / "images" / "selected.npy"


def train(tuner: FineTuner, evaluator: Evaluator, folder: Path) -> float:
    """Trains to the end and writes the log; returns the wall time, evaluation included."""
    began = time.perf_counter()
    for evaluation in finetune(tuner, evaluator):
        if evaluation:
            write_log(folder / "train_log.csv", tuner.rows)
    return time.perf_counter() - began


def main() -> None:
    """Trains both implementations with every seed and compares them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.same_science", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--epochs", type=int, default=0, help="0: as in the quickstart")
    given = parser.parse_args()
    root = records.project_root()
    path = root / "outputs" / "quickstart" / FINETUNE / "config.json"
    config = parameters.FinetuneGenerator.checked(
        json.loads(path.read_text(encoding="utf-8")), str(path)
    )
    device = pick_device("cpu")
    ways = {"plain": (PlainTuner, "float32"), "fast": (FineTuner, pick_precision("auto", device))}
    judges = [
        load_ensemble(root / config.cnn_run / role, list(config.concept))
        for role in ("selector", "judge")
    ]
    out, logs, seconds = root / "outputs" / "same-science", {}, {}
    for seed in range(given.seeds):
        for name, (kind, precision) in ways.items():
            picked = config.pick(FinetuneSettings, but="seed precision epochs")
            epochs = given.epochs or config.epochs
            settings = FinetuneSettings(**picked, seed=seed, precision=precision, epochs=epochs)
            tuner = new_tuner(kind, config, settings, root)
            if isinstance(tuner, PlainTuner):
                tuner.make_plain()
            evaluator = Evaluator(*judges, tuner.images, samples=config.samples, seed=seed)
            folder = out / f"{name}-seed{seed}"
            seconds[name, seed] = train(tuner, evaluator, folder)
            logs.setdefault(name, []).append(read_log(folder / "train_log.csv"))
            print(f"{name}, seed {seed}: {seconds[name, seed]:.0f} s in {precision}", flush=True)
    tables = []
    for source in ("mean", "heldout"):
        table = compare_groups(logs, "plain", "fast", config.concept, source=source)
        print(verdict_sentence(table))
        tables.append(table)
    table = pd.concat(tables)
    columns = ["source", "property", "distance_a", "distance_b", "difference"]
    print(table[[*columns, "difference_low", "difference_high", "effect"]].round(4).to_string())
    records.write_atomic(out / "comparison.csv", table.to_csv(index=False))


if __name__ == "__main__":
    main()
