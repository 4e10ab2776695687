"""Words out of data, made fit to stand among others."""

from __future__ import annotations

import re
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

Meanings = Mapping[str, Sequence[str]]  # what 0 and 1 of a property mean
MEANING = {  # what labels and scores of 0 and 1 mean, of the published study's properties
    "gender": ["male", "female"],
    "quality": ["poor image", "good image"],
    "age": ["young", "old"],
    "glass": ["no glasses", "glasses"],
}
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b.")  # what steers a terminal
TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")


def meaning_of(prop: str, meaning: Meanings) -> str:
    """What 0 and 1 mean of a property: "1 = female, 0 = male", or "0/1" where nobody said it."""
    if prop not in meaning:
        return "0/1"
    zero, one = meaning[prop]
    return f"1 = {one}, 0 = {zero}"


def without_turns(text: str) -> str:
    """Text without the marks that turn all that follows to the other direction.

    Scripts that run from right to left need none of them.
    """
    return TURNS.sub("", text)


def printable(text: str) -> str:
    """A line without what would steer a terminal."""
    return "".join(c for c in ESCAPES.sub("", text) if c.isprintable())


def duration(seconds: float) -> str:
    """How long something took, in its two largest units: `1 h 5 min`, `6 min 30 s`, `8 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def without_places(text: str, root: Path) -> str:
    """Text in which no path begins with a place of this machine.

    Paths into the project, the installed packages and the home folder are shortened; a notebook's
    cell, which Python knows as a temporary file, is called a cell.

    Args:
        text: The text.
        root: The project.
    """
    cell = rf"{re.escape(tempfile.gettempdir())}/ipykernel_\d+/\d+\.py"
    text = re.sub(cell, "cell", text)
    package = Path(__file__).resolve().parents[2]
    places = {Path.home(): "~/", package: "", Path(sysconfig.get_path("purelib")): ""}
    places |= {root: "", root.resolve(): ""}
    for place in sorted(places, key=lambda place: -len(str(place))):
        text = _shortened(text, place, places[place]) if len(place.parts) > 1 else text
    return text


def _shortened(text: str, place: Path, short: str) -> str:
    path = rf"(?<![\w.~/-]){re.escape(str(place))}(/|(?![\w.-]))"
    return re.sub(path, lambda match: short if match[1] else short.rstrip("/") or ".", text)
