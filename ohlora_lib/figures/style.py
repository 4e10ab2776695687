"""The look, axes, targets, legends and files that all figures share.

Colours are seaborn's colour-blind palette, and each series has a dash and a marker of its own.
"""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import seaborn as sns
from matplotlib import font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser
from matplotlib.transforms import ScaledTranslation

from ohlora_lib.study.look import Meanings, meaning_of
from ohlora_lib.study.machine import printable

COLORS = sns.color_palette("colorblind")
DASHES = ("-", (0, (6, 2)), (0, (2, 1.2)), (0, (7, 2, 1.5, 2)), (0, (4, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINE_GREY = "0.35"
HOLLOW: dict[str, Any] = {"ls": DASHES[2], "mfc": "white"}  # a second line of one colour
RULE: dict[str, Any] = {"color": LINE_GREY, "ls": ":", "lw": 1.4, "zorder": 1.5}
FONTS = (  # in order, where installed; matplotlib brings the first two
    *("DejaVu Sans", "DejaVu Math TeX Gyre", "Noto Sans CJK JP", "Noto Sans CJK SC"),
    *("WenQuanYi Zen Hei", "Arial Unicode MS", "Microsoft YaHei", "Malgun Gothic"),
)
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # some have no bold face


@dataclass(frozen=True)
class Figure:
    """A figure and its words; a notebook shows them with `report.show.figure`."""

    drawing: Drawing
    name: str  # of its files, without ending
    alt: str  # a sentence with the numbers that the figure shows: its alternative text
    reading: str = ""  # how to read it


@contextmanager
def house_style() -> Iterator[None]:
    """Sets size, typography and palette inside a block or, as a decorator, a function only."""
    rc = {
        "font.family": [name for name in FONTS if name in font_manager.get_font_names()],
        "font.size": 11, "axes.titlesize": 12, "axes.titleweight": "bold",
        "axes.titlelocation": "left", "axes.labelsize": 11, "xtick.labelsize": 10,
        "ytick.labelsize": 10, "legend.fontsize": 10, "grid.color": "0.9",
        "axes.edgecolor": "0.6", "svg.hashsalt": "ohlora", "axes.formatter.useoffset": False,
    }  # fmt: skip
    with rc_context():
        sns.set_theme(context="notebook", style="whitegrid", palette="colorblind", rc=rc)
        yield


def new_axes(*, width_in: float = 7.2, height_in: float = 4.2) -> Axes:
    """Opens a figure outside pyplot: nothing to close, nothing shown twice in a notebook."""
    drawing = Drawing(figsize=(width_in, height_in), layout="constrained")
    drawing.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    return drawing.add_subplot()


@house_style()
def drawn(drawing: Drawing, kind: str, *, dpi: int = 150) -> bytes:
    """A figure as "png" or "svg"; the same figure gives the same bytes."""
    buffer, metadata = io.BytesIO(), {"Date": None} if kind == "svg" else None
    drawing.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def formula(tex: str) -> tuple[bytes, str]:
    """A TeX formula as SVG, and CSS for its place in a line; ValueError if mathtext lacks it."""
    look = FontProperties(size=10, math_fontfamily="stix")
    width, height, depth, *_ = MathTextParser("path").parse(f"${tex}$", 72, look)
    drawing = Drawing(figsize=(width / 72, height / 72))
    drawing.patch.set_visible(False)
    drawing.text(0, depth / height, f"${tex}$", fontproperties=look)
    css = f"width: {width / 10:.2f}em; vertical-align: {-depth / 10:.2f}em"
    return drawn(drawing, "svg"), css


def series(order: int, rows: int) -> dict[str, Any]:
    """Colour, dash and about eight markers for a line of `rows` rows, distinct per series."""
    step = max(1, rows // 8)
    return {
        "color": COLORS[order % len(COLORS)], "ls": DASHES[order % len(DASHES)], "lw": 2, "ms": 5,
        "marker": MARKERS[order % len(MARKERS)], "markevery": (order * step // 4, step),
    }  # fmt: skip


def rule_line(ax: Axes, height: float, text: str, *, above: bool) -> None:
    """Draws a horizontal reference line, with its name at the right."""
    ax.axhline(height, **RULE)
    ax.annotate(
        text, (0.995, height), (0, 3 if above else -3), xycoords=("axes fraction", "data"),
        textcoords="offset points", ha="right", va="bottom" if above else "top",
        fontsize=10, color=LINE_GREY,
    )  # fmt: skip


def finish(ax: Axes, title: str, ylabel: str, xlabel: str) -> None:
    """Titles, labels, and the legend under the axes, where it hides no data."""
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    sns.despine(ax=ax)
    below = ScaledTranslation(0, -0.5, ax.figure.dpi_scale_trans)  # inches, past the label
    labels = ax.get_legend_handles_labels()[1]
    longest = max(map(len, labels))
    columns = 4 if longest <= 10 else 3 if longest <= 24 else 2  # as many as fit
    legend = ax.legend(
        loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=ax.transAxes + below,
        ncols=min(columns, len(labels)), frameon=False, handlelength=3.2, borderpad=0.1,
    )  # fmt: skip
    for handle in legend.legend_handles:  # faint lines must be visible here
        handle.set_alpha(max(handle.get_alpha() or 1, 0.5))


def shown_name(name: object, *, longest: int = 24) -> str:
    """A name as text in a figure: never a formula, hidden or too long."""
    text = printable(" ".join(str(name).split()))
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    text = text.replace("$", r"\$")
    return f"\u200b{text}" if text.startswith("_") else text


def shown_meaning(prop: str, meaning: Meanings) -> str:
    """The meaning of 0 and 1, in brackets, to put after a name."""
    return f"({shown_name(meaning_of(prop, meaning), longest=60)})"
