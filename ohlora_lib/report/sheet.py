"""The style sheet of all pages, and the one script that pages may run."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

HERE = Path(__file__).parent / "templates" / "ohlora"


def style() -> str:
    """Light and dark, narrow and wide, screen and print."""
    return (HERE / "style.css").read_text(encoding="utf-8")


def script() -> str:
    """What makes sliders of frames."""
    return (HERE / "page.js").read_text(encoding="utf-8")


def script_source() -> str:
    """The page's policy allows this script and no other: its hash, as a policy says it."""
    digest = hashlib.sha256(script().encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
