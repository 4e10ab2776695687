"""The style sheet of all pages."""

from __future__ import annotations

from pathlib import Path


def style() -> str:
    """Light and dark, narrow and wide, screen and print."""
    return (Path(__file__).parent / "templates" / "ohlora" / "style.css").read_text(
        encoding="utf-8"
    )
