"""Figures over training: figure 1 to figure 8 of the published report, and two that it lacks.

Each takes a log (`verdict.logs.read_log`) and says in a sentence what it shows. Raw values are
faint, the centred moving mean is strong, its shaded band is about 95 %.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from ohlora_lib.figures import style
from ohlora_lib.figures.style import Figure, finish, house_style, new_axes, shown_name
from ohlora_lib.study.look import Meanings
from ohlora_lib.study.machine import counted
from ohlora_lib.verdict.logs import judge_of, who
from ohlora_lib.verdict.verdict import COLLAPSED_DIVERSITY, end_of, listed, start_of

FEW_ROWS = 80  # with at most this many rows, raw values are drawn as markers
TREND = (
    "Faint marks are single evaluations; the line is their moving mean, with a band of about 95 %."
)


@house_style()
def losses(log: pd.DataFrame, *, run: str = "", ax: Axes | None = None) -> Figure:
    """Figure 1: G and D loss over training, a moving mean over the raw values."""
    ax = ax or new_axes()
    _draw_trend(ax, log, "d_loss", "discriminator", 0)
    _draw_trend(ax, log, "g_loss", "generator", 1)
    title = f"{shown_name(run, longest=60)}: losses" if run else "Losses"
    finish(ax, title, "logistic loss (nats)", _time_label(log))
    d, g = _ends(log, "d_loss"), _ends(log, "g_loss")
    alt = (
        f"Line chart of losses {_span(log)}: the discriminator's goes from {d[0]:.4g} to "
        f"{d[1]:.4g}, the generator's from {g[0]:.4g} to {g[1]:.4g}."
    )
    reading = f"{TREND} Neither loss should fall to 0 or keep growing."
    return Figure(ax.figure, f"losses-{run}" if run else "losses", alt, reading)


@house_style()
def auroc(log: pd.DataFrame) -> Figure:
    """Figure 2: the discriminator's AUROC: faint per batch, strong pooled over a window.

    A log without `pooled_auroc` (the published ones) gets the moving mean of the batches' AUROC.
    """
    ax, time, column = new_axes(), _time(log), "real_fake_auroc"
    how, label = "mean of single batches", f"mean of {_smoothing_window(len(log))} batches"
    if "pooled_auroc" in log:
        column, how = "pooled_auroc", "pooled over recent batches"
        _draw_raw(ax, time, log["real_fake_auroc"], 0)
        ax.plot(time, log[column], label=how, **style.series(0, len(log)))
    else:
        label += " with a 95 % band"
        _draw_trend(ax, log, column, label, 0)
    ax.lines[0].set_label("one batch")
    ax.set_ylim(np.nanmin([0.45, log["real_fake_auroc"].min() - 0.02]), 1.02)
    style.rule_line(ax, 0.5, "0.5: cannot tell real from fake", above=True)
    finish(ax, "Discriminator: real against fake", "AUROC", _time_label(log))
    start, end = _ends(log, column)
    alt = (
        f"Line chart of the discriminator's AUROC, real against fake, {_span(log)}: "
        f"{start:.2f} at the start, {end:.2f} at the end ({how}); 0.5 would be guessing."
    )
    reading = (
        "At 0.5 the discriminator guesses; at 1 it separates real from fake without error. "
        "A single batch (faint) is too small to tell."
    )
    return Figure(ax.figure, "auroc", alt, reading)


@house_style()
def scores(
    log: pd.DataFrame,
    properties: Sequence[str],
    concept: Mapping[str, float],
    meaning: Meanings | None = None,
    *,
    ax: Axes | None = None,
) -> Figure:
    """Figure 3 (targets of 1) and figure 4 (targets of 0): mean scores of properties.

    The order of the concept decides the colours; `meaning`, where given, says what 0 and 1 are.
    """
    ax, order, names = ax or new_axes(), list(concept), [*map(shown_name, properties)]
    for prop, name in zip(properties, names, strict=True):
        label = name if meaning is None else f"{name} {style.shown_meaning(prop, meaning)}"
        _draw_trend(ax, log, f"mean_{prop}_score", label, order.index(prop))
    targets = sorted({concept[prop] for prop in properties}, reverse=True)
    _draw_targets(ax, targets)
    title = f"{listed(names)}: toward {listed([f'{target:g}' for target in targets])}"
    finish(ax, title, "mean score of the samples", _time_label(log))
    moves = [f"{_move(log, prop, prop)}, target {concept[prop]:g}" for prop in properties]
    alt = f"Line chart of mean scores {_span(log)}: {'; '.join(moves)}."
    reading = f"{TREND} Each line should approach the dotted line of its target. {_source(log)}"
    return Figure(ax.figure, f"scores-{'-'.join(properties)}", alt, reading)


def property_groups(concept: Mapping[str, float]) -> dict[float, list[str]]:
    """Properties by target, highest target first: one figure each."""
    targets = sorted(set(concept.values()), reverse=True)
    return {target: [p for p in concept if concept[p] == target] for target in targets}


@house_style()
def property_comparison(
    logs: Mapping[str, pd.DataFrame],
    prop: str,
    target: float,
    meaning: Meanings,
) -> Figure:
    """Figure 5, figure 6, figure 7 and figure 8: one property's mean score in several runs."""
    ax = new_axes()
    for order, (name, log) in enumerate(logs.items()):
        _draw_trend(ax, log, f"mean_{prop}_score", shown_name(name), order)
    _draw_targets(ax, [target])
    names = [shown_name(name) for name in reversed(logs)]
    runs = " against ".join(names) if len(names) < 3 else f"{len(names)} runs"
    ylabel = f"mean score of the samples\n{style.shown_meaning(prop, meaning)}"
    finish(ax, f"{shown_name(prop)}: {runs}", ylabel, _time_label(*logs.values()))
    moves = "; ".join(_move(log, prop, name) for name, log in logs.items())
    alt = f"Line chart of the mean {prop} score, target {target:g}: {moves}."
    reading = (
        f"{TREND} A line that ends closer to the dotted target is better; the verdict says "
        f"whether the gap is shown. {_source(*logs.values())}"
    )
    return Figure(ax.figure, f"property-{prop}", alt, reading)


@house_style()
def heldout(log: pd.DataFrame, concept: Mapping[str, float]) -> Figure:
    """Distance to target according to the selecting CNNs and the held-out judge."""
    ax, window, parts = new_axes(height_in=4.6), _smoothing_window(len(log)), []
    for order, (prop, target) in enumerate(concept.items()):
        looks, ends = {"mean": {"ls": "-", "label": shown_name(prop)}, "heldout": style.HOLLOW}, []
        for judge, look in looks.items():
            column = f"{judge}_{prop}_score"
            ends.append(f"{abs(_ends(log, column)[1] - target):.3f}")
            distance = (_smooth(log[column].dropna(), window) - target).abs()
            time = _time(log)[distance.index]
            ax.plot(time, distance, **style.series(order, len(distance)) | look)
        parts.append(f"{prop} {listed(ends)}")
    key = {"color": style.LINE_GREY, "lw": 2, "marker": "o", "ms": 5}
    ax.plot([], [], label="selecting CNNs", **key)
    ax.plot([], [], label="held-out judge", **key | style.HOLLOW)
    ax.set_ylim(-0.05 * ax.get_ylim()[1])
    ax.axhline(0, **style.RULE)
    title, ylabel = "Does the held-out judge agree?", "distance to target (score)"
    finish(ax, title, ylabel, _time_label(log))
    alt = (
        "Line chart of the distance to target by two judges; at the end, by the selecting CNNs "
        f"and by the held-out judge: {'; '.join(parts)}."
    )
    reading = (
        "0 is on target. Where the dashed line follows the solid one, the held-out judge confirms "
        "what the selecting CNNs say."
    )
    return Figure(ax.figure, "heldout", alt, reading)


@house_style()
def diversity(log: pd.DataFrame) -> Figure:
    """Diversity and, if logged, recall, as ratios to the selected images'."""
    ax = new_axes()
    _draw_trend(ax, log, "diversity", "diversity", 0)
    if "recall" in log and log["recall"].notna().any():
        _draw_trend(ax, log, "recall", "recall", 1)
    ax.set_ylim(min(0.45, ax.get_ylim()[0]), max(1.05, ax.get_ylim()[1]))
    limit, (start, end) = COLLAPSED_DIVERSITY, _ends(log, "diversity")
    ax.axhline(limit, label=f"below {limit:g}, diversity has collapsed", **style.RULE)
    finish(ax, "Diversity of the samples", "ratio to the selected images", _time_label(log))
    alt = (
        f"Line chart of the samples' diversity as a ratio to the selected images {_span(log)}: "
        f"from {start:.2f} to {end:.2f}, {'' if end < limit else 'not '}under the line at "
        f"{limit:g}."
    )
    reading = f"{TREND} At 1, the samples are as diverse as the selected images."
    return Figure(ax.figure, "diversity", alt, reading)


@house_style()
def progress(log: pd.DataFrame, concept: Mapping[str, float]) -> Figure:
    """Losses and all scores so far, side by side, for the live monitor."""
    drawing = Drawing(figsize=(13, 4), layout="constrained")
    left, right = drawing.subplots(1, 2)
    parts = losses(log, ax=left), scores(log, list(concept), concept, ax=right)
    return Figure(drawing, "progress", " ".join(part.alt for part in parts))


# ---- time, trends, words ------------------------------------------------------------------------


def _time_label(*logs: pd.DataFrame) -> str:
    """Label of the time axis; a log that counts steps has no epochs."""
    units = dict.fromkeys("steps" if log.attrs.get("by_step") else "epochs" for log in logs)
    return f"training time ({' or '.join(units)})"


def _time(log: pd.DataFrame) -> pd.Series:
    """Training time of each row, in the unit of `_time_label`."""
    return log["idx" if log.attrs.get("by_step") else "time_epochs"]


def _source(*logs: pd.DataFrame) -> str:
    """Says whose scores are drawn, as a verdict may be another judge's."""
    other = ", not the held-out judge" * (judge_of(*logs) == "heldout")
    return f"Source: {who('mean', *logs)}{other}."


def _smoothing_window(rows: int) -> int:
    """Rows to smooth over: odd, 25 for the published 958 rows, at least 3."""
    return max(3, 2 * (rows // 76) + 1)


def _smooth(series: pd.Series, window: int) -> pd.Series:
    """Centred moving mean over `window` rows, fewer at the ends."""
    return series.rolling(window, center=True, min_periods=1).mean()


def _smooth_band(series: pd.Series, window: int) -> pd.DataFrame:
    """About 95 % band (low, high) of the centred moving mean, rows taken as independent."""
    middle = _smooth(series, window)
    count = series.rolling(window, center=True, min_periods=1).count()
    wide = max(3 * window, 25)  # a spread from a few rows would jump about
    spread = (series - middle).rolling(wide, center=True, min_periods=2).std()
    half = 1.96 * spread * np.sqrt(window / (window - 1)) / np.sqrt(count.clip(lower=1))
    return pd.DataFrame({"low": middle - half, "high": middle + half})


def _draw_raw(ax: Axes, time: pd.Series, value: pd.Series, order: int) -> None:
    """Draws raw values faint: few as markers, many as a thin line."""
    line = style.series(order, len(value))
    if len(value) <= FEW_ROWS:
        ax.plot(time, value, line["marker"], color=line["color"], alpha=0.35, ms=4, mew=0)
    else:
        ax.plot(time, value, color=line["color"], alpha=0.18, lw=0.6)


def _draw_trend(ax: Axes, log: pd.DataFrame, column: str, label: str, order: int) -> None:
    """Draws a column as faint points, with its moving mean and that mean's band."""
    found = np.isfinite(log[column])
    time, value = _time(log)[found], log.loc[found, column]
    window, line = _smoothing_window(len(log)), style.series(order, len(value))
    _draw_raw(ax, time, value, order)
    band = _smooth_band(value, window)
    if value.between(0, 1).all():
        band = band.clip(0, 1)
    ax.fill_between(time, band["low"], band["high"], color=line["color"], alpha=0.2, lw=0)
    ax.plot(time, _smooth(value, window), label=label, **line)


def _draw_targets(ax: Axes, targets: Sequence[float]) -> None:
    """Draws the targets, with room for their names beyond the scores."""
    for target in targets:
        style.rule_line(ax, target, f"target {target:g}", above=target > 0)
    ax.margins(y=0.1)


def _ends(log: pd.DataFrame, column: str) -> tuple[float, float]:
    """Mean of a column over the start and over the end of training; NaN if it is empty."""
    found = log[np.isfinite(log[column])]
    if found.empty:
        return np.nan, np.nan
    time = found["time_epochs"].to_numpy(float)
    return found.loc[start_of(time), column].mean(), found.loc[end_of(time), column].mean()


def _move(log: pd.DataFrame, prop: str, name: str) -> str:
    start, end = _ends(log, f"mean_{prop}_score")
    return f"{name} from {start:.3f} to {end:.3f}"


def _span(log: pd.DataFrame) -> str:
    time, rows = _time(log), counted(len(log), "evaluation")
    if log.attrs.get("by_step"):
        return f"over steps {time.iloc[0]:,.0f} to {time.iloc[-1]:,.0f} ({rows})"
    return f"over epochs {time.iloc[0]:.3g} to {time.iloc[-1]:.3g} ({rows})"
