"""Figures over training: figure 1 to figure 8 of the published report, and two that it lacks.

Each takes a log (`verdict.logs.read_log`) and says in a sentence what it shows. A `number` is the
figure's in a report, whose file name it begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

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
    rule_line,
    shown_meaning,
    shown_name,
)
from ohlora_lib.study.look import Meanings
from ohlora_lib.verdict.verdict import (
    COLLAPSED_DIVERSITY,
    end_of,
    listed,
    smooth,
    smooth_band,
    smoothing_window,
    start_of,
)

FEW_ROWS = 80  # up to so many rows, raw values are drawn as markers


@house_style()
def losses(log: pd.DataFrame, *, run: str = "", number: int | None = None) -> Figure:
    """Figure 1: G and D loss over training, a moving mean over the raw values."""
    ax = new_axes()
    alt = _draw_losses(ax, log, f"{shown_name(run, longest=60)}: losses" if run else "Losses")
    name = f"losses-{run}" if run else "losses"
    return Figure(ax.figure, _numbered(number, "losses", name), alt)


def _draw_losses(ax: Axes, log: pd.DataFrame, title: str) -> str:
    _draw_trend(ax, log, "d_loss", "discriminator", 0)
    _draw_trend(ax, log, "g_loss", "generator", 1)
    finish(ax, title, "logistic loss (nats)", time_label(log))
    d, g = _ends(log, "d_loss"), _ends(log, "g_loss")
    return (
        f"Line chart of losses {_span(log)}: the discriminator's goes from {d[0]:.2f} to "
        f"{d[1]:.2f}, the generator's from {g[0]:.2f} to {g[1]:.2f}."
    )


@house_style()
def auroc(log: pd.DataFrame) -> Figure:
    """Figure 2: the discriminator's AUROC, per batch faint, pooled over a window strong.

    A log without `pooled_auroc` (the published ones) gets the moving mean of the batches' AUROC.
    """
    ax, time, pooled = new_axes(), log["time_epochs"], "pooled_auroc" in log
    if pooled:
        few = len(log) <= FEW_ROWS
        ax.plot(time, log["real_fake_auroc"], "o" if few else "-", color=COLORS[0], ms=4,
                lw=0.6, alpha=0.35 if few else 0.18, label="one batch")  # fmt: skip
        ax.plot(time, log["pooled_auroc"], color=COLORS[0], lw=2, marker="o", ms=5,
                markevery=marks_of(len(log), 0), label="pooled over recent batches")  # fmt: skip
    else:
        _draw_trend(ax, log, "real_fake_auroc", f"mean of {smoothing_window(len(log))} batches", 0)
        ax.lines[0].set_label("one batch")
    ax.set_ylim(np.nanmin([0.45, log["real_fake_auroc"].min() - 0.02]), 1.02)
    rule_line(ax, 0.5, "0.5: cannot tell real from fake", above=True)
    finish(ax, "Discriminator: real against fake", "AUROC", time_label(log))
    start, end = _ends(log, "pooled_auroc" if pooled else "real_fake_auroc")
    how = "pooled over recent batches" if pooled else "mean of single batches"
    alt = (
        f"Line chart of the discriminator's AUROC, real against fake, {_span(log)}: "
        f"{start:.2f} at the start, {end:.2f} at the end ({how}); 0.5 would be guessing."
    )
    return Figure(ax.figure, "figure-2-auroc", alt)


@house_style()
def scores(
    log: pd.DataFrame,
    properties: Sequence[str],
    concept: Mapping[str, float],
    meaning: Meanings,
    *,
    number: int | None = None,
) -> Figure:
    """Figure 3 (targets of 1) and figure 4 (targets of 0): mean scores of properties.

    The order of the concept decides the colours; `meaning` says what 0 and 1 are.
    """
    ax = new_axes()
    alt = _draw_scores(ax, log, properties, concept, meaning)
    plain = f"scores-target-{concept[properties[0]]:g}"
    return Figure(ax.figure, _numbered(number, "-".join(properties), plain), alt)


def property_groups(concept: Mapping[str, float]) -> dict[float, list[str]]:
    """Properties by target, highest target first: one figure each."""
    targets = sorted(set(concept.values()), reverse=True)
    return {target: [p for p in concept if concept[p] == target] for target in targets}


def _draw_scores(
    ax: Axes,
    log: pd.DataFrame,
    properties: Sequence[str],
    concept: Mapping[str, float],
    meaning: Meanings | None,
) -> str:
    moves = []
    for prop in properties:
        note, order = shown_meaning(prop, meaning), list(concept).index(prop)
        _draw_trend(ax, log, f"mean_{prop}_score", prop, order, note)
        moves.append(f"{_move(log, prop, prop)}, target {concept[prop]:g}")
    targets = {concept[prop] for prop in properties}
    _draw_targets(ax, targets)
    goal = listed([f"{target:g}" for target in sorted(targets, reverse=True)])
    title = f"{listed([shown_name(p) for p in properties])}: toward {goal}"
    columns = 4 if meaning is None else 2
    finish(ax, title, "mean score of the samples", time_label(log), columns=columns)
    return f"Line chart of mean scores {_span(log)}: {'; '.join(moves)}."


@house_style()
def property_comparison(
    logs: Mapping[str, pd.DataFrame],
    prop: str,
    target: float,
    meaning: Meanings,
    *,
    number: int | None = None,
) -> Figure:
    """Figure 5, figure 6, figure 7 and figure 8: one property's mean score in several runs."""
    ax = new_axes()
    for order, (name, log) in enumerate(logs.items()):
        _draw_trend(ax, log, f"mean_{prop}_score", name, order)
    _draw_targets(ax, {target})
    names = [shown_name(name) for name in reversed(logs)]
    runs = " against ".join(names) if len(names) < 3 else f"{len(names)} runs"
    ylabel = "mean score of the samples" + shown_meaning(prop, meaning, before="\n")
    finish(ax, f"{shown_name(prop)}: {runs}", ylabel, time_label(log), columns=3)
    moves = "; ".join(_move(log, prop, name) for name, log in logs.items())
    alt = f"Line chart of the mean {prop} score, target {target:g}: {moves}."
    return Figure(ax.figure, _numbered(number, prop, f"property-{prop}"), alt)


@house_style()
def heldout(log: pd.DataFrame, concept: Mapping[str, float]) -> Figure:
    """The distance to target by the selecting CNNs and by the held-out judge."""
    ax, window, parts = new_axes(height_in=4.6), smoothing_window(len(log)), []
    for order, (prop, target) in enumerate(concept.items()):
        ends = [abs(_ends(log, f"{who}_{prop}_score")[1] - target) for who in ("mean", "heldout")]
        parts.append(f"{prop} {ends[0]:.3f} and {ends[1]:.3f}")
        color, marker = COLORS[order % len(COLORS)], MARKERS[order % len(MARKERS)]
        for source, dash in (("mean", "-"), ("heldout", DASHES[2])):
            distance = (smooth(log[f"{source}_{prop}_score"].dropna(), window) - target).abs()
            ax.plot(
                log.loc[distance.index, "time_epochs"], distance, color=color, ls=dash, lw=2,
                marker=marker, ms=5, mfc=color if source == "mean" else "white",
                markevery=marks_of(len(distance), order),
            )  # fmt: skip
    ax.set_ylim(-0.05 * ax.get_ylim()[1])
    ax.axhline(0, color=LINE_GREY, ls=":", lw=1.4, zorder=1.5)
    keys = legend_kinds(list(concept), "selecting CNNs", "held-out judge")
    finish(ax, "Does the held-out judge agree?", "distance to target (score)", time_label(log),
           columns=3, handles=keys)  # fmt: skip
    alt = ("Line chart of the distance to target by two judges; at the end, by the selecting "
           f"CNNs and by the held-out judge: {'; '.join(parts)}.")  # fmt: skip
    return Figure(ax.figure, "heldout", alt)


@house_style()
def diversity(log: pd.DataFrame) -> Figure:
    """Diversity, and recall where it is there, as ratios of the selected images' own."""
    ax = new_axes()
    _draw_trend(ax, log, "diversity", "diversity", 0)
    if "recall" in log and log["recall"].notna().any():
        _draw_trend(ax, log, "recall", "recall", 1)
    ax.set_ylim(min(0.45, ax.get_ylim()[0]), max(1.05, ax.get_ylim()[1]))
    limit = f"{COLLAPSED_DIVERSITY:g}: lower diversity is a collapse"
    rule_line(ax, COLLAPSED_DIVERSITY, limit, above=False)
    finish(ax, "Diversity of the samples", "ratio to the selected images", time_label(log))
    start, end = _ends(log, "diversity")
    side = "under" if end < COLLAPSED_DIVERSITY else "not under"
    alt = (
        f"Line chart of the samples' diversity as a ratio to the selected images {_span(log)}: "
        f"from {start:.2f} to {end:.2f}, {side} the line at {COLLAPSED_DIVERSITY:g}."
    )
    return Figure(ax.figure, "diversity", alt)


@house_style()
def progress(log: pd.DataFrame, concept: Mapping[str, float]) -> Figure:
    """Losses and all scores so far, side by side, for the live monitor."""
    drawing = Drawing(figsize=(13, 4), layout="constrained")
    left, right = drawing.subplots(1, 2)
    said = (
        _draw_losses(left, log, "Losses"),
        _draw_scores(right, log, list(concept), concept, None),
    )
    return Figure(drawing, "progress", " ".join(said))


# ---- time, trends, words ------------------------------------------------------------------------


def time_label(log: pd.DataFrame) -> str:
    """What the axis of training time says: of a log by step, it has no epochs."""
    by_step = log.attrs.get("by_step")
    return "training time (share of the log)" if by_step else "training time (epochs)"


def _draw_trend(
    ax: Axes, log: pd.DataFrame, column: str, label: str, order: int, note: str = ""
) -> None:
    """Draws a column faint, its moving mean strong and the mean's band."""
    found = np.isfinite(log[column])
    time, value = log["time_epochs"][found], log.loc[found, column]
    window = smoothing_window(len(log))
    color, few = COLORS[order % len(COLORS)], len(value) <= FEW_ROWS
    if few:
        ax.plot(time, value, MARKERS[order % len(MARKERS)], color=color, alpha=0.35, ms=4, mew=0)
    else:
        ax.plot(time, value, color=color, alpha=0.18, lw=0.6)
    band = smooth_band(value, window)
    if value.between(0, 1).all():
        band = band.clip(0, 1)
    ax.fill_between(time, band["low"], band["high"], color=color, alpha=0.2, lw=0)
    ax.plot(
        time, smooth(value, window), color=color, ls=DASHES[order % len(DASHES)], lw=2,
        marker=MARKERS[order % len(MARKERS)], ms=5, markevery=marks_of(len(value), order),
        label=shown_name(label) + note,
    )  # fmt: skip


def _draw_targets(ax: Axes, targets: set[float]) -> None:
    """Draws the targets, with room for their names beyond the scores."""
    low, high = ax.get_ylim()
    room = 0.09 * (max(high, *targets) - min(low, *targets))
    for target in targets:
        low = min(low, target - room * (target == 0))
        high = max(high, target + room * (target > 0))
    ax.set_ylim(low, high)
    for target in sorted(targets):
        rule_line(ax, target, f"target {target:g}", above=target > 0)


def _numbered(number: int | None, what: str, plain: str) -> str:
    """The name of a figure's files: with its number in a report, plain elsewhere."""
    return plain if number is None else f"figure-{number}-{what}"


def _ends(log: pd.DataFrame, column: str) -> tuple[float, float]:
    """Mean of a column over the start and over the end of training; NaN if it holds nothing."""
    found = log[np.isfinite(log[column])]
    if found.empty:
        return np.nan, np.nan
    time = found["time_epochs"].to_numpy(float)
    return found.loc[start_of(time), column].mean(), found.loc[end_of(time), column].mean()


def _move(log: pd.DataFrame, prop: str, name: str) -> str:
    start, end = _ends(log, f"mean_{prop}_score")
    return f"{name} from {start:.3f} to {end:.3f}"


def _span(log: pd.DataFrame) -> str:
    if log.attrs.get("by_step"):
        first, last = log["idx"].iloc[[0, -1]]
        return f"over steps {first:,.0f} to {last:,.0f} ({len(log)} evaluations)"
    time = log["time_epochs"]
    return f"over epochs {time.iloc[0]:.3g} to {time.iloc[-1]:.3g} ({len(log)} evaluations)"
