"""Trains the property CNNs of a run folder; what was trained before a stop is not trained again.

Axes: N images, H image height.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ohlora_lib.io.images import Images, take
from ohlora_lib.io.weights import save_weights
from ohlora_lib.nets import PropertyCNN
from ohlora_lib.properties.ensemble import CNNSettings, Fold, new_net, train_folds
from ohlora_lib.training.checkpoint import images_sha256, load_newest, save_state


def train_ensemble(
    images: Images,
    labels: pd.DataFrame,
    rows: np.ndarray,
    properties: Sequence[str],
    settings: CNNSettings,
    folder: Path,
) -> Iterator[Fold]:
    """Trains the folds of every property on some rows of a label table, and saves each.

    Args:
        images: All images, uint8, shape (N, H, H, 3), on the device to train on.
        labels: A row an image, a column of 0 and 1 a property.
        rows: Row numbers to train on; the others are never looked at.
        properties: Columns to learn.
        settings: How to train.
        folder: Gets `<property>-fold<k>.safetensors`, and until the run has finished all of each
            fold, from which a next start goes on.

    Yields:
        Each fold as it is done; its `valid_rows` count within `rows`.

    Raises:
        ValueError: If a fold is there that was trained otherwise; names what has changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part = take(images, rows)
    common = {**vars(settings), "device": part.device.type, "images_sha256": images_sha256(part)}
    for prop in properties:
        targets = labels[prop].to_numpy()[rows]
        known = hashlib.sha256(np.ascontiguousarray(targets, dtype=np.float64)).hexdigest()
        facts = {**common, f"labels_{prop}_sha256": known}
        place = partial(_state_path, folder, prop)
        kept = partial(_read_fold, place, prop, facts, partial(new_net, part, prop, settings))
        for fold in train_folds(part, targets, prop, settings, kept):
            if not place(fold.fold).exists():
                _keep_fold(place(fold.fold), fold, facts)
            path = folder / f"{fold.prop}-fold{fold.fold}.safetensors"
            save_weights(fold.net, path, validation_auroc=f"{fold.auroc:.4f}")
            yield fold
    wanted = {f"{prop}-fold{k}.safetensors" for prop in properties for k in range(settings.folds)}
    for path in folder.glob("*-fold*.safetensors"):
        if path.name not in wanted:  # of an earlier run with more folds: it would vote on
            path.unlink()


def _state_path(folder: Path, prop: str, fold: int) -> Path:
    """Where all of a trained fold is kept until the run has finished."""
    return folder / "checkpoints" / f"state-{prop}-fold{fold}.pt"


def _keep_fold(path: Path, fold: Fold, facts: Mapping[str, Any]) -> None:
    """Writes a fold, and the facts it must be resumed with."""
    state = {
        "net": fold.net.state_dict(),
        "history": fold.history.to_dict("list"),
        "valid_rows": torch.tensor(fold.valid_rows),
        "valid_scores": torch.tensor(fold.valid_scores),
        **{name: getattr(fold, name) for name in ("auroc", "best_loss", "attempts")},
    }
    save_state(path, state, facts)


def _read_fold(
    place: Callable[[int], Path],
    prop: str,
    facts: Mapping[str, Any],
    make_net: Callable[[], PropertyCNN],
    fold: int,
) -> Fold | None:
    """A fold by number, if it was trained before."""
    state = load_newest(place(fold), facts)
    if state is None:
        return None
    net = make_net()
    net.load_state_dict(state.pop("net"))
    history = pd.DataFrame(state.pop("history"))
    valid = {name: state.pop(name).numpy() for name in ("valid_rows", "valid_scores")}
    return Fold(prop, fold, net.eval(), history, **valid, **state)
