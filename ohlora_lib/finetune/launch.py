"""The fine-tuning stage as a whole: put together from its parameters, trained here or by several.

Notebook 5 and the command `ohlora finetune` do the same through this module, in the same run
folder. Several processes are one training: each has its share of a batch, the first one writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ohlora_lib.base.base import load_base
from ohlora_lib.evaluation.evaluator import Evaluator
from ohlora_lib.finetune.loop import FinetuneSettings
from ohlora_lib.finetune.run import FinetuneRun, Progress
from ohlora_lib.io.images import hold, open_store
from ohlora_lib.nets.compute import pick_precision
from ohlora_lib.properties.ensemble import load_ensemble
from ohlora_lib.runner import processes
from ohlora_lib.study.conditions import check_enough
from ohlora_lib.study.parameters import FinetuneGenerator, load
from ohlora_lib.study.run_folder import Run, check_inputs
from ohlora_lib.training.ranks import ALONE, Ranks
from ohlora_lib.verdict import findings as failures
from ohlora_lib.verdict import verdict
from ohlora_lib.verdict.logs import judge_of, read_log

Watch = Callable[[Progress], None]
GOES_ON = "Going on from the checkpoint of an earlier start."


@dataclass(frozen=True)
class Training:
    """A fine-tuning in this process, ready to start."""

    run: FinetuneRun
    evaluator: Evaluator
    facts: dict[str, Any]  # device, precision, selected images; share of the time for checkpoints

    @property
    def resumed(self) -> bool:
        """Whether it goes on from a checkpoint."""
        return self.run.resumed

    def train(self, watch: Watch) -> bool:
        """Fine-tunes to the end, or until interrupted; returns whether it finished."""
        finished = self.run.train(self.evaluator, watch)
        self.facts["checkpoint_share"] = round(self.run.pace.share, 4)
        return finished


def prepare(
    config: FinetuneGenerator, folder: Path, inputs: Mapping[str, Path], ranks: Ranks = ALONE
) -> Training:
    """Reads the inputs and puts the training together.

    Args:
        config: Parameters.
        folder: Run folder.
        inputs: Run folders by parameter.
        ranks: Processes that train together.
    """
    place = processes.own_device(config.device, ranks)
    precision = ranks.from_first(lambda: pick_precision(config.precision, place))
    selected = hold(open_store(inputs["selection_run"] / "images" / "selected.npy"), place)
    options = {"device": place, "precision": precision}
    check_enough(len(selected))
    selector, judge = (
        load_ensemble(inputs["cnn_run"] / role, list(config.concept), **options)
        for role in ("selector", "judge")
    )
    common = {"seed": config.seed, "precision": precision, "ranks": ranks}
    evaluator = Evaluator(selector, judge, selected, samples=config.samples, **common)
    run = FinetuneRun(
        folder,
        load_base(inputs["base_run"]),
        selected,
        settings=FinetuneSettings(
            precision=precision, **config.pick(FinetuneSettings, but="precision")
        ),
        facts=evaluator.facts(),
        ranks=ranks,
        **config.pick("recipe wide_dim grid_every checkpoint_every checkpoint_minutes"),
    )
    facts = {"device": str(place), "precision": precision, "processes": ranks.size}
    return Training(run, evaluator, facts | {"selected": len(selected)})


class LaunchedTraining:
    """A fine-tuning by several processes, each in a process of its own beside this one.

    Args:
        config: Parameters; `processes` is more than 1.
        folder: Run folder, open and with its `config.json`.

    Raises:
        ValueError: If accelerate is not installed.
    """

    resumed = False  # not known before it starts, which then says it

    def __init__(self, config: FinetuneGenerator, folder: Path) -> None:
        self.folder, self.facts, self.finished = folder, {}, False
        words = ["finetune", str(folder / "config.json"), "--held"]
        self.launch = processes.Launch(words, config.processes)

    def train(self, watch: Watch) -> bool:
        """Fine-tunes to the end, or until interrupted; returns whether it finished."""

        def on_event(event: dict[str, Any]) -> None:
            if event.get("resumed"):
                print(GOES_ON)  # noqa: T201
            if "progress" in event:
                watch(self._progress(event["progress"]))
            self.facts |= event.get("facts", {})
            self.finished |= event.get("finished", False)

        self.launch.run(on_event)
        return self.finished

    def _progress(self, facts: dict[str, Any]) -> Progress:
        path, grid = self.folder / "train_log.csv", facts.pop("grid")
        log = read_log(path) if path.exists() else pd.DataFrame()
        return Progress(log=log, grid=None if grid is None else Path(grid), **facts)


class FinishedTraining:
    """A fine-tuning that finished before: there is nothing to train.

    Args:
        run: Its open run.
    """

    resumed = False

    def __init__(self, run: Run) -> None:
        selected = {"selected": run.before["results"].get("selected")}
        self.facts = run.before.get("facts", {}) | selected

    def train(self, watch: Watch) -> bool:
        """Trains nothing."""
        return True


def open_training(
    config: FinetuneGenerator, run: Run
) -> Training | LaunchedTraining | FinishedTraining:
    """The training of an open run: in this process, or in as many as the parameters say."""
    if run.finished:
        return FinishedTraining(run)
    if config.processes > 1:
        return LaunchedTraining(config, run.path)
    return prepare(config, run.path, run.inputs)


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


def finetune_file(path: Path, *, held: bool = False, start_anew: bool = False) -> bool:
    """Fine-tunes by a params file: here, or as one of the processes this one was started with.

    Args:
        path: A params file of notebook 5, or with `held` the `config.json` of a run folder.
        held: Whether who started this holds the run folder, follows the progress, and finishes.
        start_anew: Whether to train from the beginning; what is there moves to `.earlier`.

    Returns:
        Whether it finished; False after an interrupt, with the state saved.

    Raises:
        ValueError: If a parameter or an input is not right; one line.
    """
    ranks = processes.join()
    if held:
        return _train_held(path, ranks)
    opened: list[Run] = []  # the first process opens it and writes

    def begin() -> dict[str, Any]:
        config = _read_config(path, ranks)
        anew = start_anew or config.start_anew
        opened.append(config.model_copy(update={"start_anew": anew}).open_run())
        return {
            "config": config.config(),
            "folder": str(opened[0].path),
            "finished": opened[0].finished,
        }

    begun = ranks.from_first(begin)
    if begun["finished"]:
        processes.leave(ranks)
        return True
    config, folder = FinetuneGenerator.checked(begun["config"], str(path)), Path(begun["folder"])
    if ranks.size == 1:
        training = open_training(config, opened[0])
    else:
        training = prepare(config, folder, _inputs(config, folder), ranks)
    finished = _watched(training, config) if ranks.first else training.train(_unwatched)
    if ranks.first and finished:
        opened[0].note(**training.facts)
        selected = training.facts["selected"]
        opened[0].finish(selected=selected, **results(folder, config))
    processes.leave(ranks)
    return finished


def _read_config(path: Path, ranks: Ranks) -> FinetuneGenerator:
    config = load(path)
    if not isinstance(config, FinetuneGenerator):
        raise ValueError(
            f"{path}: holds parameters of {config.NOTEBOOK}; give those of "
            f"{FinetuneGenerator.NOTEBOOK}"
        )
    ranks.check_batch(config.batch)
    return config


def _inputs(config: FinetuneGenerator, folder: Path) -> dict[str, Path]:
    return check_inputs(config.input_runs(), folder.parents[2])


def _watched(training: Training | LaunchedTraining, config: FinetuneGenerator) -> bool:
    from ohlora_lib.widgets.monitor import Monitor  # here: only who trains at a terminal needs it

    monitor = Monitor(config.concept, resumed=training.resumed, live=False)
    finished = training.train(monitor)
    monitor.close(finished)
    return finished


def _unwatched(_: Progress) -> None:
    """The first process reports."""


def _train_held(path: Path, ranks: Ranks) -> bool:
    """Trains in a run folder that who started us holds, and tells it how it goes."""
    config = FinetuneGenerator.checked(json.loads(path.read_text(encoding="utf-8")), str(path))
    if ranks.first:
        processes.stop_with_parent()
    training = prepare(config, path.parent, _inputs(config, path.parent), ranks)
    if ranks.first:
        processes.tell(facts=training.facts, resumed=training.resumed)
    finished = training.train(_tell_progress)
    if ranks.first:
        processes.tell(finished=finished, facts=training.facts)
    processes.leave(ranks)
    return finished


def _tell_progress(progress: Progress) -> None:
    facts = {name: value for name, value in vars(progress).items() if name != "log"}
    facts["grid"] = None if progress.grid is None else str(progress.grid)
    processes.tell(progress=facts)
