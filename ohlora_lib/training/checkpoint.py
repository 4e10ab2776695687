"""Checkpoints of a training: plain values and tensors, checked when read, the last two kept.

A file is a line that names the form, a line of JSON (size and hash of the rest, and the facts it
was trained with), then what `torch.save` wrote. The newest is `state.pt`, the one before it
`state-before.pt`: a damaged newest falls back to that one, and the training does the rest again.
Axes: N images, H image height.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import random
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ohlora_lib.io.disk import explained, sync, write_atomic
from ohlora_lib.io.images import Images
from ohlora_lib.study.run import start_anew_words
from ohlora_lib.study.run_folder import differences, to_json

FORM = b"ohlora checkpoint 1"
MOST_SHARE = 0.02  # of the training time, that checkpoints may take
HASHED_AT_ONCE = 1000  # images


def before(path: Path) -> Path:
    """Where the checkpoint before the newest one is."""
    return path.with_name(f"{path.stem}-before{path.suffix}")


def on_its_way(path: Path) -> Path:
    """Where a whole new checkpoint is for the moment it takes to rename the older ones."""
    return path.with_name(f"{path.stem}-new{path.suffix}")


def save_state(path: Path, state: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Writes a training state; the one it replaces is kept as the one before.

    Args:
        path: File to write.
        state: Tensors and plain values.
        facts: Plain facts of the training that must be unchanged to resume.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    data = buffer.getbuffer()
    head = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "facts": dict(facts)}
    line = json.dumps(json.loads(to_json(head))).encode()
    newest = on_its_way(path)
    write_atomic(newest, b"\n".join((FORM, line, data)))
    with explained(path, newest):
        if path.exists():
            path.replace(before(path))
        newest.replace(path)
        sync(path.parent)


def load_state(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a training state and its facts; nothing in the file is executed.

    Raises:
        ValueError: If the file is damaged.
    """
    form, _, rest = path.read_bytes().partition(b"\n")
    line, _, data = rest.partition(b"\n")
    try:
        head = json.loads(line) if form == FORM else {}
        if len(data) != head["bytes"] or hashlib.sha256(data).hexdigest() != head["sha256"]:
            raise ValueError("it is cut off or was changed")
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (KeyError, TypeError, ValueError, pickle.UnpicklingError, RuntimeError) as error:
        known = isinstance(error, ValueError) and str(error).startswith("it is")
        raise ValueError(
            f"{path}: damaged checkpoint ({error if known else 'not one of this package'}). "
            f"Delete it to start the stage anew."
        ) from error
    return state, head["facts"]


def load_newest(
    path: Path,
    facts: Mapping[str, Any],
    *,
    free: Collection[str] = (),
) -> dict[str, Any] | None:
    """Reads the newest whole checkpoint of a training.

    Args:
        path: Where the newest one is; the one before it is looked for beside it.
        facts: What the training is to be done with now.
        free: Names of facts that may have changed.

    Returns:
        Its state; None if there is none.

    Raises:
        ValueError: If all there are are damaged, or other facts led to it (names them).
    """
    there = [p for p in (on_its_way(path), path, before(path)) if p.is_file()]
    for number, candidate in enumerate(there, 1):
        try:
            state, saved = load_state(candidate)
        except ValueError as error:
            if number == len(there):
                raise
            print(f"{str(error).partition(' Delete')[0]} Going on from the one before it.")  # noqa: T201
            continue
        wanted = json.loads(to_json(dict(facts)))
        if why := differences(saved, wanted, but=free):
            raise cannot_resume(candidate, ", ".join(why.values()))
        return state
    return None


def cannot_resume(path: Path, why: str) -> ValueError:
    """The error of a checkpoint that the present parameters cannot resume from."""
    return ValueError(
        f"{path}: the training stopped half-way cannot go on, because {why}. Put that back, give "
        f"it another `variant`, or start anew {start_anew_words()}, which keeps the old run."
    )


def tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """Hash of named tensors, in their order."""
    digest = hashlib.sha256()
    for name, value in tensors.items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy())
    return digest.hexdigest()


def images_sha256(images: Images) -> str:
    """Hash of uint8 images (N, H, H, 3)."""
    digest = hashlib.sha256()
    for part in images.split(HASHED_AT_ONCE):
        digest.update(part.cpu().contiguous().numpy())
    return digest.hexdigest()


def random_states(device: torch.device) -> dict[str, Any]:
    """Every random state of the process: Python, NumPy, torch on the CPU and on its GPU."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def set_random_states(states: Mapping[str, Any], device: torch.device) -> None:
    """Takes over what `random_states` gave."""
    version, numbers, spare = states["python"]
    random.setstate((version, tuple(numbers), spare))
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"], device)


@dataclass
class Pace:
    """When a checkpoint is due: at the end of an epoch, and every so many minutes.

    But only once all checkpoints so far and one more, as long as the last, take less than 2 % of
    the time; a stop and the end save in any case.

    Attributes:
        every_minutes: Longest time from one to the next.
        spent_sec: Time that checkpoints took so far, seconds.
        cost_sec: Time that the last one took.
    """

    every_minutes: float = 10.0
    spent_sec: float = 0.0
    cost_sec: float = 0.0
    began: float = field(default_factory=lambda: time.monotonic())
    last: float = field(default_factory=lambda: time.monotonic())

    def due(self, *, epoch_ended: bool = False) -> bool:
        """Whether to save now."""
        now = time.monotonic()
        waited = epoch_ended or now - self.last >= 60 * self.every_minutes
        return waited and self.spent_sec + self.cost_sec <= MOST_SHARE * (now - self.began)

    def save(self, path: Path, state: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Saves, and takes the time."""
        start = time.monotonic()
        save_state(path, state, facts)
        self.last = time.monotonic()
        self.cost_sec = self.last - start
        self.spent_sec += self.cost_sec

    @property
    def share(self) -> float:
        """Share of the time since the start that checkpoints took."""
        return self.spent_sec / max(time.monotonic() - self.began, 1e-9)
