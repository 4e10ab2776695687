"""Draws the LaTeX of a notebook's Markdown as SVG: a page loads no MathJax.

matplotlib knows only a part of LaTeX; an equation beyond that stays as it was written.
"""

from __future__ import annotations

import re

from bs4 import BeautifulSoup, Tag
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

EQUATION = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$", re.DOTALL)  # on a line of its own, or in one
FONT = FontProperties(math_fontfamily="stix")
EM = 100  # units of a drawing per em
STROKES = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}  # matplotlib's codes, SVG's commands


def set_equations(soup: BeautifulSoup) -> None:
    """Replaces `$...$` and `$$...$$` in Markdown cells by drawings, but not in code."""
    for text in soup.select_one("main").find_all(string=EQUATION):
        if text.find_parent("section", "prose") and not text.find_parent(["code", "pre"]):
            parts, end = [], 0
            for match in EQUATION.finditer(text):
                parts += [text[end : match.start()], _drawn(match) or match[0]]
                end = match.end()
            text.replace_with(*parts, text[end:])


def _drawn(match: re.Match[str]) -> Tag | None:
    """An equation in the colour and size of its text; None if matplotlib cannot draw it."""
    tex = " ".join((match[1] or match[2]).split())
    try:
        large = tex.replace(r"\frac", r"\dfrac") if match[1] else tex  # as MathJax does
        outline = TextPath((0, 0), f"${large}$", size=EM, prop=FONT)
    except ValueError:
        return None
    left, low, right, high = (round(x) for x in outline.get_extents().padded(2).extents)
    line = "".join(
        STROKES[code] + ("" if code == outline.CLOSEPOLY else " ".join(f"{x:.0f}" for x in points))
        for points, code in outline.iter_segments(simplify=False)
    )
    svg = Tag(name="svg", attrs={
        "class": "equation alone" if match[1] else "equation", "role": "img", "aria-label": tex,
        "viewBox": f"{left} {-high} {right - left} {high - low}",
        "style": f"width: {(right - left) / EM}em; vertical-align: {low / EM}em",
    })  # fmt: skip
    svg.append(Tag(name="path", attrs={"d": line, "transform": "scale(1 -1)"}))
    return svg
