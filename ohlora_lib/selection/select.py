"""Keeps the images that have the look, by their scores, and counts what each condition costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ohlora_lib.io.tables import check_scores
from ohlora_lib.population.labels import as_numbers, read_table
from ohlora_lib.study.cells import did_you_mean
from ohlora_lib.study.look import Condition


@dataclass(frozen=True)
class Selection:
    """Flags of the images kept, and what each condition costs."""

    kept: np.ndarray  # bool, (N,)
    costs: pd.DataFrame  # condition, passes, fails, share, lost_only_here
    skipped: int  # leading images left out
    unscored: int  # candidates that lack a score; they fail

    def summary(self) -> dict[str, Any]:
        """Returns plain counts: rows, skipped, candidates, unscored, kept, share, by condition."""
        rows, kept = len(self.kept), int(self.kept.sum())
        return {
            "rows": rows,
            "skipped": self.skipped,
            "candidates": rows - self.skipped,
            "unscored": self.unscored,
            "kept": kept,
            "share": kept / (rows - self.skipped),
            "conditions": self.costs.to_dict("records"),
        }


def select(
    scores: pd.DataFrame, wanted: Sequence[Condition], *, skip_first: int = 0, foreign: str = ""
) -> Selection:
    """Keeps the images (rows of `<property>_score`) that meet every condition.

    The first `skip_first` images, which are labelled for training, are left out. Raises ValueError
    with a remedy, which `foreign` replaces for out-of-domain images, if no image is left or kept.
    """
    offered = scores.iloc[skip_first:]
    if offered.empty:
        raise ValueError(
            f"skip_first is {skip_first}, but there are only {len(scores)} images. Lower it."
        )
    passes = pd.DataFrame({c: c.holds(offered[f"{c.prop}_score"]) for c in wanted})
    fails = ~passes
    costs = pd.DataFrame({
        "condition": [str(c) for c in passes],
        "passes": passes.sum().array,
        "fails": fails.sum().array,
        "share": passes.mean().array,
        "lost_only_here": fails[fails.sum(axis=1) == 1].sum().astype(int).array,
    })  # fmt: skip
    kept = passes.all(axis=1)
    if not kept.any():
        counts = ", ".join(f"{row.condition} passes {row.passes}" for row in costs.itertuples())
        remedy = foreign or _what_to_loosen(offered, passes, costs)
        raise ValueError(f"no image meets all conditions ({counts}). {remedy}")
    unscored = offered[[f"{c.prop}_score" for c in wanted]].isna().any(axis=1).sum()
    flags = np.concatenate([np.zeros(skip_first, dtype=bool), kept])
    return Selection(flags, costs, skip_first, int(unscored))


def _what_to_loosen(scores: pd.DataFrame, passes: pd.DataFrame, costs: pd.DataFrame) -> str:
    """Suggests a threshold for the condition that most often alone rejects an image."""
    lost, whose = costs["lost_only_here"], "the images"
    worst = passes.columns[lost.argmax() if lost.any() else costs["passes"].argmin()]
    if lost.any():  # of all images, a quarter may be fewer than pass now
        scores = scores[passes.drop(columns=worst).all(axis=1)]
        whose = "the images that meet the other conditions"
    reach = scores[f"{worst.prop}_score"].quantile(0.75 if worst.sign == ">=" else 0.25)
    if np.isnan(reach):
        raise ValueError(f"no candidate image has a score for {worst.prop!r}. Add scores for it.")
    reach = (np.floor if worst.sign == ">=" else np.ceil)(reach * 1000) / 1000  # still passes
    share = f"a threshold of {reach:.3g} would pass a quarter of {whose}"
    return f"Loosen {worst.prop} in `keep`: {share}."


def read_scores(path: Path | str, wanted: Sequence[Condition]) -> pd.DataFrame:
    """Reads a CSV of external scores, one row per image, in the order of the images.

    Returns all columns; `<property>_score` or `<property>` of each condition is parsed as numbers
    and named `<property>_score`. Raises ValueError if a column is missing or a value malformed.
    """
    table = read_table(path)
    for name in dict.fromkeys(condition.prop for condition in wanted):
        column = f"{name}_score"
        if column not in table:
            table = table.rename(columns={name: column})
        if column not in table:
            there = list(table.columns)
            scored = [text.removesuffix("_score") for text in there]
            remedy = did_you_mean(name, scored, "Correct the condition or the table.")
            raise ValueError(
                f"{path}: no scores for {name!r}, neither in {column} nor in {name}; columns are "
                f"{there}. {remedy}"
            )
        table[column] = as_numbers(table[column], path)
        check_scores(table[column], path)
    numbers = table.get("img_no", table.index)
    if not (numbers.is_monotonic_increasing and numbers.is_unique):
        raise ValueError(f"{path}: img_no does not increase from row to row. Sort the table, and "
                         "keep one row per image.")  # fmt: skip
    return table
