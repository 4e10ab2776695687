"""One fine-tuning in a run folder: base weights injected, resumable, log and grids written.

Axes: N selected images, H image height.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ohlora_lib.base.base import Base
from ohlora_lib.evaluation.evaluator import Evaluation, Evaluator
from ohlora_lib.finetune.loop import FineTuner, FinetuneSettings, finetune
from ohlora_lib.finetune.recipe import RECIPES
from ohlora_lib.io.disk import write_atomic
from ohlora_lib.io.images import Images, grid_image, save_png
from ohlora_lib.io.weights import save_weights, split_mapping
from ohlora_lib.study.summaries import start_anew_words
from ohlora_lib.training.checkpoint import (
    Pace,
    cannot_resume,
    images_sha256,
    load_newest,
    random_states,
    save_state,
    set_random_states,
    tensors_sha256,
)
from ohlora_lib.training.guards import NotFiniteError, check_finite
from ohlora_lib.training.ranks import ALONE, Ranks

GRID_IMAGES = 24


@dataclass(frozen=True)
class Progress:
    """Where a fine-tuning is, for whoever watches."""

    log: pd.DataFrame
    grid: Path | None
    batches_done: int
    batches_total: int
    elapsed_sec: float
    batches_per_epoch: int = 0  # 0: not known

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
        checkpoint_minutes: Longest time from one checkpoint of everything to the next.
        facts: What else must be the same to go on, such as how samples are scored.
        ranks: The processes that train together; the first one reads the state and writes.

    Raises:
        ValueError: If the folder holds a checkpoint of a training with other settings or inputs
            (names them), the batch does not divide by the ranks, or they have other inputs.
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
        checkpoint_minutes: float = 10.0,
        facts: Mapping[str, Any] | None = None,
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
        self.pace = Pace(checkpoint_minutes)
        self.facts = {
            **{"recipe": recipe, "wide_dim": wide_dim, "device": selected.device.type},
            **vars(settings),
            **(facts or {}),
            "base_sha256": tensors_sha256(_all_tensors(base)),
            "selected_sha256": images_sha256(selected),
        }
        self.grid: Path | None = None
        self.resumed = self._resume()

    def _resume(self) -> bool:
        """Goes on from the newest checkpoint; what was made after it is made again."""
        if self.ranks.from_first(lambda: self.facts) != self.facts:
            raise ValueError(
                f"process {self.ranks.rank} has another base, other images or settings than "
                f"process 0. Give all machines the same project folder."
            )
        state = self.ranks.from_first(self._left_state)
        if state is None:
            return False
        self.tuner.load(state)
        set_random_states(state["process_random"], self.tuner.device)
        self._check_length()
        if self.ranks.first:
            write_log(self.folder / "train_log.csv", self.tuner.rows)
            self._settle_weights()
        return True

    def _check_length(self) -> None:
        """Raises if more was trained than is asked for; fewer or more epochs to come are fine."""
        tuner = self.tuner
        if tuner.batches_done > tuner.settings.epochs * tuner.batches_per_epoch:
            why = f"epochs is now {tuner.settings.epochs}, and {tuner.epoch} are trained already"
            raise cannot_resume(self.state_path, why)

    def _settle_weights(self) -> None:
        """Leaves the weights and grids that an uninterrupted training of this length has by now.

        A shorter one kept its last epoch in any case, with the closing batch in it.
        """
        ended = self.tuner.idx == self.tuner.batches_per_epoch
        epochs = self.tuner.epoch + ended
        for path in (self.folder / "checkpoints").glob("generator-epoch*.safetensors"):
            kept = int(path.stem.removeprefix("generator-epoch"))
            if kept > epochs or (kept == epochs and ended):
                path.unlink()
        if ended:
            self._keep_weights(epochs)
        grids = {grid_name(row) for row in self.tuner.rows}
        for path in (self.folder / "images").glob("fixed-*.png"):
            if path.name not in grids:
                path.unlink()

    def _is_kept(self, epochs: int) -> bool:
        return epochs % self.checkpoint_every == 0 or epochs == self.tuner.settings.epochs

    def _keep_weights(self, epochs: int) -> None:
        if self._is_kept(epochs):
            path = self.folder / "checkpoints" / f"generator-epoch{epochs:04d}.safetensors"
            facts = {"epochs": str(epochs), "images_seen": str(self.tuner.images_seen)}
            save_weights(self.tuner.result, path, **facts)

    def _left_state(self) -> dict[str, Any] | None:
        """The state that an earlier start left; without one, what it made is removed."""
        state = load_newest(self.state_path, self.facts, free=["epochs"])
        if state is None:
            made = ("checkpoints/generator-*", "images/fixed-*.png", "*train_log.csv")
            made += ("generator.safetensors", "discriminator.safetensors")
            for path in (path for pattern in made for path in self.folder.glob(pattern)):
                path.unlink()
        return state

    def train(self, evaluator: Evaluator, watch: Callable[[Progress], None]) -> bool:
        """Fine-tunes to the last epoch.

        Args:
            evaluator: Scores samples.
            watch: Called after each row of the log and at least every few seconds.

        Returns:
            Whether it finished; after an interrupt False, and the next start goes on from there.

        Raises:
            NotFiniteError: If a loss, gradient or score is NaN or infinite: the last checkpoint
                stays, and the state it led to is kept beside it.
        """
        watched = [time.monotonic()]
        if not self.ranks.first:
            return self._follow(evaluator)

        def on_row(tuner: FineTuner, evaluation: Evaluation) -> None:
            check_finite(tuner.rows[-1])
            write_log(self.folder / "train_log.csv", tuner.rows)
            if (len(tuner.rows) - 1) % self.grid_every == 0:
                self._save_grid(evaluation.fixed_images)
            watched[0] = time.monotonic()
            watch(self.progress())

        def on_batch(_: FineTuner) -> None:
            if self.pace.due():
                self._save_state()
            if time.monotonic() - watched[0] > 5:
                watched[0] = time.monotonic()
                watch(self.progress())

        calls = {"on_row": on_row, "on_epoch": self._save, "on_batch": on_batch}
        try:
            done = finetune(self.tuner, evaluator, **calls)
        except NotFiniteError as error:
            message = self._post_mortem(error)
            self.ranks.any(True)  # the others wait for it
            raise NotFiniteError(message) from None
        if done:
            save_weights(self.tuner.result, self.folder / "generator.safetensors")
            save_weights(self.tuner.discriminator, self.folder / "discriminator.safetensors")
        return done

    def _follow(self, evaluator: Evaluator) -> bool:
        """Trains along with the first process, which writes and has the word."""
        try:
            return finetune(self.tuner, evaluator, on_row=_check, on_epoch=_pass, on_batch=_pass)
        except NotFiniteError:
            self.ranks.any(True)  # until the first has kept the state
            raise SystemExit(1) from None

    def _save(self, tuner: FineTuner) -> None:
        """Keeps weights at the end of an epoch, and the state that a next start resumes from.

        The closing batch is not in the state: a longer training does it as one of its own.
        """
        if tuner.closing:
            self._keep_weights(tuner.epoch)
            return
        ended = tuner.idx == tuner.batches_per_epoch
        if ended:
            self._keep_weights(tuner.epoch + 1)
        last = ended and tuner.epoch + 1 == tuner.settings.epochs
        if tuner.stopping or last or self.pace.due(epoch_ended=True):
            self._save_state()

    def _save_state(self) -> None:
        self.pace.save(self.state_path, self._state(), self.facts)

    def _state(self) -> dict[str, Any]:
        return self.tuner.state() | {"process_random": random_states(self.tuner.device)}

    def _post_mortem(self, error: NotFiniteError) -> str:
        """Keeps the state in which a number was no number, and says where; one line."""
        path = self.folder / "checkpoints" / "not-finite.pt"
        save_state(path, self._state() | {"reason": str(error)}, self.facts)
        last = self.state_path.name if self.state_path.exists() else "none yet"
        return (
            f"{error} at epoch {self.tuner.epoch}, batch {self.tuner.idx - 1}: training diverged. "
            f"Kept in {path.parent}: the last finite checkpoint ({last}) and this state "
            f"({path.name}). Lower learning_rate or raise r1_gamma, then start anew "
            f"{start_anew_words()}"
        )

    def _save_grid(self, images: np.ndarray) -> None:
        self.grid = self.folder / "images" / grid_name(self.tuner.rows[-1])
        save_png(self.grid, grid_image(images[:GRID_IMAGES]))

    def progress(self) -> Progress:
        """Where it is now."""
        done = self.tuner.batches_done
        log = pd.DataFrame(self.tuner.rows)
        counts = (done, self.tuner.total_batches, self.tuner.elapsed_sec)
        return Progress(log, self.grid, *counts, self.tuner.batches_per_epoch)


def grid_name(row: Mapping[str, Any]) -> str:
    """File name of the samples of fixed latents at one row of the log."""
    return f"fixed-epoch{row['epoch']:04d}-idx{row['idx']:05d}.png"


def _pass(*_: Any) -> None:
    """Writes nothing: the first process does."""


def _check(tuner: FineTuner, _: Evaluation) -> None:
    """Stops where the first process does; it alone writes the row."""
    check_finite(tuner.rows[-1])


def write_log(path: Path, rows: list[dict[str, float]]) -> None:
    """Writes the log in the published form: an unnamed index, then the columns, 4 decimals."""
    table = pd.DataFrame(rows)
    write_atomic(path, table.to_csv(float_format="%.4f", lineterminator="\n"))


def _all_tensors(base: Base) -> dict[str, torch.Tensor]:
    nets = vars(base).items()
    return {f"{kind}.{k}": v for kind, net in nets for k, v in net.state_dict().items()}
