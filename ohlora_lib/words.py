"""Words out of data, made fit to stand among others."""

from __future__ import annotations

import re

TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")


def without_turns(text: str) -> str:
    """Text without the marks that turn all that follows to the other direction.

    Scripts that run from right to left need none of them.
    """
    return TURNS.sub("", text)
