"""Checkpoints of training: plain values and tensors, verified when read; the last two are kept.

A file is a line that names the format, a line of JSON (the hash of the rest and the facts it was
trained with), then the output of `torch.save`. The newest is `state.pt`, the previous one
`state-before.pt`: if the newest is damaged, training resumes from the previous one.
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

FORM = b"ohlora checkpoint 1"
MOST_SHARE = 0.02  # of the training time that checkpoints may take
HASHED_AT_ONCE = 1000  # images


def _before(path: Path) -> Path:
    """Returns the path of the previous checkpoint."""
    return path.with_name(f"{path.stem}-before{path.suffix}")


def save_state(path: Path, state: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Writes a state of tensors and plain values; keeps the one it replaces as the previous one.

    A run can resume only if its facts (plain values) are unchanged.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    data = buffer.getbuffer()
    head = {"sha256": hashlib.sha256(data).hexdigest(), "facts": dict(facts)}
    with atomic_path(path) as new:
        new.write_bytes(b"\n".join((FORM, to_json(head).replace("\n", "").encode(), data)))
        if path.exists():
            path.replace(_before(path))


def load_state(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a state and its facts; executes nothing in the file. Raises ValueError if damaged."""
    form, _, rest = path.read_bytes().partition(b"\n")
    line, _, data = rest.partition(b"\n")
    try:
        head = json.loads(line) if form == FORM else {}
        if hashlib.sha256(data).hexdigest() != head["sha256"]:
            raise ValueError("truncated or changed")
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (KeyError, TypeError, ValueError, pickle.UnpicklingError, RuntimeError) as error:
        why = f"{path}: damaged checkpoint. Delete it to start the stage anew."
        raise ValueError(why) from error
    return state, head["facts"]


def load_newest(
    path: Path, facts: Mapping[str, Any], *, free: Collection[str] = ()
) -> dict[str, Any] | None:
    """Reads the newest undamaged checkpoint of a training run; None if it has no checkpoint.

    If the newest is damaged, reads the previous one. `facts` describe the current run; facts
    named in `free` may differ from the checkpoint's.

    Raises:
        ValueError: If another fact differs, with its name, or if every checkpoint is damaged.
    """
    there = [p for p in (path, _before(path)) if p.is_file()]
    for candidate in there:
        try:
            state, saved = load_state(candidate)
        except ValueError as error:
            if candidate == there[-1]:
                raise
            print(f"{str(error).partition(' Delete')[0]} Resuming from the previous one.")  # noqa: T201
            continue
        wanted = json.loads(to_json(dict(facts)))
        if why := differences(saved, wanted, but=free):
            raise cannot_resume(candidate, ", ".join(why.values()))
        return state
    return None


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
