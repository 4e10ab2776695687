"""Checks of run folders and of the JSON in them, which people copy, share and edit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ohlora_lib.io.disk import dangling_link


def check_inside(folder: Path, root: Path, *, written: bool = False) -> None:
    """Refuses a run folder that lies, or leads by a link, out of the project.

    `outputs` itself may be a link, to a larger disk for instance.

    Args:
        folder: The run folder; it need not be there.
        root: The project.
        written: Whether it is written to, which only folders in `outputs` may be.

    Raises:
        ValueError: If so, or if a part of its path is a link to what is not there.
    """
    if reason := dangling_link(folder):
        raise ValueError(reason)
    homes = [(root / "outputs").resolve(), root.resolve()][: 1 if written else 2]
    try:
        real = folder.resolve()
    except (OSError, RuntimeError, ValueError):  # a link to itself, a NUL
        real = Path()
    if ".." in folder.parts or not any(real.is_relative_to(home) for home in homes):
        raise ValueError(
            "It lies outside of the project's outputs. Give a run folder as "
            "outputs/STUDY/STAGE; of links, only outputs itself may be one."
        )


def read_config(run_folder: Path | str) -> dict[str, Any]:
    """Reads the parameters a run was made with.

    Raises:
        ValueError: If they are missing or damaged.
    """
    path = Path(run_folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{path}: missing or damaged ({reason}). Run the stage again.") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path}: damaged (no table of parameters). Run the stage again.")
    return config


def is_number(value: Any) -> bool:
    """Whether a value out of JSON is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_table(value: Any) -> bool:
    """Whether a value out of JSON is a table of numbers by name."""
    return isinstance(value, dict) and all(is_number(v) for v in value.values())
