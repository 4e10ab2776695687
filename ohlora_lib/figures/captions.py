"""What each figure of `plots` shows, in one sentence computed from the same table.

Used as alternative text, so a reader who cannot see the figure gets its numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ohlora_lib.figures.style import calibration_points, count_column
from ohlora_lib.figures.training import has_columns, times_of
from ohlora_lib.verdict.verdict import COLLAPSED_DIVERSITY, end_of, start_of


def _ends(log: pd.DataFrame, column: str) -> tuple[float, float]:
    """Mean of a column over the start and over the end of training."""
    has_columns(log, column)
    found = log[np.isfinite(log[column])]
    if found.empty:
        return np.nan, np.nan
    time = times_of(found).to_numpy(float)
    return found.loc[start_of(time), column].mean(), found.loc[end_of(time), column].mean()


def _span(log: pd.DataFrame) -> str:
    if log.attrs.get("by_step"):
        first, last = log["idx"].iloc[[0, -1]]
        return f"over steps {first:,.0f} to {last:,.0f} ({len(log)} evaluations)"
    time = times_of(log)
    return f"over epochs {time.iloc[0]:.3g} to {time.iloc[-1]:.3g} ({len(log)} evaluations)"


def describe_losses(log: pd.DataFrame) -> str:
    """One sentence on `plot_losses`."""
    d, g = _ends(log, "d_loss"), _ends(log, "g_loss")
    return (
        f"Line chart of losses {_span(log)}: the discriminator's goes from {d[0]:.2f} to "
        f"{d[1]:.2f}, the generator's from {g[0]:.2f} to {g[1]:.2f}."
    )


def describe_auroc(log: pd.DataFrame) -> str:
    """One sentence on `plot_auroc`."""
    start, end = _ends(log, "pooled_auroc" if "pooled_auroc" in log else "real_fake_auroc")
    how = "pooled over recent batches" if "pooled_auroc" in log else "mean of single batches"
    return (
        f"Line chart of the discriminator's AUROC, real against fake, {_span(log)}: "
        f"{start:.2f} at the start, {end:.2f} at the end ({how}); 0.5 would be guessing."
    )


def describe_scores(
    log: pd.DataFrame,
    properties: Sequence[str],
    concept: Mapping[str, float],
    *,
    source: str = "mean",
) -> str:
    """One sentence on `plot_scores`."""
    moves = [_move(log, prop, concept[prop], source) for prop in properties]
    return f"Line chart of mean scores {_span(log)}: {'; '.join(moves)}."


def _move(log: pd.DataFrame, prop: str, target: float, source: str) -> str:
    start, end = _ends(log, f"{source}_{prop}_score")
    return f"{prop} from {start:.3f} to {end:.3f}, target {target:g}"


def describe_property_comparison(
    logs: Mapping[str, pd.DataFrame], prop: str, target: float, *, source: str = "mean"
) -> str:
    """One sentence on `plot_property_comparison`."""
    moves = []
    for name, log in logs.items():
        start, end = _ends(log, f"{source}_{prop}_score")
        moves.append(f"{name} from {start:.3f} to {end:.3f}")
    return f"Line chart of the mean {prop} score, target {target:g}: {'; '.join(moves)}."


def describe_heldout(log: pd.DataFrame, concept: Mapping[str, float]) -> str:
    """One sentence on `plot_heldout`."""
    parts = []
    for prop, target in concept.items():
        own, judge = (
            abs(_ends(log, f"{s}_{prop}_score")[1] - target) for s in ("mean", "heldout")
        )
        parts.append(f"{prop} {own:.3f} and {judge:.3f}")
    return ("Line chart of the distance to target by two judges; at the end, by the selecting "
            f"CNNs and by the held-out judge: {'; '.join(parts)}.")  # fmt: skip


def describe_diversity(log: pd.DataFrame) -> str:
    """One sentence on `plot_diversity`."""
    start, end = _ends(log, "diversity")
    side = "under" if end < COLLAPSED_DIVERSITY else "not under"
    return (
        f"Line chart of the samples' diversity as a ratio to the selected images {_span(log)}: "
        f"from {start:.2f} to {end:.2f}, {side} the line at {COLLAPSED_DIVERSITY:g}."
    )


def describe_score_distributions(
    scores: pd.DataFrame, prop: str, target: float | None = None
) -> str:
    """One sentence on `plot_score_distributions`."""
    part = scores[scores["property"] == prop]
    groups = part.groupby("stage", sort=False, observed=True)["score"]
    means = [
        f"{stage} mean {score.mean():.3f}, median {score.median():.3f}" for stage, score in groups
    ]
    goal = "" if target is None else f", target {target:g}"
    return f"Histogram of {prop} scores{goal}: {'; '.join(means)}."


def describe_fold_losses(history: pd.DataFrame, prop: str | None = None) -> str:
    """One sentence on `plot_fold_losses`."""
    parts = []
    for name in history["property"].unique() if prop is None else [prop]:
        best = history[history["property"] == name].groupby("fold")["valid_loss"].min()
        parts.append(f"{name} {best.min():.3f} to {best.max():.3f}")
    return ("Line chart of training and validation loss by epoch; best validation loss of the "
            f"{history['fold'].nunique()} folds: {'; '.join(parts)}.")  # fmt: skip


def describe_calibration(table: pd.DataFrame, *, bins: int = 10) -> str:
    """One sentence on `plot_calibration`."""
    parts = []
    for prop, group in table.groupby("property", sort=False, observed=True):
        points = calibration_points(group, bins=bins)
        gap = np.average((points["score"] - points["share"]).abs(), weights=points["images"])
        parts.append(f"{prop} {gap:.3f}")
    return ("Calibration curves; mean gap between score and share of ones: "
            f"{', '.join(parts)}.")  # fmt: skip


def describe_selection_costs(costs: pd.DataFrame) -> str:
    """One sentence on `plot_selection_costs`."""
    counts = costs[count_column(costs)]
    parts = [
        f"{text} {count:,.0f}" for text, count in zip(costs["condition"], counts, strict=True)
    ]
    return f"Bar chart of images that pass each condition of the selection: {'; '.join(parts)}."
