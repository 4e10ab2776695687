"""The figures: tables in, Axes out; `captions` says in a sentence what each one shows.

A figure over training takes a log (`training_logs.read_log`). Without `ax`, a plot opens a figure
by `figures.new_figure`, outside pyplot: nothing to close, nothing shown twice in a notebook.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from ohlora_lib.figures.training import (
    COLORS,
    DASHES,
    FEW_ROWS,
    LINE_GREY,
    MARKERS,
    draw_trend,
    finish,
    has_columns,
    legend_kinds,
    marks_of,
    new_figure,
    rule_line,
    shown_meaning,
    shown_name,
    target_lines,
    time_label,
    times_of,
)
from ohlora_lib.study.words import Meanings
from ohlora_lib.verdict.verdict import COLLAPSED_DIVERSITY, listed, smooth, smoothing_window

# ---- training -----------------------------------------------------------------------------------


def plot_losses(log: pd.DataFrame, *, window: int | None = None, ax: Axes | None = None) -> Axes:
    """Draws G and D loss over training, a moving mean over the raw values."""
    has_columns(log, "g_loss", "d_loss")
    ax = ax or new_figure()
    draw_trend(ax, log, "d_loss", "discriminator", 0, window)
    draw_trend(ax, log, "g_loss", "generator", 1, window)
    return finish(ax, "Losses", "logistic loss (nats)", xlabel=time_label(log))


def plot_auroc(log: pd.DataFrame, *, window: int | None = None, ax: Axes | None = None) -> Axes:
    """Draws the discriminator's AUROC: per batch faint, pooled over a window strong.

    A log without `pooled_auroc` (the published ones) gets the moving mean of the batches' AUROC.
    """
    has_columns(log, "real_fake_auroc")
    ax = ax or new_figure()
    window = window or smoothing_window(len(log))
    if "pooled_auroc" in log:
        few = len(log) <= FEW_ROWS
        ax.plot(times_of(log), log["real_fake_auroc"], "o" if few else "-", color=COLORS[0], ms=4,
                lw=0.6, alpha=0.35 if few else 0.18, label="one batch")  # fmt: skip
        ax.plot(times_of(log), log["pooled_auroc"], color=COLORS[0], lw=2, marker="o", ms=5,
                markevery=marks_of(len(log), 0), label="pooled over recent batches")  # fmt: skip
    else:
        draw_trend(ax, log, "real_fake_auroc", f"mean of {window} batches", 0, window)
        ax.lines[0].set_label("one batch")
    low = np.nanmin([0.45, log["real_fake_auroc"].min() - 0.02])
    ax.set_ylim(low, 1.02)
    rule_line(ax, 0.5, "0.5: cannot tell real from fake", above=True)
    return finish(ax, "Discriminator: real against fake", "AUROC", xlabel=time_label(log))


def plot_scores(
    log: pd.DataFrame,
    properties: Sequence[str],
    concept: Mapping[str, float],
    *,
    source: str = "mean",
    window: int | None = None,
    meaning: Meanings | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draws mean scores of properties over training, with their targets and what 0 and 1 mean."""
    has_columns(log, *(f"{source}_{prop}_score" for prop in properties))
    ax = ax or new_figure()
    order = list(concept)
    for prop in properties:
        note = shown_meaning(prop, meaning)
        draw_trend(ax, log, f"{source}_{prop}_score", prop, order.index(prop), window, note)
    targets = [concept[prop] for prop in properties]
    target_lines(ax, targets)
    goal = listed([f"{target:g}" for target in sorted(set(targets), reverse=True)])
    return finish(
        ax,
        f"{listed([shown_name(p) for p in properties])}: toward {goal}",
        "mean score of the samples",
        xlabel=time_label(log),
        columns=4 if meaning is None else 2,
    )


def plot_property_comparison(
    logs: Mapping[str, pd.DataFrame],
    prop: str,
    target: float,
    *,
    source: str = "mean",
    window: int | None = None,
    meaning: Meanings | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draws one property's mean score over training for several runs, by name."""
    ax = ax or new_figure()
    for order, (name, log) in enumerate(logs.items()):
        has_columns(log, f"{source}_{prop}_score")
        draw_trend(ax, log, f"{source}_{prop}_score", name, order, window)
    target_lines(ax, [target])
    names = [shown_name(name, longest=24) for name in reversed(logs)]
    runs = " against ".join(names) if len(names) < 3 else f"{len(names)} runs"
    said = shown_meaning(prop, meaning, before="\n")
    return finish(ax, f"{shown_name(prop)}: {runs}", f"mean score of the samples{said}",
                  xlabel=time_label(next(iter(logs.values()))), columns=3)  # fmt: skip


def plot_heldout(
    log: pd.DataFrame,
    concept: Mapping[str, float],
    *,
    window: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draws the distance to target by the selecting CNNs and by the held-out judge."""
    ax = ax or new_figure(height_in=4.6)
    window = window or smoothing_window(len(log))
    for order, (prop, target) in enumerate(concept.items()):
        color, marker = COLORS[order % len(COLORS)], MARKERS[order % len(MARKERS)]
        for source, dash in (("mean", "-"), ("heldout", DASHES[2])):
            has_columns(log, f"{source}_{prop}_score")
            distance = (smooth(log[f"{source}_{prop}_score"].dropna(), window) - target).abs()
            ax.plot(
                times_of(log)[distance.index], distance, color=color, ls=dash, lw=2, marker=marker,
                ms=5, mfc=color if source == "mean" else "white",
                markevery=marks_of(len(distance), order),
            )  # fmt: skip
    ax.set_ylim(-0.05 * ax.get_ylim()[1])
    ax.axhline(0, color=LINE_GREY, ls=":", lw=1.4, zorder=1.5)
    keys = legend_kinds(list(concept), "selecting CNNs", "held-out judge")
    return finish(ax, "Does the held-out judge agree?", "distance to target (score)",
                   xlabel=time_label(log), columns=3, handles=keys)  # fmt: skip


def plot_diversity(
    log: pd.DataFrame, *, window: int | None = None, ax: Axes | None = None
) -> Axes:
    """Draws diversity, and recall where it is there, as ratios of the selected images' own."""
    has_columns(log, "diversity")
    ax = ax or new_figure()
    draw_trend(ax, log, "diversity", "diversity", 0, window)
    if "recall" in log and log["recall"].notna().any():
        draw_trend(ax, log, "recall", "recall", 1, window)
    ax.set_ylim(min(0.45, ax.get_ylim()[0]), max(1.05, ax.get_ylim()[1]))
    rule_line(ax, COLLAPSED_DIVERSITY, f"{COLLAPSED_DIVERSITY:g}: lower diversity is a collapse",
          above=False)  # fmt: skip
    return finish(ax, "Diversity of the samples", "ratio to the selected images",
                  xlabel=time_label(log))  # fmt: skip


# ---- samples, property CNNs, selection ----------------------------------------------------------


def plot_score_distributions(
    scores: pd.DataFrame,
    prop: str,
    target: float | None = None,
    *,
    meaning: Meanings | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draws one property's score distribution for each stage.

    Args:
        scores: Tidy: columns stage, property, score; stages in order of appearance.
        prop: The property.
        target: Marked where given.
        meaning: What 0 and 1 of a property mean.
        ax: Where to draw.
    """
    has_columns(scores, "stage", "property", "score")
    ax = ax or new_figure()
    part = scores[scores["property"] == prop]
    for order, (stage, group) in enumerate(part.groupby("stage", sort=False, observed=True)):
        count, edges = np.histogram(group["score"].clip(0, 1), bins=20, range=(0, 1))
        share, color = count / max(count.sum(), 1), COLORS[order % len(COLORS)]
        ax.stairs(share, edges, fill=True, color=color, alpha=0.15)
        label = f"{shown_name(stage)} ({len(group):,}; mean {group['score'].mean():.3f})"
        ax.stairs(share, edges, color=color, lw=2, ls=DASHES[order % len(DASHES)], label=label)
    if target is not None:
        ax.axvline(target, color=LINE_GREY, ls=":", lw=1.4)
        ax.annotate(
            f"target {target:g}", (target, 1), (-4 if target > 0.5 else 4, -4), va="top",
            xycoords=("data", "axes fraction"), textcoords="offset points", color=LINE_GREY,
            ha="right" if target > 0.5 else "left", fontsize=10,
        )  # fmt: skip
    ax.set_ylim(0, ax.get_ylim()[1] * 1.12)
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return finish(
        ax,
        f"{shown_name(prop)}: scores of samples",
        "share of samples",
        xlabel=f"score{shown_meaning(prop, meaning)}",
        columns=2,
    )


def plot_fold_losses(
    history: pd.DataFrame, prop: str | None = None, *, ax: Axes | None = None
) -> Axes:
    """Draws the folds' losses: mean over folds, range of the validation losses as a band.

    Args:
        history: Columns property, fold, epoch, train_loss, valid_loss.
        prop: One property only, or all of them.
        ax: Where to draw.
    """
    has_columns(history, "property", "fold", "epoch", "train_loss", "valid_loss")
    ax = ax or new_figure(height_in=4.6)
    names = list(history["property"].unique()) if prop is None else [prop]
    for order, name in enumerate(names):
        epochs = history[history["property"] == name].groupby("epoch")
        color, marker = COLORS[order % len(COLORS)], MARKERS[order % len(MARKERS)]
        valid, train = epochs["valid_loss"], epochs["train_loss"].mean()
        low, high, middle = valid.min(), valid.max(), valid.mean()
        ax.fill_between(low.index, low, high, color=color, alpha=0.2, lw=0)
        ax.plot(middle, color=color, lw=2, marker=marker, ms=5,
                markevery=marks_of(len(middle), order))  # fmt: skip
        ax.plot(train, color=color, lw=1.2, ls=DASHES[2], marker=marker, ms=4, mfc="white",
                markevery=marks_of(len(train), order))  # fmt: skip
    ax.set_ylim(0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    folds = history["fold"].nunique()
    return finish(ax, f"Property CNNs: mean over {folds} folds",
                   "binary cross-entropy (nats)", xlabel="epoch of the property CNN",
                   columns=3, handles=legend_kinds(names, "validation", "training"))  # fmt: skip


def plot_calibration(table: pd.DataFrame, *, bins: int = 10, ax: Axes | None = None) -> Axes:
    """Draws the share of ones among images of like score; on the diagonal, scores are honest.

    Args:
        table: Columns property, score, label (0 or 1).
        bins: Score intervals; those with fewer than 5 images are left out.
        ax: Where to draw.
    """
    ax = ax or new_figure(width_in=5.6, height_in=5.2)
    ax.plot([0, 1], [0, 1], color=LINE_GREY, ls=":", lw=1.4, label="as often as scored")
    for order, (prop, group) in enumerate(table.groupby("property", sort=False, observed=True)):
        points = calibration_points(group, bins=bins)
        color = COLORS[order % len(COLORS)]
        ax.errorbar(
            points["score"], points["share"], points[["below", "above"]].T, color=color, lw=2,
            ls=DASHES[order % len(DASHES)], marker=MARKERS[order % len(MARKERS)], ms=6,
            elinewidth=1, label=shown_name(prop),
        )  # fmt: skip
    ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    return finish(ax, "Calibration", "share of images labelled 1", xlabel="mean score", columns=3)


def calibration_points(group: pd.DataFrame, *, bins: int = 10, least: int = 5) -> pd.DataFrame:
    """Mean score, share of ones and 95 % Wilson interval (below, above) by interval of score."""
    has_columns(group, "score", "label")
    cell = (group["score"] * bins).clip(0, bins - 1e-9).astype(int)
    points = group.groupby(cell).agg(
        score=("score", "mean"), share=("label", "mean"), images=("label", "size")
    )
    points = points[points["images"] >= least]
    share, n, z = points["share"], points["images"], 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    return points.assign(
        below=(share - middle + half).clip(0), above=(middle + half - share).clip(0)
    )


def plot_selection_costs(costs: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draws how many images pass each condition of the selection.

    Args:
        costs: Columns condition and `passes` or `kept` (images); optionally `lost_only_here`.
        ax: Where to draw.
    """
    count = count_column(costs)
    ax = ax or new_figure(height_in=1.7 + 0.45 * len(costs))
    place = np.arange(len(costs))[::-1]
    ax.barh(place, costs[count], 0.62, color=COLORS[0], label="images that pass")
    ends = costs[count]
    if "lost_only_here" in costs:
        ax.barh(place, costs["lost_only_here"], 0.62, left=ends, color=COLORS[1], lw=0,
                hatch="///", edgecolor="white", label="lost by it alone")  # fmt: skip
        ends = ends + costs["lost_only_here"]
    for y, value, end in zip(place, costs[count], ends, strict=True):
        ax.annotate(f"{value:,.0f}", (end, y), (4, 0), textcoords="offset points", va="center",
                    fontsize=10)  # fmt: skip
    ax.set_yticks(place, [shown_name(text, longest=40) for text in costs["condition"]])
    ax.set_xlim(0, max(1, ends.max()) * 1.12)
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.grid(visible=False, axis="y")
    return finish(ax, "What the selection keeps", "", xlabel="images")


def count_column(costs: pd.DataFrame) -> str:
    """Name of the column that counts what passes."""
    has_columns(costs, "condition", "kept" if "kept" in costs else "passes")
    return "kept" if "kept" in costs else "passes"


def plot_leakage(matrix: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draws the correlations of `evidence.leakage` as a coloured table with its numbers."""
    size = 2.6 + 0.9 * len(matrix)
    ax = ax or new_figure(width_in=size + 1, height_in=size)
    sns.heatmap(
        matrix, vmin=-1, vmax=1, cmap="PuOr", annot=True, fmt="+.2f", square=True, ax=ax,
        linewidths=1, cbar_kws={"label": "correlation of the changes"},
    )  # fmt: skip
    names = [shown_name(name) for name in matrix]
    ax.set_xticklabels(names, rotation=0)
    ax.set_yticklabels(names, rotation=0)
    ax.grid(visible=False)
    ax.set(xlabel="", ylabel="", title="Which properties changed together?")
    return ax
