"""Checkpoints of a fine-tuning: tensors and plain values only, written whole or not at all."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ohlora_lib.records import atomic_path


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Writes a training state."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        torch.save(dict(state), temporary)


def load_state(path: Path) -> dict[str, Any]:
    """Reads a training state; nothing in the file is executed.

    Raises:
        ValueError: If the file is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).partition("\n")[0] or "it ends too early"
        raise ValueError(
            f"{path}: damaged checkpoint ({reason}). Delete it to start the stage anew."
        ) from error
