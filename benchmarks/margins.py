"""Measures the training tests' margins with other seeds, thread counts and number formats.

`python -m benchmarks.margins` prints the values that the comments beside those tests quote. Each
row is the worst of `--seeds` seeds; a test's limit must lie well beyond it.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tests.base import test_training as test_base_training
from tests.finetune import test_loop
from tests.population import test_faces
from tests.properties import test_training as test_property_training
from tests.verdict import test_negative_control

FORMATS = {
    "float32": contextlib.nullcontext,
    "bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
}


def planted(seed: int, shuffled: bool) -> list[float]:
    """AUROC of each fold on the planted property; shuffled labels give chance level."""
    images, labels = test_property_training.planted(seed=seed)
    if shuffled:
        labels = np.random.default_rng(seed + 5).permutation(labels)
    folds = test_property_training.train_folds(images, labels, seed=seed)
    return [fold.auroc["bright"] for fold in folds]


def loop_losses(seed: int) -> float:
    """The discriminator's last loss as a share of its first."""
    one = test_loop.winning_discriminator(seed)
    return one.rows[-1]["d_loss"] / one.rows[0]["d_loss"]


def base_loss(seed: int) -> float:
    """Last loss of the base's discriminator, trained against a generator that stays fixed."""
    return test_base_training.winning_discriminator(seed)[-1]["d_loss"]


def new_discriminator(seed: int) -> float:
    """How far the scores of real images lie above those of samples, in standard deviations."""
    with tempfile.TemporaryDirectory() as folder:
        return test_base_training.new_discriminator(Path(folder), seed)


def learnt(seed: int) -> float:
    """Smallest change that must be shown, in half-widths of its interval; above 1 it is shown."""
    with tempfile.TemporaryDirectory() as folder:
        verdict = test_negative_control.moves(Path(folder) / "run", seed)
    half = (verdict["change_high"] - verdict["change_low"]) / 2
    away = np.array([1, 1, -1, -1])  # expected signs: the images are dark
    return float((away * verdict["change"] / half).min())


MEASURES: dict[str, tuple[str, Callable[[int], float]]] = {
    "property learnt": ("lowest", lambda seed: min(planted(seed, shuffled=False))),
    "shuffled labels": ("highest", lambda seed: float(np.mean(planted(seed, shuffled=True)))),
    "faces learnt": ("lowest", lambda seed: min(test_faces.learnt_auroc(seed).values())),
    "loop's discriminator": ("highest", loop_losses),
    "base's discriminator": ("highest", base_loss),
    "new discriminator": ("lowest", new_discriminator),
    "learning is detected": ("lowest", learnt),
}


def main() -> None:
    """Prints one row per measure, thread count and number format."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.margins", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", default="", help="run only measures whose name contains this")
    given = parser.parse_args()
    rows = []
    for name, (side, measure) in MEASURES.items():
        for threads in (1, 2) if given.only in name else ():
            for kind, context in FORMATS.items():
                torch.set_num_threads(threads)
                with context():
                    values = [measure(seed) for seed in range(given.seeds)]
                worst = min(values) if side == "lowest" else max(values)
                rows.append((name, threads, kind, side, round(worst, 3)))
                print(*rows[-1], flush=True)
    print(pd.DataFrame(rows, columns=["measure", "threads", "format", "side", "worst"]))


if __name__ == "__main__":
    main()
