"""Verdicts on evaluation sampling: every sample's scores, paired by latent.

Stage 6 draws many samples of the base and of the last checkpoint and keeps the scores of each.
Fresh and fixed latents count alike: the samples of two generators from one latent are compared
as a pair, so that little sampling error is left.

A checkpoint is one moment of a training run, and scores wander during the run. The verdict thus
compares levels over the end of training, as in a log: the samples' mean score, plus the fixed
latents' mean over the end minus their mean in the last row of the log. These rows have no sampling
error, and their wander enters the interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ohlora_lib.population.labels import read_table
from ohlora_lib.study.records import read_config, read_json, root_of
from ohlora_lib.verdict.bootstrap import distance_change, effect_word, latent_errors
from ohlora_lib.verdict.logs import WHO, read_log
from ohlora_lib.verdict.verdict import RUN_COLUMNS, change_table, end_of, scores_of
from ohlora_lib.verdict.wander import window_mean

LATENT = ["latent_seed", "latent"]  # columns that identify a latent
FIXED = {"mean": "fixed", "heldout": "fixed_heldout"}  # source of the same scores in a log


@dataclass(frozen=True)
class Sampled:
    """Scores of a generator's samples, indexed by latent, and the log of its training."""

    samples: pd.DataFrame
    log: pd.DataFrame | None = None  # None for a base, which does not wander

    def scores(self, source: str, prop: str) -> pd.Series:
        """Scores by "mean", the selecting CNNs, or by "heldout"."""
        return self.samples[f"{prop}_score" if source == "mean" else f"{source}_{prop}_score"]

    def level(self, source: str, prop: str, seed: list[int]) -> tuple[float, np.ndarray | float]:
        """Mean score over the end of training, and draws of what its wander adds to the error.

        NaN if the log has too few rows.
        """
        mean = float(self.scores(source, prop).mean())
        if self.log is None:
            return mean, 0.0
        scored = scores_of(self.log, end_of, FIXED[source], prop)
        if scored is None:
            return np.nan, np.nan
        end = window_mean(*scored, seed, fixed=True)
        return mean + end.mean - float(scored[1][-1]), end.error


def read_sampled(folder: Path) -> tuple[Sampled, Sampled]:
    """Base and last checkpoint in a run of 06_evaluate_samples."""
    table = read_table(folder / "scores.csv", ["epoch", *LATENT])
    base = table["stage"] == "base"
    last = ~base & (table["epoch"] == table["epoch"].max())
    log = read_log(root_of(folder) / read_config(folder)["finetune_run"])
    return Sampled(table[base].set_index(LATENT)), Sampled(table[last].set_index(LATENT), log)


def find_evaluation(run: Path) -> Path | None:
    """The finished run of 06_evaluate_samples that judged this run, if the study has one."""
    for folder in sorted(run.parent.glob("06_evaluate_samples*")):
        finished = read_json(folder / "summary.json").get("status") == "finished"
        judged = read_json(folder / "config.json").get("finetune_run", "")
        same = (root_of(folder) / judged).resolve() == run.resolve()
        if finished and same:
            return folder
    return None


def who_sampled(source: str, sides: Sequence[Sampled]) -> str:
    """Who gave the scores, and on how many samples."""
    return f"{WHO[source]}, on {min(len(side.samples) for side in sides):,} samples each"


def samples_change(
    sides: Sequence[Sampled], source: str, prop: str, target: float, level: float, seed: list[int]
) -> list[Any]:
    """Values of `RUN_COLUMNS` for two generators; the rows are samples."""
    of_latents = latent_errors([side.scores(source, prop) for side in sides], seed)
    means, of_wander = zip(
        *(side.level(source, prop, [*seed, k]) for k, side in enumerate(sides)), strict=True
    )
    errors = [a + b for a, b in zip(of_latents, of_wander, strict=True)]
    change = distance_change(means, errors, target, level)
    rows = (len(side.samples) for side in sides)
    return [*means, *change, effect_word(*change[-2:]), *rows, 0]


def samples_verdict(
    sides: Sequence[Sampled],
    concept: Mapping[str, float],
    *,
    source: str = "heldout",
    seed: int = 0,
) -> pd.DataFrame:
    """`verdict.run_verdict` from evaluation sampling: the base against the last checkpoint."""
    change = partial(samples_change, sides, source)
    by = who_sampled(source, sides)
    return change_table(change, RUN_COLUMNS, concept, source, seed, by)
