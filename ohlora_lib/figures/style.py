"""The look, axes, targets, legends and files that all figures share.

Colours are seaborn's colour-blind palette, and each series has a dash and a marker of its own.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import seaborn as sns
from matplotlib import font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text
from matplotlib.transforms import ScaledTranslation

from ohlora_lib.study.look import Meanings, meaning_of
from ohlora_lib.study.machine import printable

COLORS = sns.color_palette("colorblind")
DASHES = ("-", (0, (6, 2)), (0, (2, 1.2)), (0, (7, 2, 1.5, 2)), (0, (4, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINE_GREY = "0.35"
HOLLOW: dict[str, Any] = {"ls": DASHES[2], "mfc": "white"}  # a second line of one colour
RULE: dict[str, Any] = {"color": LINE_GREY, "ls": ":", "lw": 1.4, "zorder": 1.5}
FONT = "DejaVu Sans"  # matplotlib brings it


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
        "font.family": FONT, "font.size": 11, "axes.titlesize": 12, "axes.titleweight": "bold",
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
    with warnings.catch_warnings():  # `find_fonts` reports these
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
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


def find_fonts(drawing: Drawing) -> str:
    """Gives the texts of a figure the installed fonts that have their letters.

    Returns:
        Letters that no font has, which are drawn as boxes.
    """
    texts, names = drawing.findobj(Text), [FONT]
    letters = {c for text in texts for c in text.get_text() if c.isprintable()}
    missing = letters - _letters_of(font_manager.findfont(FONT))
    for entry in _plainest_fonts() if missing else ():
        if missing & _letters_of(entry.fname):
            names.append(entry.name)
            missing -= _letters_of(entry.fname)
    for text in texts if len(names) > 1 else ():
        text.set_fontfamily(names)
    return "".join(sorted(missing))


def _plainest_fonts() -> list[font_manager.FontEntry]:
    """Fonts, for plain text first; includes fonts installed after matplotlib made its list."""
    manager = font_manager.fontManager
    known = {str(entry.fname) for entry in manager.ttflist}
    for file in sorted(set(font_manager.findSystemFonts()) - known):
        with suppress(OSError, RuntimeError, ValueError, NotImplementedError):  # odd fonts
            manager.addfont(file)
    real = [e for e in manager.ttflist if not e.name.startswith("Last Resort")]  # only boxes
    return sorted(real, key=lambda e: (e.style != "normal", e.weight != 400, e.name))


@lru_cache(maxsize=1024)
def _letters_of(file: str) -> frozenset[str]:
    """The letters that a font file has."""
    return frozenset(map(chr, font_manager.get_font(file).get_charmap()))


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
