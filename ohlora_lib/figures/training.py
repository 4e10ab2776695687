"""How every figure looks: style, colours, trend lines, targets, legends, files.

Raw values are faint, the centred moving mean is strong, its shaded band is about 95 %. Colours are
seaborn's colour-blind palette, and each series has a dash and a marker of its own.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, findSystemFonts, fontManager, get_font
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import ScaledTranslation

from ohlora_lib.io.disk import write_atomic
from ohlora_lib.study.words import Meanings, meaning_of, without_turns
from ohlora_lib.verdict.logs import time_epochs
from ohlora_lib.verdict.verdict import listed, smooth, smooth_band, smoothing_window

COLORS = sns.color_palette("colorblind")
DASHES = ("-", (0, (6, 2)), (0, (2, 1.2)), (0, (7, 2, 1.5, 2)), (0, (4, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINE_GREY = "0.35"
TIME_LABEL = "training time (epochs)"
FEW_ROWS = 80  # up to so many rows, raw values are drawn as markers


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


def save_figure(figure: Figure, path: str | Path) -> str:
    """Writes `path`.png and `path`.svg, each whole or not at all.

    Returns:
        Letters that no installed font has, drawn as boxes; empty where all is well.
    """
    path = Path(path)
    missing = find_fonts(figure)
    for kind in ("png", "svg"):
        metadata = {"Date": None} if kind == "svg" else None
        content = drawn(figure, kind, dpi=150, metadata=metadata)
        write_atomic(path.with_name(f"{path.name}.{kind}"), content)
    return missing


def drawn(figure: Figure, kind: str, **options: Any) -> bytes:
    """A figure as PNG or SVG; the same one gives the same bytes.

    Letters without a font are boxes; `find_fonts` says which, so no warning has to.
    """
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "ohlora"}), warnings.catch_warnings(), _quiet_fonts():
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
        figure.savefig(buffer, format=kind, **options)
    return buffer.getvalue()


def find_fonts(figure: Figure) -> str:
    """Gives each text of a figure the installed fonts that have its letters.

    Returns:
        Letters that none has.
    """
    missing = ""
    for text in figure.findobj(Text):
        font = text.get_fontproperties()
        with _quiet_fonts():
            own = _letters_of(findfont(font))
        foreign = [c for c in text.get_text() if ord(c) not in own and c.isprintable()]
        if foreign:
            fonts, left = _fonts_for(frozenset(foreign))
            text.set_fontfamily([*font.get_family(), *fonts])
            missing += "".join(c for c in foreign if c in left)
    return "".join(dict.fromkeys(missing))


@contextmanager
def _quiet_fonts() -> Iterator[None]:
    """Keeps matplotlib from reporting, on the page, a family or weight that it did not find."""
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@lru_cache
def _fonts_for(letters: frozenset[str]) -> tuple[list[str], set[str]]:
    """Names of installed fonts that have letters, those for plain text first; letters left."""
    fonts, left = [], set(letters)
    _add_new_fonts()
    entries = sorted(
        fontManager.ttflist, key=lambda e: (e.style != "normal", e.weight != 400, e.name)
    )
    for entry in entries:
        if not left:
            break
        has = {c for c in left if ord(c) in _letters_of(entry.fname)}
        if has and not entry.name.startswith("Last Resort"):  # has a box for every letter
            fonts.append(entry.name)
            left -= has
    return fonts, left


def _add_new_fonts() -> None:
    """Adds fonts that were installed after matplotlib made its list of them."""
    known = {str(entry.fname) for entry in fontManager.ttflist}
    for file in findSystemFonts():
        if str(file) not in known:
            with suppress(OSError, RuntimeError, ValueError, NotImplementedError):  # odd fonts
                fontManager.addfont(file)


@lru_cache(maxsize=1024)
def _letters_of(file: str) -> frozenset[int]:
    """The code points that a font file has."""
    return frozenset(get_font(file).get_charmap())


def times_of(log: pd.DataFrame) -> pd.Series:
    """Training time of each row, epochs."""
    return log["time_epochs"] if "time_epochs" in log else time_epochs(log)


def time_label(log: pd.DataFrame) -> str:
    """What the axis of training time says: of a log by step, it has no epochs."""
    return "training time (share of the log)" if log.attrs.get("by_step") else TIME_LABEL


def draw_trend(
    ax: Axes,
    log: pd.DataFrame,
    column: str,
    label: str,
    order: int,
    window: int | None,
    note: str = "",
) -> None:
    """Draws a column faint, its moving mean strong and the mean's band."""
    found = np.isfinite(log[column])
    time, value = times_of(log)[found], log.loc[found, column]
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
        marker=MARKERS[order % len(MARKERS)], ms=5, markevery=marks_of(len(value), order),
        label=shown_name(label) + note,
    )  # fmt: skip


def marks_of(rows: int, order: int) -> tuple[int, int]:
    """Where to put about eight markers, apart from those of other series."""
    step = max(1, rows // 8)
    return (order * step // 4, step)


def rule_line(ax: Axes, height: float, text: str, *, above: bool) -> None:
    """Draws a reference line across, its name on it at the right."""
    ax.axhline(height, color=LINE_GREY, ls=":", lw=1.4, zorder=1.5)
    ax.annotate(
        text, (0.995, height), (0, 3 if above else -3), xycoords=("axes fraction", "data"),
        textcoords="offset points", ha="right", va="bottom" if above else "top",
        fontsize=10, color=LINE_GREY,
    )  # fmt: skip


def target_lines(ax: Axes, targets: Sequence[float]) -> None:
    """Draws the targets, with room for their names beyond the scores."""
    low, high = ax.get_ylim()
    room = 0.09 * (max(high, *targets) - min(low, *targets))
    for target in targets:
        low = min(low, target - room * (target == 0))
        high = max(high, target + room * (target > 0))
    ax.set_ylim(low, high)
    for target in sorted(set(targets)):
        rule_line(ax, target, f"target {target:g}", above=target > 0)


def finish(
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


def legend_key(order: int, label: str, *, hollow: bool = False, color: object = None) -> Line2D:
    """An entry of a legend that is not one line of the figure."""
    color = color or COLORS[order % len(COLORS)]
    return Line2D(
        [], [], color=color, lw=2, ls=DASHES[2] if hollow else "-", ms=5, label=label,
        marker=MARKERS[order % len(MARKERS)], mfc="white" if hollow else color,
    )  # fmt: skip


def legend_kinds(names: Sequence[str], full: str, hollow: str) -> list[Line2D]:
    """Legend of figures with two lines a property: the properties, then the two kinds."""
    keys = [legend_key(order, shown_name(name)) for order, name in enumerate(names)]
    grey = {"color": LINE_GREY}
    return [*keys, legend_key(0, full, **grey), legend_key(0, hollow, hollow=True, **grey)]


def shown_name(name: object, *, longest: int = 24) -> str:
    """A name as text in a figure: no formula, not hidden, not endless."""
    text = without_turns(" ".join(str(name).split()))
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    text = text.replace("$", r"\$")
    return f"\u200b{text}" if text.startswith("_") else text


def shown_meaning(prop: str, meaning: Meanings | None, *, before: str = " ") -> str:
    """What 0 and 1 mean, in brackets, to stand behind a name; empty without `meaning`."""
    if meaning is None:
        return ""
    return f"{before}({shown_name(meaning_of(prop, meaning), longest=60)})"


def has_columns(table: pd.DataFrame, *columns: str) -> None:
    """Raises ValueError unless the table has the columns."""
    missing = [name for name in columns if name not in table]
    if missing:
        raise ValueError(f"the table has no column {listed(missing)}; "
                         f"it has {listed([str(name) for name in table])}")  # fmt: skip


def property_groups(concept: Mapping[str, float]) -> dict[float, list[str]]:
    """Properties by target, highest target first: one figure each."""
    targets = sorted(set(concept.values()), reverse=True)
    return {target: [p for p in concept if concept[p] == target] for target in targets}
