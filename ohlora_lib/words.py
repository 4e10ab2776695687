"""Words out of data, made fit to stand among others."""

from __future__ import annotations

import re

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b.")  # what steers a terminal
TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")


def without_turns(text: str) -> str:
    """Text without the marks that turn all that follows to the other direction.

    Scripts that run from right to left need none of them.
    """
    return TURNS.sub("", text)


def printable(text: str) -> str:
    """A line without what would steer a terminal."""
    return "".join(c for c in ESCAPES.sub("", text) if c.isprintable())
