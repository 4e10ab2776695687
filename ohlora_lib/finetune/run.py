"""Fine-tunes in a run folder: loads the base, resumes, writes the log and grids.

Notebook 5 and the command `ohlora finetune` both use this module.
Axes: N selected images, H image height.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, InitVar, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pandas as pd
import torch

from ohlora_lib.base.base import Base, load_base
from ohlora_lib.evaluation.evaluator import Evaluation, Evaluator
from ohlora_lib.finetune.loop import FineTuner, FinetuneSettings, finetune
from ohlora_lib.finetune.recipe import RECIPES, trainable_names
from ohlora_lib.io.disk import write_atomic
from ohlora_lib.io.images import Images, grid_image, hold, open_store, save_png
from ohlora_lib.io.weights import save_weights
from ohlora_lib.nets import Discriminator
from ohlora_lib.nets.compute import pick_precision
from ohlora_lib.nets.style_generator import StyleGenerator
from ohlora_lib.properties.ensemble import load_ensemble
from ohlora_lib.study.machine import counted
from ohlora_lib.study.parameters import FinetuneGenerator, load
from ohlora_lib.study.run_folder import Run, start_anew_words
from ohlora_lib.training import checkpoint
from ohlora_lib.training.losses import NotFiniteError
from ohlora_lib.training.ranks import ALONE, Ranks, join, leave
from ohlora_lib.training.stopping import stop_on_interrupt
from ohlora_lib.verdict import findings as failures
from ohlora_lib.verdict import verdict
from ohlora_lib.verdict.logs import judge_of, read_log

GRID_IMAGES = 24
SHOWN_EVERY_SEC = 5  # progress updates between rows of the log


@dataclass(eq=False)
class FinetuneRun:
    """Fine-tunes in a folder, and resumes from its checkpoint if the settings match.

    Raises:
        ValueError: If the folder holds a checkpoint of a run with other settings or inputs;
            names them.
    """

    folder: Path  # receives `train_log.csv`, `checkpoints/`, `images/` and final weights
    base: InitVar[Base]
    selected: InitVar[Images]  # uint8, (N, H, H, 3), on the device to train on
    evaluator: Evaluator
    _: KW_ONLY
    recipe: str  # `v8` or `v9`
    wide_dim: int  # width of the split mapping's new branch
    settings: FinetuneSettings
    grid_every: int = 1  # evaluations per saved grid
    checkpoint_every: int = 1  # epochs per saved generator; the last is always saved
    checkpoint_minutes: InitVar[float] = 10.0  # longest interval between saved states
    ranks: Ranks = ALONE  # all read the state; only rank 0 writes files

    def __post_init__(self, base: Base, selected: Images, checkpoint_minutes: float) -> None:
        self.state_path = self.folder / "checkpoints" / "state.pt"
        self.pace = checkpoint.Pace(checkpoint_minutes)
        self.grid: Path | None = None  # newest grid
        nets = starting_nets(base, self.recipe, self.wide_dim, self.settings.seed)
        nets = (net.to(selected.device) for net in nets)
        self.tuner = FineTuner(*nets, selected, RECIPES[self.recipe], self.settings, self.ranks)
        tensors = {
            f"{n}.{k}": v for n, net in vars(base).items() for k, v in net.state_dict().items()
        }
        self.facts = {
            **{"recipe": self.recipe, "wide_dim": self.wide_dim, "device": selected.device.type},
            **vars(self.settings),
            **self.evaluator.facts(),
            "base_sha256": checkpoint.tensors_sha256(tensors),
            "selected_sha256": checkpoint.images_sha256(selected),
        }
        state = checkpoint.load_unchanged(self.state_path, self.facts, free=["epochs"])
        self.resumed = state is not None
        if self.resumed:
            self.tuner.load(state)
        if self.tuner.batches_done >= self.tuner.total_batches:
            (trained, _), epochs = self.tuner.place(self.tuner.batches_done), self.settings.epochs
            why = f"epochs is now {epochs}, but the run has trained {counted(trained, 'epoch')}"
            raise checkpoint.cannot_resume(self.state_path, why)
        if self.ranks.first:
            self._settle_files()

    @property
    def notes(self) -> dict[str, Any]:
        """Facts for the run's summary."""
        return {
            "device": str(self.tuner.device),
            "precision": self.settings.precision,
            "processes": self.ranks.size,
            "selected": len(self.tuner.images),
            "checkpoint_share": round(self.pace.share, 4),
        }

    def _settle_files(self) -> None:
        """Restores the log, weights and grids that an uninterrupted run has at this point.

        Files written after the checkpoint are written again. So is the last generator of a shorter
        run, as it was also trained on the closing batch.
        """
        tuner = self.tuner
        epochs, _ = tuner.place(tuner.batches_done - 1)
        kept = {_weights_name(epoch) for epoch in range(epochs + 1)}
        kept |= {_grid_name(row) for row in tuner.rows}
        finals = ("train_log.csv", "generator.safetensors", "discriminator.safetensors")
        for pattern in ("images/fixed-*.png", "checkpoints/generator-epoch*.safetensors", *finals):
            for path in self.folder.glob(pattern):
                if path.name not in kept:
                    path.unlink()
        if self.resumed:
            write_log(self.folder / "train_log.csv", tuner.rows)
            self._keep_weights()

    def _keep_weights(self) -> None:
        """Saves the generator at the end of every `checkpoint_every`-th epoch and of the last."""
        tuner = self.tuner
        epochs = min(tuner.place(tuner.batches_done)[0], self.settings.epochs)
        due = epochs % self.checkpoint_every == 0 or epochs == self.settings.epochs
        if due and (tuner.epoch_ended or tuner.finished):
            path = self.folder / "checkpoints" / _weights_name(epochs)
            facts = {"epochs": str(epochs), "images_seen": str(tuner.images_seen)}
            save_weights(tuner.result, path, **facts)

    def train(self, watch: Callable[[Self], None]) -> bool:
        """Fine-tunes to the last epoch.

        Args:
            watch: Called with this run after each row and every few seconds, on rank 0 only.

        Returns:
            Whether it finished; False after an interrupt, and the next start resumes.

        Raises:
            NotFiniteError: On all ranks, if a loss, gradient or score is NaN or infinite. The last
                checkpoint stays.
        """
        tuner, first, shown = self.tuner, self.ranks.first, time.monotonic()
        try:
            with stop_on_interrupt(pass_on=self.ranks.size == 1) as asked:
                for evaluation in finetune(tuner, self.evaluator, asked):
                    if not first:
                        continue
                    if evaluation:
                        self._keep_row(evaluation)
                    if evaluation or time.monotonic() - shown > SHOWN_EVERY_SEC:
                        shown = time.monotonic()
                        watch(self)
                    self._save()
                if first and not tuner.finished:
                    self.pace.save(self.state_path, tuner.state(), self.facts)
        except NotFiniteError as error:
            epoch, idx = tuner.place(tuner.batches_done - 1)
            kept = f"The last checkpoint in {self.state_path.parent} is finite. "
            raise NotFiniteError(
                f"{error} at epoch {epoch}, batch {idx}: training diverged. "
                f"{kept * self.state_path.is_file()}Lower learning_rate or raise r1_gamma, "
                f"then start anew {start_anew_words()}"
            ) from None
        if first and tuner.finished:
            save_weights(tuner.result, self.folder / "generator.safetensors")
            save_weights(tuner.discriminator, self.folder / "discriminator.safetensors")
        return tuner.finished

    def _keep_row(self, evaluation: Evaluation) -> None:
        rows = self.tuner.rows
        write_log(self.folder / "train_log.csv", rows)
        if (len(rows) - 1) % self.grid_every == 0:
            self.grid = self.folder / "images" / _grid_name(rows[-1])
            save_png(self.grid, grid_image(evaluation.fixed_images[:GRID_IMAGES]))

    def _save(self) -> None:
        """Saves weights at the end of an epoch, and periodically the state to resume from.

        The state excludes the closing batch, so that a longer run can resume from it.
        """
        tuner = self.tuner
        self._keep_weights()
        last = tuner.batches_done == tuner.total_batches - 1
        if last or (not tuner.finished and self.pace.due(epoch_ended=tuner.epoch_ended)):
            self.pace.save(self.state_path, tuner.state(), self.facts)


def starting_nets(
    base: Base, recipe: str, wide_dim: int, seed: int
) -> tuple[StyleGenerator, Discriminator]:
    """Builds the networks from a base, the generator with the recipe's mapping network."""
    generator = base.generator
    if RECIPES[recipe].split_mapping:
        generator = generator.split(wide_dim, torch.Generator().manual_seed(seed))
    return generator, base.discriminator


def what_is_trained(config: FinetuneGenerator, run: Run) -> pd.DataFrame:
    """Tabulates what the recipe trains per network: parts, weight counts, updates per batch."""
    base, recipe = load_base(run.inputs["base_run"]), RECIPES[config.recipe]
    nets = starting_nets(base, **config.pick("recipe wide_dim seed"))
    places = recipe.generator_trainable, recipe.discriminator_trainable
    rules, table = (recipe.generator_rule, recipe.discriminator_rule), {}
    for net, parts, rule in zip(nets, places, rules, strict=True):
        trained = sum(net.get_parameter(name).numel() for name in trainable_names(net, parts))
        total = sum(weights.numel() for weights in net.parameters())
        table[type(net).__name__.lower()] = {
            "trained": ", ".join(part for part in parts if net.groups()[part]),
            "weights trained": f"{trained:,} of {total:,} ({trained / total:.0%})",
            "updates per batch": str(rule),
        }
    return pd.DataFrame(table)


def _weights_name(epochs: int) -> str:
    return f"generator-epoch{epochs:04d}.safetensors"


def _grid_name(row: Mapping[str, Any]) -> str:
    """File name of the grid of fixed latents at one row of the log."""
    return f"fixed-epoch{row['epoch']:04d}-idx{row['idx']:05d}.png"


def write_log(path: Path, rows: list[dict[str, float]]) -> None:
    """Writes the log in the published format: unnamed index column, 4 decimals."""
    table = pd.DataFrame(rows)
    write_atomic(path, table.to_csv(float_format="%.4f", lineterminator="\n"))


def open_training(
    config: FinetuneGenerator, run: Run, ranks: Ranks = ALONE
) -> FinetuneRun | SimpleNamespace:
    """Loads the inputs of an open run and sets up its training, which may be over already."""
    if run.finished:
        return SimpleNamespace(notes=run.before["facts"], resumed=False, train=lambda watch: True)
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
    """Computes the final results of a finished fine-tuning run, for its summary."""
    log = read_log(folder / "train_log.csv")
    table = verdict.run_verdict(log, config.concept, source=judge_of(log))
    findings = failures.of_training(log, config.concept)
    grid = max((folder / "images").glob("fixed-*.png"))
    return {
        "verdict": failures.judged_sentence(table, findings),
        **failures.recorded(findings),
        "thumbnail": grid.relative_to(folder).as_posix(),
        "rows": len(log),
        "images_seen": int(log["images_seen"].iloc[-1]),
        **{name: float(log[name].iloc[-1]) for name in log if name.endswith("_score")},
    }


def finetune_file(path: Path, monitor: Callable[..., Any], *, start_anew: bool) -> bool:
    """Fine-tunes from a params file of notebook 5, on all ranks that the launcher started.

    Args:
        path: The params file.
        monitor: `widgets.monitor.Monitor`, which shows the progress on rank 0.
        start_anew: Whether to train from scratch; the earlier run moves to `.earlier`.

    Returns:
        Whether it finished; False after an interrupt, which saves the state.
    """
    ranks = join()
    config, run = ranks.from_first(lambda: _open(path, ranks.size, start_anew))
    training = open_training(config, run, ranks)
    watch = monitor(config.concept, resumed=training.resumed, live=False) if ranks.first else None
    finished = training.train(watch)
    if ranks.first:
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
        raise ValueError(f"{path}: holds parameters of {config.NOTEBOOK}; pass one for {wanted}")
    if config.batch % processes:
        raise ValueError(
            f"{path}: batch is {config.batch}, but {processes} processes share it; "
            f"set it to a multiple of {processes}"
        )
    anew = {"start_anew": start_anew or config.start_anew}
    return config, config.model_copy(update=anew).open_run()
