"""Keeps by their scores the images that have the look, and says what each condition costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ohlora_lib.io.tables import check_scores
from ohlora_lib.population.labels import as_numbers, read_table
from ohlora_lib.study.look import Condition


@dataclass(frozen=True)
class Selection:
    """What was kept: a flag an image, and what each condition costs."""

    kept: np.ndarray  # bool, (N,)
    costs: pd.DataFrame  # condition, passes, fails, share, lost_only_here
    unscored: int = 0  # candidates without one of the scores; they fail

    def summary(self, skip_first: int = 0) -> dict[str, Any]:
        """All numbers, plain: rows, skipped, candidates, kept, share, and each condition's."""
        rows, kept = len(self.kept), int(self.kept.sum())
        skipped = min(skip_first, rows)
        return {
            "rows": rows,
            "skipped": skipped,
            "candidates": rows - skipped,
            "unscored": self.unscored,
            "kept": kept,
            "share": kept / (rows - skipped),
            "conditions": self.costs.to_dict("records"),
        }


def select(
    scores: pd.DataFrame,
    wanted: Iterable[Condition],
    *,
    skip_first: int = 0,
    foreign: str = "",
) -> Selection:
    """Keeps the images that meet every condition.

    Args:
        scores: A row an image, columns `<property>_score`.
        wanted: Conditions.
        skip_first: Number of first images left out, because they were labelled for training.
        foreign: What to do instead of loosening, where the images are of something else.

    Raises:
        ValueError: If all images are left out, or nothing is kept (says what to do).
    """
    wanted = list(wanted)
    eligible = np.arange(len(scores)) >= skip_first
    if not eligible.any():
        raise ValueError(
            f"skip_first is {skip_first}, but there are {len(scores)} images in all. Skip fewer."
        )
    passes = {c: c.holds(scores[f"{c.prop}_score"]).to_numpy() & eligible for c in wanted}
    kept = np.logical_and.reduce([eligible, *passes.values()])
    rows = []
    for condition, flags in passes.items():
        others = [f for c, f in passes.items() if c is not condition]
        lost = np.logical_and.reduce([eligible, *others]) & ~flags
        rows.append({
            "condition": str(condition),
            "passes": int(flags.sum()),
            "fails": int((eligible & ~flags).sum()),
            "share": flags.sum() / eligible.sum(),
            "lost_only_here": int(lost.sum()),
        })  # fmt: skip
    costs = pd.DataFrame(rows)
    if not kept.any():
        counts = ", ".join(f"{row.condition} passes {row.passes}" for row in costs.itertuples())
        remedy = foreign or _what_to_loosen(scores[eligible], wanted, costs)
        raise ValueError(f"no image meets all conditions ({counts}). {remedy}")
    names = [f"{condition.prop}_score" for condition in wanted]
    unscored = int(scores.loc[eligible, names].isna().any(axis=1).sum())
    return Selection(kept, costs, unscored)


def read_scores(path: Path | str, wanted: Sequence[Condition]) -> pd.DataFrame:
    """Reads a table of scores made elsewhere, a row an image in the images' order.

    Args:
        path: CSV with columns `<property>_score`, or `<property>` by itself.
        wanted: Conditions whose properties must be there.

    Returns:
        All columns; those of the conditions are numbers named `<property>_score`.

    Raises:
        ValueError: If the file, a column or a number is not right; one line.
    """
    table = read_table(path, [])
    names = list(dict.fromkeys(condition.prop for condition in wanted))
    bare = [name for name in names if f"{name}_score" not in table and name in table]
    table = table.rename(columns={name: f"{name}_score" for name in bare})
    for name in names:
        column = f"{name}_score"
        if column not in table:
            raise ValueError(
                f"{path}: has no scores of {name!r}, neither {column} nor {name}; the table has "
                f"{list(table.columns)}. Correct the condition."
            )
        table[column] = as_numbers(table[column], str(path))
        check_scores(table[column], path)
    if "img_no" in table and not table["img_no"].is_monotonic_increasing:
        raise ValueError(f"{path}: img_no is not in order, which `skip_first` counts by. Sort it.")
    if "img_no" in table and not table["img_no"].is_unique:
        twice = table["img_no"][table["img_no"].duplicated()].iloc[0]
        raise ValueError(f"{path}: img_no {twice} is there twice. Keep one row an image.")
    return table


def _what_to_loosen(scores: pd.DataFrame, wanted: list[Condition], costs: pd.DataFrame) -> str:
    """The condition that alone stands in the way most often, and a threshold to loosen it to."""
    lost = costs["lost_only_here"]
    k = int(lost.argmax() if lost.any() else costs["passes"].argmin())
    worst, whose = wanted[k], "the images"
    if lost.any():  # a quarter of all images could be fewer than pass now
        others = [c.holds(scores[f"{c.prop}_score"]) for c in wanted if c is not worst]
        scores = scores[np.logical_and.reduce([np.full(len(scores), True), *others])]
        whose += " that meet the others"
    reach = scores[f"{worst.prop}_score"].quantile(0.75 if worst.sign == ">=" else 0.25)
    if np.isnan(reach):
        raise ValueError(f"none of the images has a score of {worst.prop!r}")
    reach = (np.floor if worst.sign == ">=" else np.ceil)(reach * 1000) / 1000  # still in reach
    share = f"a threshold of {reach:.3g} would pass a quarter of {whose}"
    return f"Loosen {worst.prop} in `keep`: {share}."
