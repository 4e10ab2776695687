"""The figures: tables in, Axes out; and one sentence each that says what is to be seen.

A figure over training takes a log (`trends.read_log`). Raw values are faint, the centred moving
mean is strong, its shaded band is about 95 %. Colours are seaborn's colour-blind palette, and each
series has a dash and a marker of its own. Without `ax`, a plot opens a figure by `new_figure`,
outside pyplot: nothing to close, nothing shown twice in a notebook.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter
from matplotlib.transforms import ScaledTranslation

from ohlora_lib.records import write_atomic
from ohlora_lib.trends import (
    COLLAPSED_DIVERSITY,
    end_of,
    listed,
    smooth,
    smooth_band,
    smoothing_window,
    start_of,
    time_epochs,
)

COLORS = sns.color_palette("colorblind")
DASHES = ("-", (0, (6, 2)), (0, (2, 1.2)), (0, (7, 2, 1.5, 2)), (0, (4, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINE_GREY = "0.35"
TIME_LABEL = "training time (epochs)"
FEW_ROWS = 80  # up to so many rows, raw values are drawn as markers


# ---- figures and files --------------------------------------------------------------------------


def apply_style() -> None:
    """Sets size, typography and palette of every figure made from here on."""
    sns.set_theme(
        context="notebook",
        style="whitegrid",
        palette="colorblind",
        rc={
            "figure.figsize": (7.2, 4.2), "figure.dpi": 100, "savefig.dpi": 150,
            "font.size": 11, "axes.titlesize": 12, "axes.titleweight": "bold",
            "axes.titlelocation": "left", "axes.labelsize": 11, "xtick.labelsize": 10,
            "ytick.labelsize": 10, "legend.fontsize": 10, "grid.color": "0.9",
            "axes.edgecolor": "0.6", "svg.hashsalt": "ohlora", "axes.formatter.useoffset": False,
        },
    )  # fmt: skip


def new_figure(*, width_in: float = 7.2, height_in: float = 4.2) -> Axes:
    """Opens a figure of the house's size and typography; returns its Axes.

    Settings of the caller's other figures are left alone.
    """
    with rc_context():
        apply_style()
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
        return figure.add_subplot()


def save_figure(figure: Figure, path: str | Path) -> None:
    """Writes `path`.png and `path`.svg, each whole or not at all."""
    path = Path(path)
    for kind in ("png", "svg"):
        buffer = io.BytesIO()
        with rc_context({"svg.hashsalt": "ohlora"}):  # the same figure gives the same bytes
            metadata = {"Date": None} if kind == "svg" else None
            figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
        write_atomic(path.with_name(f"{path.name}.{kind}"), buffer.getvalue())


# ---- parts of figures ---------------------------------------------------------------------------


def _time(log: pd.DataFrame) -> pd.Series:
    return log["time_epochs"] if "time_epochs" in log else time_epochs(log)


def _trend(
    ax: Axes, log: pd.DataFrame, column: str, label: str, order: int, window: int | None
) -> None:
    """Draws a column faint, its moving mean strong and the mean's band."""
    found = np.isfinite(log[column])
    time, value = _time(log)[found], log.loc[found, column]
    window = window or smoothing_window(len(log))
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
        marker=MARKERS[order % len(MARKERS)], ms=5, markevery=_marks(len(value), order),
        label=_shown(label),
    )  # fmt: skip


def _marks(rows: int, order: int) -> tuple[int, int]:
    """Where to put about eight markers, apart from those of other series."""
    step = max(1, rows // 8)
    return (order * step // 4, step)


def _line(ax: Axes, height: float, text: str, *, above: bool) -> None:
    """Draws a reference line across, its name on it at the right."""
    ax.axhline(height, color=LINE_GREY, ls=":", lw=1.4, zorder=1.5)
    ax.annotate(
        text, (0.995, height), (0, 3 if above else -3), xycoords=("axes fraction", "data"),
        textcoords="offset points", ha="right", va="bottom" if above else "top",
        fontsize=10, color=LINE_GREY,
    )  # fmt: skip


def _target_lines(ax: Axes, targets: Sequence[float]) -> None:
    """Draws the targets, with room for their names beyond the scores."""
    low, high = ax.get_ylim()
    room = 0.09 * (max(high, *targets) - min(low, *targets))
    for target in targets:
        low = min(low, target - room * (target == 0))
        high = max(high, target + room * (target > 0))
    ax.set_ylim(low, high)
    for target in sorted(set(targets)):
        _line(ax, target, f"target {target:g}", above=target > 0)


def _finish(
    ax: Axes,
    title: str,
    ylabel: str,
    *,
    xlabel: str = TIME_LABEL,
    columns: int = 4,
    handles: Sequence[Line2D] = (),
) -> Axes:
    """Titles, labels, and the legend under the axes, where it hides no data."""
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_title(title, loc="left", weight="bold", size=12)
    sns.despine(ax=ax)
    handles = handles or ax.get_legend_handles_labels()[0]
    if handles:
        below = ScaledTranslation(0, -0.5, ax.figure.dpi_scale_trans)  # inches, past the label
        legend = ax.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), frameon=False,
            bbox_transform=ax.transAxes + below, ncols=min(columns, len(handles)),
            handlelength=3.2, fontsize=10, borderpad=0.1,
        )  # fmt: skip
        for handle in legend.legend_handles:  # faint lines must be seen here
            handle.set_alpha(max(handle.get_alpha() or 1, 0.5))
    return ax


def _key(order: int, label: str, *, hollow: bool = False, color: object = None) -> Line2D:
    """An entry of a legend that is not one line of the figure."""
    color = color or COLORS[order % len(COLORS)]
    return Line2D(
        [], [], color=color, lw=2, ls=DASHES[2] if hollow else "-", ms=5, label=label,
        marker=MARKERS[order % len(MARKERS)], mfc="white" if hollow else color,
    )  # fmt: skip


def _kinds(names: Sequence[str], full: str, hollow: str) -> list[Line2D]:
    """Legend of figures with two lines a property: the properties, then the two kinds."""
    keys = [_key(order, _shown(name)) for order, name in enumerate(names)]
    grey = {"color": LINE_GREY}
    return [*keys, _key(0, full, **grey), _key(0, hollow, hollow=True, **grey)]


def _shown(name: object, *, longest: int = 40) -> str:
    """A name as text in a figure: no formula, not hidden, not endless."""
    text = " ".join(str(name).split()).replace("$", r"\$")
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return f"\u200b{text}" if text.startswith("_") else text


def _has(table: pd.DataFrame, *columns: str) -> None:
    missing = [name for name in columns if name not in table]
    if missing:
        raise ValueError(f"the table has no column {listed(missing)}; "
                         f"it has {listed([str(name) for name in table])}")  # fmt: skip


def property_groups(concept: Mapping[str, float]) -> dict[float, list[str]]:
    """Properties by target, highest target first: one figure each."""
    targets = sorted(set(concept.values()), reverse=True)
    return {target: [p for p in concept if concept[p] == target] for target in targets}


# ---- training -----------------------------------------------------------------------------------


def plot_losses(log: pd.DataFrame, *, window: int | None = None, ax: Axes | None = None) -> Axes:
    """Draws G and D loss over training, a moving mean over the raw values."""
    _has(log, "g_loss", "d_loss")
    ax = ax or new_figure()
    _trend(ax, log, "d_loss", "discriminator", 0, window)
    _trend(ax, log, "g_loss", "generator", 1, window)
    return _finish(ax, "Losses", "logistic loss (nats)")


def plot_auroc(log: pd.DataFrame, *, window: int | None = None, ax: Axes | None = None) -> Axes:
    """Draws the discriminator's AUROC: per batch faint, pooled over a window strong.

    A log without `pooled_auroc` (the published ones) gets the moving mean of the batches' AUROC.
    """
    _has(log, "real_fake_auroc")
    ax = ax or new_figure()
    window = window or smoothing_window(len(log))
    if "pooled_auroc" in log:
        few = len(log) <= FEW_ROWS
        ax.plot(_time(log), log["real_fake_auroc"], "o" if few else "-", color=COLORS[0], ms=4,
                lw=0.6, alpha=0.35 if few else 0.18, label="one batch")  # fmt: skip
        ax.plot(_time(log), log["pooled_auroc"], color=COLORS[0], lw=2, marker="o", ms=5,
                markevery=_marks(len(log), 0), label="pooled over recent batches")  # fmt: skip
    else:
        _trend(ax, log, "real_fake_auroc", f"mean of {window} batches", 0, window)
        ax.lines[0].set_label("one batch")
    low = np.nanmin([0.45, log["real_fake_auroc"].min() - 0.02])
    ax.set_ylim(low, 1.02)
    _line(ax, 0.5, "0.5: cannot tell real from fake", above=True)
    return _finish(ax, "Discriminator: real against fake", "AUROC")


def plot_scores(
    log: pd.DataFrame,
    properties: Sequence[str],
    concept: Mapping[str, float],
    *,
    source: str = "mean",
    window: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draws mean scores of properties over training, with their targets."""
    _has(log, *(f"{source}_{prop}_score" for prop in properties))
    ax = ax or new_figure()
    order = list(concept)
    for prop in properties:
        _trend(ax, log, f"{source}_{prop}_score", prop, order.index(prop), window)
    targets = [concept[prop] for prop in properties]
    _target_lines(ax, targets)
    goal = listed([f"{target:g}" for target in sorted(set(targets), reverse=True)])
    return _finish(
        ax,
        f"{listed([_shown(p) for p in properties])}: toward {goal}",
        "mean score of 100 samples",
    )


def plot_property_comparison(
    logs: Mapping[str, pd.DataFrame],
    prop: str,
    target: float,
    *,
    source: str = "mean",
    window: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draws one property's mean score over training for several runs, by name."""
    ax = ax or new_figure()
    for order, (name, log) in enumerate(logs.items()):
        _has(log, f"{source}_{prop}_score")
        _trend(ax, log, f"{source}_{prop}_score", name, order, window)
    _target_lines(ax, [target])
    names = [_shown(name, longest=24) for name in reversed(logs)]
    runs = " against ".join(names) if len(names) < 3 else f"{len(names)} runs"
    return _finish(ax, f"{_shown(prop)}: {runs}",
                   "mean score of 100 samples", columns=3)  # fmt: skip


def plot_heldout(
    log: pd.DataFrame,
    concept: Mapping[str, float],
    *,
    window: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draws the distance to target by the selecting ensemble and by the held-out judge."""
    ax = ax or new_figure(height_in=4.6)
    window = window or smoothing_window(len(log))
    for order, (prop, target) in enumerate(concept.items()):
        color, marker = COLORS[order % len(COLORS)], MARKERS[order % len(MARKERS)]
        for source, dash in (("mean", "-"), ("heldout", DASHES[2])):
            _has(log, f"{source}_{prop}_score")
            distance = (smooth(log[f"{source}_{prop}_score"].dropna(), window) - target).abs()
            ax.plot(
                _time(log)[distance.index], distance, color=color, ls=dash, lw=2, marker=marker,
                ms=5, mfc=color if source == "mean" else "white",
                markevery=_marks(len(distance), order),
            )  # fmt: skip
    ax.set_ylim(-0.05 * ax.get_ylim()[1])
    ax.axhline(0, color=LINE_GREY, ls=":", lw=1.4, zorder=1.5)
    keys = _kinds(list(concept), "selecting ensemble", "held-out judge")
    return _finish(ax, "Does the held-out judge agree?", "distance to target (score)",
                   columns=3, handles=keys)  # fmt: skip


def plot_diversity(
    log: pd.DataFrame, *, window: int | None = None, ax: Axes | None = None
) -> Axes:
    """Draws diversity, and recall where it is there, as ratios of the selected images' own."""
    _has(log, "diversity")
    ax = ax or new_figure()
    _trend(ax, log, "diversity", "diversity", 0, window)
    if "recall" in log and log["recall"].notna().any():
        _trend(ax, log, "recall", "recall", 1, window)
    ax.set_ylim(min(0.6, ax.get_ylim()[0]), max(1.05, ax.get_ylim()[1]))
    _line(ax, COLLAPSED_DIVERSITY, f"{COLLAPSED_DIVERSITY:g}: lower diversity is a collapse",
          above=False)  # fmt: skip
    return _finish(ax, "Diversity of the samples", "ratio to the selected images")


# ---- samples, property CNNs, selection ----------------------------------------------------------


def plot_score_distributions(
    scores: pd.DataFrame, prop: str, target: float | None = None, *, ax: Axes | None = None
) -> Axes:
    """Draws one property's score distribution for each stage.

    Args:
        scores: Tidy: columns stage, property, score; stages in order of appearance.
        prop: The property.
        target: Marked where given.
        ax: Where to draw.
    """
    _has(scores, "stage", "property", "score")
    ax = ax or new_figure()
    part = scores[scores["property"] == prop]
    for order, (stage, group) in enumerate(part.groupby("stage", sort=False, observed=True)):
        count, edges = np.histogram(group["score"].clip(0, 1), bins=20, range=(0, 1))
        share, color = count / max(count.sum(), 1), COLORS[order % len(COLORS)]
        ax.stairs(share, edges, fill=True, color=color, alpha=0.15)
        label = f"{_shown(stage)} ({len(group):,}; mean {group['score'].mean():.3f})"
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
    return _finish(
        ax, f"{_shown(prop)}: scores of samples", "share of samples", xlabel="score", columns=2
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
    _has(history, "property", "fold", "epoch", "train_loss", "valid_loss")
    ax = ax or new_figure(height_in=4.6)
    names = list(history["property"].unique()) if prop is None else [prop]
    for order, name in enumerate(names):
        epochs = history[history["property"] == name].groupby("epoch")
        color, marker = COLORS[order % len(COLORS)], MARKERS[order % len(MARKERS)]
        valid, train = epochs["valid_loss"], epochs["train_loss"].mean()
        low, high, middle = valid.min(), valid.max(), valid.mean()
        ax.fill_between(low.index, low, high, color=color, alpha=0.2, lw=0)
        ax.plot(middle, color=color, lw=2, marker=marker, ms=5,
                markevery=_marks(len(middle), order))  # fmt: skip
        ax.plot(train, color=color, lw=1.2, ls=DASHES[2], marker=marker, ms=4, mfc="white",
                markevery=_marks(len(train), order))  # fmt: skip
    ax.set_ylim(0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    folds = history["fold"].nunique()
    return _finish(ax, f"Property CNNs: mean over {folds} folds",
                   "binary cross-entropy (nats)", xlabel="epoch of the property CNN",
                   columns=3, handles=_kinds(names, "validation", "training"))  # fmt: skip


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
            elinewidth=1, label=_shown(prop),
        )  # fmt: skip
    ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    return _finish(ax, "Calibration", "share of images labelled 1", xlabel="mean score", columns=3)


def calibration_points(group: pd.DataFrame, *, bins: int = 10, least: int = 5) -> pd.DataFrame:
    """Mean score, share of ones and 95 % Wilson interval (below, above) by interval of score."""
    _has(group, "score", "label")
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
    count = _count_column(costs)
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
    ax.set_yticks(place, [_shown(text) for text in costs["condition"]])
    ax.set_xlim(0, max(1, ends.max()) * 1.12)
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.grid(visible=False, axis="y")
    return _finish(ax, "What the selection keeps", "", xlabel="images")


def _count_column(costs: pd.DataFrame) -> str:
    _has(costs, "condition", "kept" if "kept" in costs else "passes")
    return "kept" if "kept" in costs else "passes"


# ---- the same in words --------------------------------------------------------------------------


def _ends(log: pd.DataFrame, column: str) -> tuple[float, float]:
    """Mean of a column over the start and over the end of training."""
    _has(log, column)
    found = log[np.isfinite(log[column])]
    if found.empty:
        return np.nan, np.nan
    time = _time(found).to_numpy(float)
    return found.loc[start_of(time), column].mean(), found.loc[end_of(time), column].mean()


def _span(log: pd.DataFrame) -> str:
    time = _time(log)
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
            f"ensemble and by the held-out judge: {'; '.join(parts)}.")  # fmt: skip


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
    counts = costs[_count_column(costs)]
    parts = [
        f"{text} {count:,.0f}" for text, count in zip(costs["condition"], counts, strict=True)
    ]
    return f"Bar chart of images that pass each condition of the selection: {'; '.join(parts)}."
