"""Figures of property CNNs, of the selection and of samples, each with its sentence."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from ohlora_lib.figures import style
from ohlora_lib.figures.style import COLORS, Figure, finish, house_style, new_axes, shown_name
from ohlora_lib.io.tables import strongest_pair
from ohlora_lib.study.look import Meanings
from ohlora_lib.verdict.verdict import listed

LEAKS = {"hardly": 0.2, "somewhat": 0.5, "much": 1.01}  # words for correlations up to these
CALIBRATION_BINS = 10  # intervals of the score
BIN_IMAGES = 5  # least number in an interval that is drawn


@house_style()
def fold_losses(history: pd.DataFrame, cnn: str) -> Figure:
    """Losses of a CNN's folds: their mean, and the range of the validation losses.

    The history has columns cnn, fold, epoch, train_loss, valid_loss.
    """
    ax = new_axes(height_in=4.6)
    part = history[history["cnn"] == cnn]
    losses = part.groupby("epoch")[["train_loss", "valid_loss"]]
    low, high, mean = losses.min()["valid_loss"], losses.max()["valid_loss"], losses.mean()
    look = style.series(0, len(mean))
    ax.fill_between(low.index, low, high, color=look["color"], alpha=0.2, lw=0)
    ax.plot(mean["valid_loss"], label="validation, and its range", **look)
    ax.plot(mean["train_loss"], label="training", **look | style.HOLLOW | {"lw": 1.2})
    ax.set_ylim(0, ax.dataLim.ymax * 1.05)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    best = part.groupby("fold")["valid_loss"].min()
    whose = "all properties" if cnn == "compact" else shown_name(cnn)
    title = f"{whose}: mean over {len(best)} folds"
    finish(ax, title, "binary cross-entropy (nats)", "epoch of the property CNN")
    alt = (
        "Line chart of training and validation loss by epoch; best validation loss of the "
        f"{len(best)} folds: {cnn} {best.min():.3f} to {best.max():.3f}."
    )
    reading = (
        "Once the training loss falls and the validation loss no longer does, a CNN overfits. "
        "The band spans the folds."
    )
    return Figure(ax.figure, f"losses-{cnn}", alt, reading)


@house_style()
def calibration(table: pd.DataFrame, role: str) -> Figure:
    """The share of ones among images of similar score; on the diagonal, scores are honest.

    The table has columns property, score, label (0 or 1).
    """
    ax, gaps = new_axes(width_in=5.6, height_in=5.2), []
    ax.plot([0, 1], [0, 1], label="perfect calibration", **style.RULE)
    for order, (prop, group) in enumerate(table.groupby("property", sort=False, observed=True)):
        points = calibration_points(group)
        look = style.series(order, 1) | {"elinewidth": 1, "label": shown_name(prop)}
        ax.errorbar(points["score"], points["share"], points[["below", "above"]].T, **look)
        gaps.append(f"{prop} {(points['score'] - points['share']).abs().max():.2f}")
    ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    finish(ax, "Calibration", "share of images labelled 1", "mean score")
    alt = f"Calibration curves; largest gap between score and share of ones: {', '.join(gaps)}."
    reading = (
        "On the diagonal, 7 of 10 images that score 0.7 have the property. Vertical bars are 95 % "
        "intervals."
    )
    return Figure(ax.figure, f"calibration-{role}", alt, reading)


def calibration_points(group: pd.DataFrame) -> pd.DataFrame:
    """Mean score, share of ones and 95 % Wilson interval (below, above) per score interval."""
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
def label_curve(curve: pd.DataFrame) -> Figure:
    """AUROC by number of answers: columns property, answers, auroc, low, high."""
    ax, ends = new_axes(), []
    for order, (prop, part) in enumerate(curve.groupby("property", sort=False)):
        shift = 1.02 ** (order - 1.5)  # so that intervals do not cover each other
        bars = np.maximum([part["auroc"] - part["low"], part["high"] - part["auroc"]], 0)
        look = style.series(order, 1) | {"elinewidth": 1, "label": shown_name(prop)}
        ax.errorbar(part["answers"] * shift, part["auroc"], bars, **look)
        known = part.dropna(subset=["auroc"])
        ends += [f"{prop} {row.auroc:.3f} after {row.answers}" for row in known[-1:].itertuples()]
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    finish(ax, "Learning curve", "AUROC on random images", "answers")
    alt = f"Line chart of AUROC by number of answers: {', '.join(ends) or 'none known yet'}."
    reading = "Bars are 95 % intervals. Where a line ends flat, more answers help little."
    return Figure(ax.figure, "label-curve", alt, reading)


@house_style()
def label_scores(unseen: pd.DataFrame, prop: str, meaning: Meanings) -> Figure:
    """Scores of a property by the images' labels: columns property, label, score."""
    ax = new_axes()
    groups = unseen.assign(stage=unseen["label"].map("labelled {:.0f}".format))
    alt = _draw_scores(ax, groups, prop, meaning, "")
    reading = "The less the two histograms overlap, the better the CNNs tell the labels apart."
    return Figure(ax.figure, f"scores-{prop}", alt, reading)


@house_style()
def sample_scores(scores: pd.DataFrame, prop: str, target: float, meaning: Meanings) -> Figure:
    """Scores of a property at each stage, and its target: columns property, stage, score."""
    ax = new_axes()
    ax.axvline(target, label=f"target {target:g}", **style.RULE)
    alt = _draw_scores(ax, scores, prop, meaning, f", target {target:g}")
    reading = "After fine-tuning, the scores should pile up at the dotted line, the target."
    return Figure(ax.figure, f"distribution-{prop}", alt, reading)


def _draw_scores(ax: Axes, scores: pd.DataFrame, prop: str, meaning: Meanings, goal: str) -> str:
    """Draws histograms of scores by stage, in order of appearance; returns the sentence."""
    parts = []
    groups = scores[scores["property"] == prop].groupby("stage", sort=False, observed=True)
    for order, (stage, group) in enumerate(groups):
        score, look = group["score"], style.series(order, 1)
        count, edges = np.histogram(score.clip(0, 1), bins=20, range=(0, 1))
        share = count / max(count.sum(), 1)
        ax.stairs(share, edges, fill=True, color=look["color"], alpha=0.15)
        label = f"{shown_name(stage)} ({len(group):,}; mean {score.mean():.3f})"
        ax.stairs(share, edges, color=look["color"], lw=2, ls=look["ls"], label=label)
        parts.append(f"{stage} mean {score.mean():.3f}, median {score.median():.3f}")
    ax.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))  # whole percents
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    title, xlabel = f"{shown_name(prop)}: scores", f"score {style.shown_meaning(prop, meaning)}"
    finish(ax, title, "share of images", xlabel)
    return f"Histogram of {prop} scores{goal}: {'; '.join(parts)}."


@house_style()
def judges(distances: pd.DataFrame) -> Figure:
    """Distance to target before and after, by each judge; one row per judge and property.

    Index by, property; columns base, fine-tuned (distances of mean scores, 0 to 1).
    """
    groups = dict(list(distances.groupby(level="by", sort=False)))
    names = list(dict.fromkeys(distances.index.get_level_values("property")))
    ax, parts = new_axes(height_in=1.9 + 0.55 * len(names)), []
    for order, (by, group) in enumerate(groups.items()):
        ends = group.droplevel("by")
        place = np.array([names.index(prop) for prop in ends.index]) + 0.3 * order - 0.15
        look = style.series(order, 1) | {"ls": "", "ms": 7}
        ax.hlines(place, ends["base"], ends["fine-tuned"], look["color"], lw=2, alpha=0.5)
        ax.plot(ends["base"], place, label=f"{by}: base", **look | {"mfc": "white"})
        ax.plot(ends["fine-tuned"], place, label=f"{by}: fine-tuned", **look)
        moves = [f"{p} {a:.3f} to {b:.3f}" for p, a, b in ends.iloc[:, :2].itertuples()]
        parts.append(f"by the {by} {', '.join(moves)}")
    ax.axvline(0, **style.RULE)
    ax.set_yticks(range(len(names)), [shown_name(prop) for prop in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    finish(ax, "Do the judges agree?", "", "distance of the mean score to its target")
    alt = f"Distances to the target, base to fine-tuned: {'; '.join(parts)}."
    reading = "Each line runs from the base (hollow) to the fine-tuned generator; left is closer."
    return Figure(ax.figure, "judges", alt, reading)


@house_style()
def selection_costs(costs: pd.DataFrame) -> Figure:
    """How many images pass each condition: columns condition, passes, lost_only_here (images)."""
    ax = new_axes(height_in=1.7 + 0.45 * len(costs))
    names = [shown_name(text, longest=40) for text in costs["condition"]]
    place, passes, lost = np.arange(len(costs)), costs["passes"], costs["lost_only_here"]
    ax.barh(place, passes, 0.62, color=COLORS[0], label="images that pass")
    hatched = {"color": COLORS[1], "hatch": "///", "edgecolor": "white", "lw": 0}
    bars = ax.barh(place, lost, 0.62, left=passes, label="fails only this one", **hatched)
    ax.bar_label(bars, [f"{value:,.0f}" for value in passes], padding=4, fontsize=10)
    ax.set_yticks(place, names)
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.grid(visible=False, axis="y")
    finish(ax, "What the selection keeps", "", "images")
    pairs = zip(costs["condition"], passes, strict=True)
    parts = "; ".join(f"{text} {value:,.0f}" for text, value in pairs)
    alt = f"Bar chart of images that pass each condition of the selection: {parts}."
    reading = "The hatched part meets all other conditions and fails this one alone."
    return Figure(ax.figure, "costs", alt, reading)


@house_style()
def leakage(matrix: pd.DataFrame) -> Figure:
    """Correlations (P, P) of the properties' changes, as a coloured table with its numbers."""
    size = 2.6 + 0.9 * len(matrix)
    ax = new_axes(width_in=size + 1, height_in=size)
    shown = matrix.rename(index=shown_name, columns=shown_name)
    sns.heatmap(
        shown, vmin=-1, vmax=1, cmap="PuOr", annot=True, fmt="+.2f", square=True, ax=ax,
        linewidths=1, cbar_kws={"label": "correlation of the changes"},
    )  # fmt: skip
    ax.tick_params(rotation=0)
    ax.grid(visible=False)
    ax.set(xlabel="", ylabel="", title="Which properties changed together?")
    alt = "There are no two properties whose changes can be correlated."
    if pair := strongest_pair(matrix):
        a, b, value = pair
        strength = next(word for word, most in LEAKS.items() if abs(value) <= most)
        way = f"{strength} {'with' if value > 0 else 'against'}"
        alt = f"{a} and {b} changed {way} one another (correlation {value:+.2f})."
    reading = (
        "Near 0, two properties changed independently; near +1, together; near -1, oppositely."
    )
    if still := [prop for prop in matrix if matrix[prop].isna().all()]:
        reading += f" Blank, because the scores did not change: {listed(still)}."
    return Figure(ax.figure, "leakage", alt, reading)
