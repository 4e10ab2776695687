"""Checkpoints of training: tensors, plain values, and the facts the run was started with.

Axes: N images, H image height.
"""

import hashlib
import io
import json
import pickle
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from ohlora_lib.io.disk import atomic_path
from ohlora_lib.io.images import Images
from ohlora_lib.study.records import differences, to_json
from ohlora_lib.study.run_folder import start_anew_words

MOST_SHARE = 0.02  # of the training time that checkpoints may take
HASHED_AT_ONCE = 1000  # images


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns facts as they come back from JSON."""
    return json.loads(to_json(dict(facts)))


def save_state(path: Path, state: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Writes a state of tensors and plain values; a run can resume if its facts are unchanged."""
    buffer = io.BytesIO()  # writing to a full disk, torch.save would not name the cause
    torch.save({"facts": _plain(facts), "state": dict(state)}, buffer)
    with atomic_path(path) as new:
        new.write_bytes(buffer.getbuffer())


def load_state(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a state and its facts; executes nothing in the file. Raises ValueError if damaged."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        return saved["state"], saved["facts"]
    except (EOFError, KeyError, TypeError, pickle.UnpicklingError, RuntimeError) as error:
        why = f"{path}: damaged checkpoint. Delete it to start the stage anew."
        raise ValueError(why) from error


def load_unchanged(
    path: Path, facts: Mapping[str, Any], *, free: Collection[str] = ()
) -> dict[str, Any] | None:
    """Reads a training run's checkpoint. Returns None if the file does not exist.

    `facts` describe the current run; facts named in `free` may differ from the checkpoint's.

    Raises:
        ValueError: If another fact differs, with its name, or if the checkpoint is damaged.
    """
    if not path.is_file():
        return None
    state, saved = load_state(path)
    if why := differences(saved, _plain(facts), but=free):
        raise cannot_resume(path, ", ".join(why.values()))
    return state


def cannot_resume(path: Path, why: str) -> ValueError:
    """Returns the error for a checkpoint that the current parameters cannot resume from."""
    return ValueError(
        f"{path}: the training cannot resume, because {why}. Change that back, choose another "
        f"`variant`, or start anew {start_anew_words()}, which keeps the old run."
    )


def tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """Returns the SHA-256 of named tensors, in their order."""
    return _sha256(tensors.items())


def images_sha256(images: Images) -> str:
    """Returns the SHA-256 of uint8 images (N, H, H, 3)."""
    return _sha256(("", part) for part in images.split(HASHED_AT_ONCE))


def _sha256(parts: Iterable[tuple[str, torch.Tensor]]) -> str:
    digest = hashlib.sha256()
    for name, value in parts:
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy())
    return digest.hexdigest()


def random_states(device: torch.device) -> dict[str, Any]:
    """Returns Torch's random states of the CPU and of a GPU device; no others are in use."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"torch": torch.get_rng_state(), "cuda": cuda}


def set_random_states(states: Mapping[str, Any], device: torch.device) -> None:
    """Restores what `random_states` returned."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"], device)


class Pace:
    """Decides when to save a checkpoint: at the end of an epoch and every `every_minutes`.

    Waits until all checkpoints so far and one more like the last take at most 2 % of the time.
    """

    def __init__(self, every_minutes: float) -> None:
        self.every_sec = 60 * every_minutes
        self.began = self.last = time.monotonic()
        self.spent_sec = self.cost_sec = 0.0  # of all checkpoints so far, and of the last one

    def due(self, *, epoch_ended: bool = False) -> bool:
        """Returns whether to save now."""
        now = time.monotonic()
        cheap = self.spent_sec + self.cost_sec <= MOST_SHARE * (now - self.began)
        return cheap and (epoch_ended or now - self.last >= self.every_sec)

    def save(self, path: Path, state: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Saves a checkpoint and measures the time it takes."""
        start = time.monotonic()
        save_state(path, state, facts)
        self.last = time.monotonic()
        self.cost_sec = self.last - start
        self.spent_sec += self.cost_sec

    @property
    def share(self) -> float:
        """Checkpoints' share of the time since the start."""
        return self.spent_sec / max(time.monotonic() - self.began, 1e-9)
