"""Figures of property CNNs, of the selection and of samples, each beside its sentence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from ohlora_lib.figures.style import (
    COLORS,
    DASHES,
    LINE_GREY,
    MARKERS,
    Figure,
    finish,
    house_style,
    legend_kinds,
    marks_of,
    new_axes,
    shown_meaning,
    shown_name,
)
from ohlora_lib.study.look import Meanings

LEAKS = {"hardly": 0.2, "somewhat": 0.5, "much": 1.01}  # words for correlations up to these
CALIBRATION_BINS = 10  # intervals of the score
BIN_IMAGES = 5  # at the least, in an interval that is drawn


@house_style()
def fold_losses(history: pd.DataFrame, prop: str) -> Figure:
    """Losses of a property's folds: their mean, and the range of the validation losses.

    The history has columns property, fold, epoch, train_loss, valid_loss.
    """
    ax = new_axes(height_in=4.6)
    part = history[history["property"] == prop]
    epochs, color = part.groupby("epoch"), COLORS[0]
    valid, train = epochs["valid_loss"], epochs["train_loss"].mean()
    low, high, middle = valid.min(), valid.max(), valid.mean()
    ax.fill_between(low.index, low, high, color=color, alpha=0.2, lw=0)
    ax.plot(middle, color=color, lw=2, marker=MARKERS[0], ms=5,
            markevery=marks_of(len(middle), 0))  # fmt: skip
    ax.plot(train, color=color, lw=1.2, ls=DASHES[2], marker=MARKERS[0], ms=4, mfc="white",
            markevery=marks_of(len(train), 0))  # fmt: skip
    ax.set_ylim(0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    folds = history["fold"].nunique()
    finish(ax, f"Property CNNs: mean over {folds} folds", "binary cross-entropy (nats)",
           "epoch of the property CNN", columns=3,
           handles=legend_kinds([prop], "validation", "training"))  # fmt: skip
    best = part.groupby("fold")["valid_loss"].min()
    alt = ("Line chart of training and validation loss by epoch; best validation loss of the "
           f"{folds} folds: {prop} {best.min():.3f} to {best.max():.3f}.")  # fmt: skip
    return Figure(ax.figure, f"losses-{prop}", alt)


@house_style()
def calibration(table: pd.DataFrame, role: str) -> Figure:
    """The share of ones among images of like score; on the diagonal, scores are honest.

    The table has columns property, score, label (0 or 1).
    """
    ax, gaps = new_axes(width_in=5.6, height_in=5.2), []
    ax.plot([0, 1], [0, 1], color=LINE_GREY, ls=":", lw=1.4, label="as often as scored")
    for order, (prop, group) in enumerate(table.groupby("property", sort=False, observed=True)):
        points = calibration_points(group)
        ax.errorbar(
            points["score"], points["share"], points[["below", "above"]].T, lw=2, ms=6,
            color=COLORS[order % len(COLORS)], ls=DASHES[order % len(DASHES)],
            marker=MARKERS[order % len(MARKERS)], elinewidth=1, label=shown_name(prop),
        )  # fmt: skip
        gap = np.average((points["score"] - points["share"]).abs(), weights=points["images"])
        gaps.append(f"{prop} {gap:.3f}")
    ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    finish(ax, "Calibration", "share of images labelled 1", "mean score", columns=3)
    alt = f"Calibration curves; mean gap between score and share of ones: {', '.join(gaps)}."
    return Figure(ax.figure, f"calibration-{role}", alt)


def calibration_points(group: pd.DataFrame) -> pd.DataFrame:
    """Mean score, share of ones and 95 % Wilson interval (below, above) by interval of score."""
    cell = (group["score"] * CALIBRATION_BINS).clip(0, CALIBRATION_BINS - 1e-9).astype(int)
    points = group.groupby(cell).agg(
        score=("score", "mean"), share=("label", "mean"), images=("label", "size")
    )
    points = points[points["images"] >= BIN_IMAGES]
    share, n, z = points["share"], points["images"], 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    return points.assign(
        below=(share - middle + half).clip(0), above=(middle + half - share).clip(0)
    )


@house_style()
def label_scores(unseen: pd.DataFrame, prop: str, meaning: Meanings) -> Figure:
    """Scores of a property by what its images are labelled: columns property, label, score."""
    ax = new_axes()
    part = unseen[unseen["property"] == prop]
    groups = part.assign(stage=part["label"].map("labelled {:.0f}".format))
    return Figure(ax.figure, f"scores-{prop}", _draw_scores(ax, groups, prop, meaning, ""))


@house_style()
def sample_scores(scores: pd.DataFrame, prop: str, target: float, meaning: Meanings) -> Figure:
    """Scores of a property at each stage, and its target: columns property, stage, score."""
    ax = new_axes()
    ax.axvline(target, color=LINE_GREY, ls=":", lw=1.4)
    ax.annotate(
        f"target {target:g}", (target, 1), (-4 if target > 0.5 else 4, -4), va="top",
        xycoords=("data", "axes fraction"), textcoords="offset points", color=LINE_GREY,
        ha="right" if target > 0.5 else "left", fontsize=10,
    )  # fmt: skip
    part = scores[scores["property"] == prop]
    alt = _draw_scores(ax, part, prop, meaning, f", target {target:g}")
    return Figure(ax.figure, f"distribution-{prop}", alt)


def _draw_scores(ax: Axes, part: pd.DataFrame, prop: str, meaning: Meanings, goal: str) -> str:
    """Draws histograms of scores by stage, in order of appearance; returns the sentence."""
    parts = []
    for order, (stage, group) in enumerate(part.groupby("stage", sort=False, observed=True)):
        score = group["score"]
        count, edges = np.histogram(score.clip(0, 1), bins=20, range=(0, 1))
        share, color = count / max(count.sum(), 1), COLORS[order % len(COLORS)]
        ax.stairs(share, edges, fill=True, color=color, alpha=0.15)
        label = f"{shown_name(stage)} ({len(group):,}; mean {score.mean():.3f})"
        ax.stairs(share, edges, color=color, lw=2, ls=DASHES[order % len(DASHES)], label=label)
        parts.append(f"{stage} mean {score.mean():.3f}, median {score.median():.3f}")
    ax.set_ylim(0, ax.get_ylim()[1] * 1.12)
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    finish(ax, f"{shown_name(prop)}: scores of samples", "share of samples",
           f"score{shown_meaning(prop, meaning)}", columns=2)  # fmt: skip
    return f"Histogram of {prop} scores{goal}: {'; '.join(parts)}."


@house_style()
def selection_costs(costs: pd.DataFrame) -> Figure:
    """How many images pass each condition: columns condition, passes, lost_only_here (images)."""
    ax = new_axes(height_in=1.7 + 0.45 * len(costs))
    place, passes, lost = np.arange(len(costs))[::-1], costs["passes"], costs["lost_only_here"]
    ax.barh(place, passes, 0.62, color=COLORS[0], label="images that pass")
    ax.barh(place, lost, 0.62, left=passes, color=COLORS[1], lw=0, hatch="///", edgecolor="white",
            label="lost by it alone")  # fmt: skip
    for y, value, end in zip(place, passes, passes + lost, strict=True):
        ax.annotate(f"{value:,.0f}", (end, y), (4, 0), textcoords="offset points", va="center",
                    fontsize=10)  # fmt: skip
    ax.set_yticks(place, [shown_name(text, longest=40) for text in costs["condition"]])
    ax.set_xlim(0, max(1, (passes + lost).max()) * 1.12)
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.grid(visible=False, axis="y")
    finish(ax, "What the selection keeps", "", "images")
    parts = [
        f"{text} {value:,.0f}" for text, value in zip(costs["condition"], passes, strict=True)
    ]
    alt = f"Bar chart of images that pass each condition of the selection: {'; '.join(parts)}."
    return Figure(ax.figure, "costs", alt)


@house_style()
def leakage(matrix: pd.DataFrame) -> Figure:
    """The correlations of `evaluation.evidence.leakage` as a coloured table with its numbers."""
    size = 2.6 + 0.9 * len(matrix)
    ax = new_axes(width_in=size + 1, height_in=size)
    sns.heatmap(
        matrix, vmin=-1, vmax=1, cmap="PuOr", annot=True, fmt="+.2f", square=True, ax=ax,
        linewidths=1, cbar_kws={"label": "correlation of the changes"},
    )  # fmt: skip
    names = [shown_name(name) for name in matrix]
    ax.set_xticklabels(names, rotation=0)
    ax.set_yticklabels(names, rotation=0)
    ax.grid(visible=False)
    ax.set(xlabel="", ylabel="", title="Which properties changed together?")
    return Figure(ax.figure, "leakage", _strongest_leak(matrix))


def _strongest_leak(matrix: pd.DataFrame) -> str:
    pairs = matrix.where(np.triu(np.ones(matrix.shape, dtype=bool), k=1)).stack().dropna()
    if pairs.empty:
        return "There are no two properties whose changes could go together."
    a, b = pairs.abs().idxmax()
    value = pairs[a, b]
    way = "with" if value > 0 else "against"
    strength = next(w for w, most in LEAKS.items() if abs(value) <= most)
    return f"{a} and {b} changed {strength} {way} one another (correlation {value:+.2f})."
