"""Trains the property CNNs of a run folder; what was trained before a stop is not trained again.

Axes: N images, H image height.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ohlora_lib.io.images import Images, take
from ohlora_lib.io.weights import save_weights
from ohlora_lib.nets import PropertyCNN
from ohlora_lib.properties.ensemble import CNNSettings, Fold, train_folds
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
        kept = KeptFolds(folder, part, prop, settings, {**common, f"labels_{prop}_sha256": known})
        for fold in train_folds(part, targets, prop, settings, kept.read):
            kept.keep(fold)
            path = folder / f"{fold.prop}-fold{fold.fold}.safetensors"
            save_weights(fold.net, path, validation_auroc=f"{fold.auroc:.4f}")
            yield fold
    wanted = {f"{prop}-fold{k}.safetensors" for prop in properties for k in range(settings.folds)}
    for path in folder.glob("*-fold*.safetensors"):
        if path.name not in wanted:  # of an earlier run with more folds: it would vote on
            path.unlink()


class KeptFolds:
    """Trained folds of one property on the disk.

    Args:
        folder: Where they are.
        images: What they were trained on, uint8, shape (N, H, H, 3).
        prop: The property.
        settings: How they are trained.
        facts: What must be the same for a fold to be the one that would be trained.
    """

    def __init__(
        self,
        folder: Path,
        images: Images,
        prop: str,
        settings: CNNSettings,
        facts: Mapping[str, Any],
    ) -> None:
        self.folder, self.images, self.prop = folder, images, prop
        self.settings, self.facts = settings, facts

    def path(self, fold: int) -> Path:
        """Where a fold is kept."""
        return self.folder / "checkpoints" / f"state-{self.prop}-fold{fold}.pt"

    def keep(self, fold: Fold) -> None:
        """Writes a fold that is not there yet."""
        if self.path(fold.fold).exists():
            return
        state = {
            "net": fold.net.state_dict(),
            "history": fold.history.to_dict("list"),
            "valid_rows": torch.tensor(fold.valid_rows),
            "valid_scores": torch.tensor(fold.valid_scores),
            **{name: getattr(fold, name) for name in ("auroc", "best_loss", "attempts")},
        }
        save_state(self.path(fold.fold), state, self.facts)

    def read(self, fold: int) -> Fold | None:
        """A fold by number, if it was trained before."""
        state = load_newest(self.path(fold), self.facts)
        if state is None:
            return None
        options = {"width": self.settings.width, "crop": self.settings.crops.get(self.prop)}
        net = PropertyCNN(self.prop, image_px=self.images.shape[1], **options)
        net.to(self.images.device, memory_format=torch.channels_last)
        net.load_state_dict(state.pop("net"))
        history = pd.DataFrame(state.pop("history"))
        valid = {name: state.pop(name).numpy() for name in ("valid_rows", "valid_scores")}
        return Fold(self.prop, fold, net.eval(), history, **valid, **state)
