"""Draws `study-1.svg` to `study-8.svg` and `networks.svg` into this folder.

Run it as `python docs/drawings.py`. Drawings are 420 px wide with 14 px text, which is still 12 px
on a phone that shows them 360 px wide. They follow the light or dark scheme of the browser.
"""

from __future__ import annotations

from pathlib import Path

from ohlora_lib.finetune.recipe import RECIPES

STAGES = (
    *("population", "base", "CNNs", "selection"),
    *("fine-tuning", "evaluation", "report", "comparison"),
)
TRAINED = {
    ("v8", "v9"): ("both", "v8 and v9"),
    ("v9",): ("late", "v9 only"),
    (): ("plain none", "frozen"),
}  # class and words of a box, by the recipes that train it
STYLE = """
text {
  font: 14px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  fill: #22242a; text-anchor: middle;
}
.left { text-anchor: start; } .strong { font-weight: 600; }
.paper { fill: #fdfdfb; }
path { fill: none; stroke: #5c616d; stroke-width: 1.5; } marker path { fill: #5c616d; }
.plain { fill: #eceef0; stroke: #8b909b; } .none { stroke-dasharray: 4 3; }
.both { fill: #0b62a4; } .late { fill: #e59a1c; }
@media (prefers-color-scheme: dark) {
  .paper { fill: #17191d; } text { fill: #e4e5e8; } .plain { fill: #2b2f37; }
  path { stroke: #a3a8b3; } marker path { fill: #a3a8b3; }
}
.both ~ text { fill: #fff; } .late ~ text { fill: #22242a; }
"""


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """A line of text, its middle at x, or its left end if `kind` has the class `left`."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{words}</text>'


def box(x: float, y: float, width: float, height: float, kind: str, *lines: str) -> str:
    """A rectangle with its lines of text in the middle."""
    top = y + height / 2 + 5 - 9 * (len(lines) - 1)
    words = "".join(text(x + width / 2, top + 18 * k, line) for k, line in enumerate(lines))
    size = f'width="{width:g}" height="{height:g}" rx="6"'
    return f'<g><rect x="{x:g}" y="{y:g}" {size} class="{kind}"/>{words}</g>'


def arrow(*points: tuple[float, float]) -> str:
    """A line through points, with a head at the last."""
    line = " L".join(f"{x:g} {y:g}" for x, y in points)
    return f'<path d="M{line}" marker-end="url(#head)"/>'


def svg(height: int, title: str, *parts: str) -> str:
    """A whole drawing, on paper of its own, so that it can be read on any page."""
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 420 {height}" width="420" '
        f'height="{height}" role="img">',
        f"<title>{title}</title>", f"<style>{STYLE}</style>",
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto" markerUnits="userSpaceOnUse"><path d="M0 0L8 4L0 8Z"/></marker>',
        f'<rect width="420" height="{height}" rx="8" class="paper"/>', *parts, "</svg>\n",
    ])  # fmt: skip


def study(here: int) -> str:
    """The eight stages, the one with the number `here` marked."""
    parts = []
    for k, name in enumerate(STAGES):
        x, y = 6 + 104 * (k % 4), 6 + 92 * (k // 4)
        lines = [str(k + 1), name] + ["you are here"] * (k + 1 == here)
        parts.append(box(x, y, 96, 66, "both" if k + 1 == here else "plain", *lines))
        if k % 4 < 3:
            parts.append(arrow((x + 96, y + 33), (x + 104, y + 33)))
    parts.append(arrow((366, 72), (366, 85), (54, 85), (54, 98)))
    return svg(170, f"The study in eight stages; this is stage {here}", *parts)


def trained(place: str, part: str) -> tuple[str, str]:
    """Class and words of a box: which recipes train this place of a network."""
    by = tuple(name for name, recipe in RECIPES.items() if place in getattr(recipe, part))
    return TRAINED[by]


def networks() -> str:
    """Mapping, synthesis and discriminator by resolution, in the colours of what trains them."""
    generator, discriminator = "generator_trainable", "discriminator_trainable"
    kind, words = trained("mapping", generator)
    split = tuple(name for name, recipe in RECIPES.items() if recipe.split_mapping)
    parts = [
        text(85, 24, "z: random numbers"), arrow((85, 30), (85, 44)),
        box(10, 44, 150, 52, kind, "mapping", words),
        arrow((160, 58), (260, 58)), arrow((260, 82), (160, 82)),
        box(260, 44, 150, 52, TRAINED[split][0], "second branch", TRAINED[split][1]),
        arrow((85, 96), (85, 156)), text(96, 120, "w: the style of every layer", "left"),
        text(96, 146, "Generator", "left strong"), text(325, 146, "Discriminator", "strong"),
        text(210, 430, "samples"),
        arrow((85, 376), (85, 425), (178, 425)), arrow((242, 425), (335, 425), (335, 376)),
    ]  # fmt: skip
    for k, px in enumerate(("4", "8", "16", "32", "64–256")):
        y, place = 156 + 46 * k, f"layers@{px.partition('–')[0]}px"
        parts.append(box(10, y, 150, 34, *trained(place, generator)))
        parts.append(box(260, y, 150, 34, *trained(place, discriminator)))
        parts.append(text(210, y + 22, f"{px} px"))
        if k:
            parts += [arrow((85, y - 12), (85, y)), arrow((335, y), (335, y - 12))]
    for k, (kind, words) in enumerate(TRAINED.values()):
        words = "trained by " * (words != "frozen") + words + " in both" * (words == "frozen")
        parts.append(box(14, 452 + 26 * k, 28, 18, kind, ""))
        parts.append(text(52, 466 + 26 * k, words, "left"))
    return svg(536, "What v8 and v9 train of a StyleGAN", *parts)


def drawings() -> dict[str, str]:
    """Every drawing, by the name of its file."""
    found = {f"study-{k}.svg": study(k) for k in range(1, len(STAGES) + 1)}
    return found | {"networks.svg": networks()}


if __name__ == "__main__":
    for file, drawn in drawings().items():
        (Path(__file__).parent / file).write_text(drawn, encoding="utf-8")
