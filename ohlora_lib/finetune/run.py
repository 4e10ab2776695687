"""One fine-tuning in a run folder: base weights injected, resumable, log and grids written.

Notebook 5 and the command `ohlora finetune` do the same through this module.
Axes: N selected images, H image height.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ohlora_lib.base.base import Base, load_base
from ohlora_lib.evaluation.evaluator import Evaluation, Evaluator
from ohlora_lib.finetune.loop import FineTuner, FinetuneSettings, finetune
from ohlora_lib.finetune.recipe import RECIPES
from ohlora_lib.io.disk import write_atomic
from ohlora_lib.io.images import Images, grid_image, hold, open_store, save_png
from ohlora_lib.io.weights import save_weights, split_mapping
from ohlora_lib.nets.compute import pick_precision
from ohlora_lib.properties.ensemble import load_ensemble
from ohlora_lib.study.parameters import FinetuneGenerator, load
from ohlora_lib.study.run import Run, start_anew_words
from ohlora_lib.training.checkpoint import (
    Pace,
    cannot_resume,
    images_sha256,
    load_newest,
    save_state,
    tensors_sha256,
)
from ohlora_lib.training.losses import NotFiniteError
from ohlora_lib.training.ranks import ALONE, Ranks, join, leave
from ohlora_lib.verdict import findings as failures
from ohlora_lib.verdict import verdict
from ohlora_lib.verdict.logs import judge_of, read_log

GRID_IMAGES = 24


@dataclass(frozen=True)
class Progress:
    """Where a fine-tuning is, for whoever watches."""

    log: pd.DataFrame
    grid: Path | None
    batches_done: int
    batches_total: int
    elapsed_sec: float
    batches_per_epoch: int

    @property
    def left_sec(self) -> float:
        """Estimate of the time left, seconds."""
        left = self.batches_total - self.batches_done
        return self.elapsed_sec / max(self.batches_done, 1) * left


Watch = Callable[[Progress], None]


class FinetuneRun:
    """Fine-tunes in a folder, and resumes from its checkpoint if the settings are the same.

    Args:
        folder: Run folder; gets `train_log.csv`, `checkpoints/`, `images/` and the final weights.
        base: Base networks.
        selected: Selected images, uint8, shape (N, H, H, 3), on the device to train on.
        evaluator: Scores samples.
        recipe: `v8` or `v9`.
        wide_dim: Width of the split mapping's new branch.
        settings: How to train.
        grid_every: Evaluations from one saved grid to the next.
        checkpoint_every: Epochs from one kept generator to the next; the last is always kept.
        checkpoint_minutes: Longest time from one checkpoint of everything to the next.
        ranks: The processes that train together; all read the state, rank 0 alone writes.

    Raises:
        ValueError: If the folder holds a checkpoint of a training with other settings or inputs
            (names them).
    """

    def __init__(
        self,
        folder: Path,
        base: Base,
        selected: Images,
        evaluator: Evaluator,
        *,
        recipe: str,
        wide_dim: int,
        settings: FinetuneSettings,
        grid_every: int = 1,
        checkpoint_every: int = 1,
        checkpoint_minutes: float = 10.0,
        ranks: Ranks = ALONE,
    ) -> None:
        self.folder, self.evaluator, self.grid_every = folder, evaluator, grid_every
        self.checkpoint_every, self.ranks = checkpoint_every, ranks
        self.state_path = folder / "checkpoints" / "state.pt"
        generator = base.generator
        if RECIPES[recipe].split_mapping:
            random = torch.Generator().manual_seed(settings.seed)
            generator = split_mapping(generator, wide_dim, random)
        nets = (net.to(selected.device) for net in (generator, base.discriminator))
        self.tuner = FineTuner(*nets, selected, RECIPES[recipe], settings, ranks)
        self.pace = Pace(checkpoint_minutes)
        tensors = {
            f"{n}.{k}": v for n, net in vars(base).items() for k, v in net.state_dict().items()
        }
        self.facts = {
            **{"recipe": recipe, "wide_dim": wide_dim, "device": selected.device.type},
            **vars(settings),
            **evaluator.facts(),
            "base_sha256": tensors_sha256(tensors),
            "selected_sha256": images_sha256(selected),
        }
        self.grid: Path | None = None
        self.resumed = self._resume()

    @property
    def notes(self) -> dict[str, Any]:
        """Facts for the summary of the run."""
        return {
            "device": str(self.tuner.device),
            "precision": self.tuner.settings.precision,
            "processes": self.ranks.size,
            "selected": len(self.tuner.images),
            "checkpoint_share": round(self.pace.share, 4),
        }

    def _resume(self) -> bool:
        """Goes on from the newest checkpoint; what was made after it is made again."""
        state = load_newest(self.state_path, self.facts, free=["epochs"])
        if state is None:
            if self.ranks.first:
                self._remove_made()
            return False
        tuner = self.tuner
        tuner.load(state)
        if tuner.batches_done > tuner.settings.epochs * tuner.batches_per_epoch:
            why = f"epochs is now {tuner.settings.epochs}, and {tuner.epoch} are trained already"
            raise cannot_resume(self.state_path, why)
        if self.ranks.first:
            write_log(self.folder / "train_log.csv", tuner.rows)
            self._settle_weights()
        return True

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
        grids = {_grid_name(row) for row in self.tuner.rows}
        for path in (self.folder / "images").glob("fixed-*.png"):
            if path.name not in grids:
                path.unlink()

    def _keep_weights(self, epochs: int) -> None:
        if epochs % self.checkpoint_every == 0 or epochs == self.tuner.settings.epochs:
            path = self.folder / "checkpoints" / f"generator-epoch{epochs:04d}.safetensors"
            facts = {"epochs": str(epochs), "images_seen": str(self.tuner.images_seen)}
            save_weights(self.tuner.result, path, **facts)

    def _remove_made(self) -> None:
        """Removes what an earlier start made that left no state."""
        made = ("checkpoints/generator-*", "images/fixed-*.png", "*train_log.csv")
        made += ("generator.safetensors", "discriminator.safetensors")
        for pattern in made:
            for path in self.folder.glob(pattern):
                path.unlink()

    def train(self, watch: Watch) -> bool:
        """Fine-tunes to the last epoch.

        Args:
            watch: Called after each row of the log and at least every few seconds, on rank 0.

        Returns:
            Whether it finished; after an interrupt False, and the next start resumes.

        Raises:
            NotFiniteError: If a loss, gradient or score is NaN or infinite, on all ranks: the last
                checkpoint stays, and the state it led to is kept beside it.
        """
        shown = [time.monotonic()]

        def on_row(tuner: FineTuner, evaluation: Evaluation) -> None:
            write_log(self.folder / "train_log.csv", tuner.rows)
            if (len(tuner.rows) - 1) % self.grid_every == 0:
                self.grid = self.folder / "images" / _grid_name(tuner.rows[-1])
                save_png(self.grid, grid_image(evaluation.fixed_images[:GRID_IMAGES]))
            show()

        def on_batch(tuner: FineTuner) -> None:
            if self.pace.due() and not tuner.closing:
                self.pace.save(self.state_path, tuner.state(), self.facts)
            if time.monotonic() - shown[0] > 5:
                show()

        def show() -> None:
            shown[0] = time.monotonic()
            log, done = pd.DataFrame(self.tuner.rows), self.tuner.batches_done
            counts = done, self.tuner.total_batches, self.tuner.elapsed_sec
            watch(Progress(log, self.grid, *counts, self.tuner.batches_per_epoch))

        calls = {"on_row": on_row, "on_epoch": self._save, "on_batch": on_batch}
        if not self.ranks.first:
            calls = dict.fromkeys(calls, _write_nothing)
        try:
            done = finetune(self.tuner, self.evaluator, **calls)
        except NotFiniteError as error:
            message = self.ranks.from_first(partial(self._post_mortem, str(error)))
            raise NotFiniteError(message) from None
        if done and self.ranks.first:
            save_weights(self.tuner.result, self.folder / "generator.safetensors")
            save_weights(self.tuner.discriminator, self.folder / "discriminator.safetensors")
        return done

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
            self.pace.save(self.state_path, self.tuner.state(), self.facts)

    def _post_mortem(self, reason: str) -> str:
        """Keeps the state in which a number was no number, and says where; one line."""
        path = self.folder / "checkpoints" / "not-finite.pt"
        save_state(path, self.tuner.state() | {"reason": reason}, self.facts)
        last = self.state_path.name if self.state_path.exists() else "none yet"
        return (
            f"{reason} at epoch {self.tuner.epoch}, batch {self.tuner.idx - 1}: "
            f"training diverged. Kept in {path.parent}: the last finite checkpoint ({last}) and "
            f"this state ({path.name}). Lower learning_rate or raise r1_gamma, then start anew "
            f"{start_anew_words()}"
        )


def _grid_name(row: Mapping[str, Any]) -> str:
    """File name of the samples of fixed latents at one row of the log."""
    return f"fixed-epoch{row['epoch']:04d}-idx{row['idx']:05d}.png"


def _write_nothing(*_: Any) -> None:
    """In place of what rank 0 does."""


def write_log(path: Path, rows: list[dict[str, float]]) -> None:
    """Writes the log in the published form: an unnamed index, then the columns, 4 decimals."""
    table = pd.DataFrame(rows)
    write_atomic(path, table.to_csv(float_format="%.4f", lineterminator="\n"))


@dataclass(frozen=True)
class FinishedTraining:
    """A fine-tuning that finished before: there is nothing to train."""

    notes: dict[str, Any]
    resumed: bool = False

    def train(self, watch: Watch) -> bool:
        """Trains nothing."""
        return True


def open_training(
    config: FinetuneGenerator, run: Run, ranks: Ranks = ALONE
) -> FinetuneRun | FinishedTraining:
    """The training of an open run: reads its inputs and puts everything together."""
    if run.finished:
        return FinishedTraining(run.before["facts"])
    place = ranks.device(config.device)
    precision = ranks.from_first(lambda: pick_precision(config.precision, place))
    selected = hold(open_store(run.inputs["selection_run"] / "images" / "selected.npy"), place)
    failures.check_enough(len(selected))
    cnns, number = run.inputs["cnn_run"], {"precision": precision}
    ensembles = (
        load_ensemble(cnns / role, list(config.concept), device=place, **number)
        for role in ("selector", "judge")
    )
    evaluator = Evaluator(*ensembles, selected, **config.pick("samples seed"), **number)
    settings = FinetuneSettings(**number, **config.pick(FinetuneSettings, but="precision"))
    options = config.pick("recipe wide_dim grid_every checkpoint_every checkpoint_minutes")
    data = run.path, load_base(run.inputs["base_run"]), selected, evaluator
    return FinetuneRun(*data, settings=settings, ranks=ranks, **options)


def results(folder: Path, config: FinetuneGenerator) -> dict[str, Any]:
    """Final numbers of a finished fine-tuning, for its summary."""
    log = read_log(folder / "train_log.csv")
    table = verdict.run_verdict(log, config.concept, source=judge_of(log))
    findings = failures.of_training(log, folder, config.concept)
    grid = max((folder / "images").glob("fixed-*.png"))
    return {
        "verdict": failures.judged_sentence(table, findings),
        "findings": [finding.rule for finding in findings],
        "thumbnail": grid.relative_to(folder).as_posix(),
        "rows": len(log),
        "images_seen": int(log["images_seen"].iloc[-1]),
        **{name: float(log[name].iloc[-1]) for name in log if name.endswith("_score")},
    }


def finetune_file(path: Path, monitor: Callable[..., Any], *, start_anew: bool) -> bool:
    """Fine-tunes by a params file of notebook 5, together with the ranks a launcher started.

    Args:
        path: The params file.
        monitor: `widgets.monitor.Monitor`, which rank 0 shows the progress with.
        start_anew: Whether to train from the beginning; the earlier run moves to `.earlier`.

    Returns:
        Whether it finished; False after an interrupt, with the state saved.
    """
    ranks = join()
    config, run = ranks.from_first(lambda: _open(path, ranks.size, start_anew))
    training = open_training(config, run, ranks)
    if not ranks.first:
        finished = training.train(_write_nothing)
        leave(ranks)
        return finished
    watch = monitor(config.concept, resumed=training.resumed, live=False)
    finished = training.train(watch)
    watch.close(finished)
    run.note(**training.notes)
    if finished:
        run.finish(selected=training.notes["selected"], **results(run.path, config))
    leave(ranks)
    return finished


def _open(path: Path, processes: int, start_anew: bool) -> tuple[FinetuneGenerator, Run]:
    config = load(path)
    if not isinstance(config, FinetuneGenerator):
        wanted = FinetuneGenerator.NOTEBOOK
        raise ValueError(f"{path}: holds parameters of {config.NOTEBOOK}; give those of {wanted}")
    if config.batch % processes:
        raise ValueError(
            f"{path}: batch is {config.batch}, which {processes} processes cannot "
            f"share; it must be a multiple of {processes}"
        )
    anew = {"start_anew": start_anew or config.start_anew}
    return config, config.model_copy(update=anew).open_run()
