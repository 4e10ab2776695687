"""One fine-tuning in a run folder: base weights injected, resumable, log and grids written.

Axes: N selected images, H image height.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ohlora_lib.base import Base
from ohlora_lib.finetune.checkpoint import load_state, save_state
from ohlora_lib.finetune.evaluation import Evaluation, Evaluator
from ohlora_lib.finetune.loop import FineTuner, FinetuneSettings, finetune
from ohlora_lib.finetune.ranks import ALONE, Ranks
from ohlora_lib.finetune.recipe import RECIPES
from ohlora_lib.images import Images, grid_image, save_png
from ohlora_lib.records import write_atomic
from ohlora_lib.weights import save_weights, split_mapping

GRID_IMAGES = 24
HASHED_AT_ONCE = 1000  # images


@dataclass(frozen=True)
class Progress:
    """Where a fine-tuning is, for whoever watches."""

    log: pd.DataFrame
    grid: Path | None
    batches_done: int
    batches_total: int
    elapsed_sec: float

    @property
    def left_sec(self) -> float:
        """Estimate of the time left, seconds."""
        return (
            self.elapsed_sec / max(self.batches_done, 1) * (self.batches_total - self.batches_done)
        )


class FinetuneRun:
    """Fine-tunes in a folder, going on from its checkpoint if the settings are the same.

    Args:
        folder: Run folder; gets `train_log.csv`, `checkpoints/`, `images/` and the final weights.
        base: Base networks.
        selected: Selected images, uint8, shape (N, H, H, 3), on the device to train on.
        recipe: `v8` or `v9`.
        wide_dim: Width of the split mapping's new branch.
        settings: How to train.
        grid_every: Evaluations from one saved grid to the next.
        checkpoint_every: Epochs from one kept generator to the next; the last is always kept.
        ranks: The processes that train together; the first one reads the state and writes.

    Raises:
        ValueError: If the batch does not divide by the ranks, or they have other inputs.
    """

    def __init__(
        self,
        folder: Path,
        base: Base,
        selected: Images,
        *,
        recipe: str,
        wide_dim: int,
        settings: FinetuneSettings,
        grid_every: int = 1,
        checkpoint_every: int = 1,
        ranks: Ranks = ALONE,
    ) -> None:
        ranks.check_batch(settings.batch)
        self.ranks = ranks
        self.folder, self.grid_every = folder, grid_every
        self.checkpoint_every = checkpoint_every
        self.state_path = folder / "checkpoints" / "state.pt"
        generator = base.generator
        if RECIPES[recipe].split_mapping:
            random = torch.Generator().manual_seed(settings.seed)
            generator = split_mapping(generator, wide_dim, random)
        nets = (net.to(selected.device) for net in (generator, base.discriminator))
        self.tuner = FineTuner(*nets, selected, RECIPES[recipe], settings, ranks)
        facts = {"recipe": recipe, "wide_dim": wide_dim, **vars(settings)}
        self.identity = _fingerprint(facts, base, selected)
        self.grid: Path | None = None
        self.resumed = self._resume()

    def _resume(self) -> bool:
        if self.ranks.from_first(lambda: self.identity) != self.identity:
            raise ValueError(
                f"process {self.ranks.rank} has another base, other images or settings than "
                f"process 0. Give all machines the same project folder."
            )
        state = self.ranks.from_first(self._left_state)
        if state is not None:
            self.tuner.load(state)
        return state is not None

    def _left_state(self) -> dict[str, Any] | None:
        """The state that an earlier start left for this training; removes what is of another."""
        if self.state_path.exists():
            state = load_state(self.state_path)
            if state["identity"] == self.identity:
                return state
        for left in (*self.folder.glob("checkpoints/*"), *self.folder.glob("images/fixed-*.png")):
            left.unlink()
        return None

    def train(self, evaluator: Evaluator, watch: Callable[[Progress], None]) -> bool:
        """Fine-tunes to the last epoch.

        Args:
            evaluator: Scores samples.
            watch: Called after each row of the log and at least every few seconds.

        Returns:
            Whether it finished; after an interrupt False, and the next start goes on from there.
        """
        watched = [time.monotonic()]
        if not self.ranks.first:
            return finetune(self.tuner, evaluator, on_row=_pass, on_epoch=_pass, on_batch=_pass)

        def on_row(tuner: FineTuner, evaluation: Evaluation) -> None:
            write_log(self.folder / "train_log.csv", tuner.rows)
            if (len(tuner.rows) - 1) % self.grid_every == 0:
                self._save_grid(evaluation.fixed_images)
            watched[0] = time.monotonic()
            watch(self.progress())

        def on_batch(_: FineTuner) -> None:
            if time.monotonic() - watched[0] > 5:
                watched[0] = time.monotonic()
                watch(self.progress())

        done = finetune(
            self.tuner, evaluator, on_row=on_row, on_epoch=self._save, on_batch=on_batch
        )
        if done:
            self.state_path.unlink(missing_ok=True)
            save_weights(self.tuner.result, self.folder / "generator.safetensors")
            save_weights(self.tuner.discriminator, self.folder / "discriminator.safetensors")
        return done

    def _save(self, tuner: FineTuner) -> None:
        save_state(self.state_path, tuner.state() | {"identity": self.identity})
        epochs = tuner.epoch + (tuner.idx > 0 and not tuner.closing)
        if epochs % self.checkpoint_every and epochs != tuner.settings.epochs:
            return
        path = self.folder / "checkpoints" / f"generator-epoch{epochs:04d}.safetensors"
        facts = {"epochs": str(epochs), "images_seen": str(tuner.images_seen)}
        save_weights(tuner.result, path, **facts)

    def _save_grid(self, images: np.ndarray) -> None:
        row = self.tuner.rows[-1]
        name = f"fixed-epoch{row['epoch']:04d}-idx{row['idx']:05d}.png"
        self.grid = self.folder / "images" / name
        save_png(self.grid, grid_image(images[:GRID_IMAGES]))

    def progress(self) -> Progress:
        """Where it is now."""
        done = self.tuner.batches_done
        log = pd.DataFrame(self.tuner.rows)
        return Progress(log, self.grid, done, self.tuner.total_batches, self.tuner.elapsed_sec)


def _pass(*_: Any) -> None:
    """Writes nothing: the first process does."""


def write_log(path: Path, rows: list[dict[str, float]]) -> None:
    """Writes the log in the published form: an unnamed index, then the columns, 4 decimals."""
    table = pd.DataFrame(rows)
    write_atomic(path, table.to_csv(float_format="%.4f", lineterminator="\n"))


def _fingerprint(facts: Mapping[str, Any], base: Base, selected: Images) -> str:
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for net in (base.generator, base.discriminator):
        for name, value in net.state_dict().items():
            digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    for part in selected.split(HASHED_AT_ONCE):
        digest.update(part.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
