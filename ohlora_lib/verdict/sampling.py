"""Verdicts on evaluation sampling: every sample's scores, paired by latent.

Stage 6 draws many samples of the base and of each checkpoint and keeps the scores of each, so a
mean is known far better than from the rows of a log, where it is there. Fresh latents and the same
ones count alike: what two generators drew from one latent is compared as a pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from ohlora_lib.population.labels import read_table
from ohlora_lib.verdict.bootstrap import distance_change, effect_word, latent_errors
from ohlora_lib.verdict.logs import WHO
from ohlora_lib.verdict.verdict import RUN_COLUMNS, change_table

LATENT = ["latent_seed", "latent"]  # what tells latents apart


@dataclass(frozen=True)
class Ends:
    """Scores of the samples of a base and of the last checkpoint, indexed by latent."""

    base: pd.DataFrame
    last: pd.DataFrame


def read_ends(folder: Path) -> Ends:
    """Reads `scores.csv` of a run of 06_evaluate_samples; ValueError if it has no latents."""
    table = read_table(folder / "scores.csv", ["epoch", *LATENT])
    base = table["stage"] == "base"
    last = ~base & (table["epoch"] == table["epoch"].max())
    return Ends(*(table[rows].set_index(LATENT) for rows in (base, last)))


def scores_by(samples: pd.DataFrame, source: str, prop: str) -> pd.Series:
    """Scores by a source of a log: "mean" for the selecting CNNs, else as the column begins."""
    return samples[f"{prop}_score" if source == "mean" else f"{source}_{prop}_score"]


def who_sampled(source: str, sides: Sequence[pd.DataFrame]) -> str:
    """Who gave the scores, and on how many samples."""
    return f"{WHO[source]}, on {min(map(len, sides)):,} samples each"


def samples_change(
    sides: Sequence[pd.DataFrame],
    source: str,
    prop: str,
    target: float,
    level: float,
    seed: list[int],
) -> list[Any]:
    """`RUN_COLUMNS` of two sets of samples, indexed by latent; the rows are samples."""
    scores = [scores_by(side, source, prop) for side in sides]
    means, errors = [part.mean() for part in scores], latent_errors(scores, seed)
    change = distance_change(means, errors, target, level)
    return [*means, *change, effect_word(*change[-2:]), *map(len, sides), 0]


def samples_verdict(
    ends: Ends, concept: Mapping[str, float], *, source: str = "heldout", seed: int = 0
) -> pd.DataFrame:
    """`verdict.run_verdict` by evaluation sampling: the base against the last checkpoint."""
    sides = [ends.base, ends.last]
    change = partial(samples_change, sides, source)
    by = who_sampled(source, sides)
    return change_table(change, RUN_COLUMNS, concept, source, seed, by)
