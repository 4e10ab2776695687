"""Runs a study for every point of a grid and every seed, and compares the points.

A point is an ordinary study, written to `params/<study>-<name>-<value>[-seed<k>]/`. It has the
stages that the grid reaches; what it shares with other points it reads from the run folders of its
parent, the study itself (with the seed), whose stages run first.
"""

from __future__ import annotations

import difflib
import itertools
import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from rich.console import Console

from ohlora_lib.io.disk import write_atomic
from ohlora_lib.population.labels import save_table
from ohlora_lib.report.index import write_index
from ohlora_lib.runner import stages
from ohlora_lib.runner.runner import StageError, StageInterrupted, run_study
from ohlora_lib.runner.stages import Stage
from ohlora_lib.runner.status import Status
from ohlora_lib.study import machine, parameters
from ohlora_lib.study.machine import duration
from ohlora_lib.study.run_folder import read_summary

TRAINING = "05_finetune_generator"  # whose parameter a bare name means, where others have it too
EVALUATION = "06_evaluate_samples"
COMPARISON = "08_compare_runs"
EVERYWHERE = ("concept", "device", "image_px", "precision")  # mean the same in every stage
OWN = ("study", "variant", "seed")  # the sweep's to set
HEADER = "# Written by `ohlora sweep`, which overwrites it. To change it, copy the folder.\n"


@dataclass(frozen=True)
class Axis:
    """A parameter that the sweep changes, in some stages."""

    name: str
    stages: list[str]
    values: list[Any]


@dataclass(frozen=True)
class Study:
    """A study to run: a point, the parent of some, or the comparison."""

    name: str
    folder: Path  # of its params files
    seed: int | None  # with which that folder is run
    stages: list[Stage]
    values: dict[str, Any] = field(default_factory=dict)  # of the grid, and the seed if given
    shared: list[Stage] = field(default_factory=list)  # stages of its parent


def run_sweep(
    folder: Path | str,
    *,
    grid: Sequence[str] = (),
    seeds: str = "",
    workers: int = 1,
    scheduler: str = "",
    status: Status | None = None,
) -> Path:
    """Runs the points of a sweep that have not finished, and compares all of them.

    Args:
        folder: The study's params folder.
        grid: Axes, see `parse_grid`.
        seeds: Seeds of each point, see `parse_seeds`.
        workers: Studies at a time on this machine.
        scheduler: Address of a Dask scheduler, whose workers run the studies instead.
        status: Where to say how it goes.

    Returns:
        The sweep's page, with `points.csv` beside it.

    Raises:
        ValueError: If an axis, a parameter or the scheduler is invalid; nothing was started.
        StageError: If a point failed; the others ran to their end.
        StageInterrupted: If it was stopped.
    """
    status = status or Status()
    folder, root = stages.find_study(folder)
    study = stages.read_study(folder, root)
    axes = parse_grid(grid, study)
    parents, points = lay_out(folder, root, axes, parse_seeds(seeds))
    every = [stage for one in (*parents, *points) for stage in one.stages]
    stages.check_study(every, root)
    name = stages.folder_name("-".join([folder.name, "sweep", *(axis.name for axis in axes)]))
    home = root / "outputs" / name
    home.mkdir(parents=True, exist_ok=True)
    stop = home / ".stop"
    stop.unlink(missing_ok=True)
    share = {} if scheduler else thread_share(workers)
    for point in points * bool(axes):
        write_study(point, root)
    pool = cluster(scheduler, root) if scheduler else futures.ThreadPoolExecutor(workers)
    with pool as executor:
        status.say(f"{len(points)} points, {len(every)} stages")
        start = partial(executor.submit, run_point, share, root, stop)
        run = partial(run_all, start=start, stop=stop, status=status)
        failed = run(parents) + run(points)
        done = {s.folder for s in every if stages.reason_to_run(s, root) is None}
        failed += run(comparison(name, points, done, study, root))
    page = write_points(points, done, home)
    if stop.exists():
        raise StageInterrupted("stopped by Ctrl-C. The same command resumes from there.")
    if failed:
        raise StageError(f"did not finish: {', '.join(failed)}. The same command tries again.")
    status.say(str(stages.shown_path(page, Path.cwd())))
    return page


def parse_grid(texts: Sequence[str], study: Sequence[Stage]) -> list[Axis]:
    """Reads axes of a grid, NAME=VALUE,VALUE or STAGE.NAME=VALUE,VALUE with a glob for the stage.

    Raises:
        ValueError: If a name or a value is not allowed; one line.
    """
    axes: list[Axis] = []
    for text in texts:
        key, _, listed = text.partition("=")
        pattern, _, name = key.strip().rpartition(".")
        chosen = _stages_of(pattern, name, study)
        given = []
        with suppress(yaml.YAMLError):
            given = yaml.safe_load(f"[{listed}]")
        source = f"{chosen[0].params_file} (--grid {text})"
        models = [stages.derive(chosen[0].parameters, {}, source, **{name: v}) for v in given]
        values = [getattr(model, name) for model in models]
        twice = any(value in values[:k] for k, value in enumerate(values))
        if not values or twice or any(axis.name == name for axis in axes):
            raise ValueError(
                f"--grid has {text!r}; it must be NAME=VALUE,VALUE, each name and each value once"
            )
        axes.append(Axis(name, [stage.name for stage in chosen], values))
    return axes


def _stages_of(pattern: str, name: str, study: Sequence[Stage]) -> list[Stage]:
    """The stages an axis changes; without a pattern the fine-tunings, if these have such."""
    globs = pattern or ("*" if name in EVERYWHERE else TRAINING)
    having = [stage for stage in study if name in type(stage.parameters).model_fields]
    chosen = [stage for stage in having if stages.matches(stage, globs)]
    chosen = chosen or having * (not pattern)
    if not chosen or name in OWN:
        known = {k for stage in study for k in type(stage.parameters).model_fields} - set(OWN)
        close = [stage.name for stage in having] or difflib.get_close_matches(name, known, 1)
        raise ValueError(
            f"--grid: no stage {pattern} has a parameter {name!r} that a sweep can change (for "
            f"seeds there is --seeds). Did you mean {close or sorted(known)}?"
        )
    return chosen


def parse_seeds(text: str) -> list[int]:
    """Reads `0-4` or `0,2,5-7`; empty text gives none.

    Raises:
        ValueError: If it is not of that form, or a seed comes twice.
    """
    seeds: list[int] = []
    for part in text.split(",") if text.strip() else []:
        match = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part)
        more = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
        if not 0 < len(more) <= 1000 or set(seeds) & set(more):
            raise ValueError(
                f"--seeds has {part!r}; it must be seeds or ranges, each once, as 0-4 or 0,2,5-7"
            )
        seeds += more
    return seeds


def lay_out(
    folder: Path, root: Path, axes: Sequence[Axis], seeds: Sequence[int]
) -> tuple[list[Study], list[Study]]:
    """The parents of a sweep, one a seed, and its points; ValueError if a stage takes no value."""
    parents, points = [], []
    for seed in seeds or [None]:
        study = stages.read_study(folder, root, seed)
        reached: list[Stage] = []  # by the grid, or by what they read
        for stage in study:
            given, places = stage.parameters.model_dump(), {other.path: "" for other in reached}
            changed = any(stage.name in axis.stages for axis in axes)
            reached += [stage] * (changed or stages.repoint(given, places) != given)
        shared = [stage for stage in study if stage not in reached]
        parents.append(Study(stages.seeded(folder.name, seed), folder, seed, shared))
        for chosen in itertools.product(*(axis.values for axis in axes)):
            values = {axis.name: value for axis, value in zip(axes, chosen, strict=True)}
            words = [folder.name, *(f"{name}-{text_of(value)}" for name, value in values.items())]
            name = stages.seeded(stages.folder_name("-".join(words)), seed)
            own = _moved(reached, root, axes, values, name)
            values |= {} if seed is None else {"seed": seed}
            points.append(Study(name, root / "params" / name, None, own, values, shared))
    return parents, points


def _moved(
    reached: Sequence[Stage], root: Path, axes: Sequence[Axis], values: dict[str, Any], study: str
) -> list[Stage]:
    """Stages with some values of the grid, in a study of their own."""
    own: dict[str, Stage] = {}  # by the run folder it had
    for stage in reached:
        changes = {axis.name: values[axis.name] for axis in axes if stage.name in axis.stages}
        source = f"{stage.params_file} (--grid {changes})"
        moved = {old: new.path for old, new in own.items()}
        model = stages.derive(stage.parameters, moved, source, **changes, study=study)
        own[stage.path] = stages.stage_of(model, Path("params", study), root)
    return list(own.values())


def text_of(value: Any) -> str:
    """A value as YAML would read it: 10 for 10.0, lists and mappings as JSON."""
    return value if isinstance(value, str) else json.dumps(value).removesuffix(".0")


def write_study(study: Study, root: Path) -> None:
    """Writes a study's params files in place of an earlier sweep's; there must be no others."""
    study.folder.mkdir(exist_ok=True)
    for path in study.folder.iterdir():
        if not path.is_file() or not path.read_bytes().startswith(HEADER.encode()):
            raise ValueError(f"{path} is in the way of the sweep. Rename that study.")
        path.unlink()
    for stage in study.stages:
        given = yaml.safe_dump(stage.parameters.model_dump(), sort_keys=False, allow_unicode=True)
        write_atomic(root / stage.params_file, HEADER + given)


def thread_share(workers: int) -> dict[str, str]:
    """Environment in which each of several processes takes its share of the cores."""
    if os.environ.get("OMP_NUM_THREADS"):
        return {}
    return {"OMP_NUM_THREADS": str(max(1, machine.usable_cores() // workers))}


@contextmanager
def cluster(address: str, root: Path) -> Iterator[futures.Executor]:
    """The workers of a Dask scheduler; ValueError if nobody answers or one lacks the project."""
    try:
        from distributed import Client

        client = Client(address, timeout=20, set_as_default=False)
    except (ImportError, OSError, ValueError) as error:
        raise ValueError(
            f"scheduler {address!r} cannot be reached ({' '.join(str(error).split())[:200]}). It "
            f"takes `pip install 'ohlora[distributed]'`, `dask scheduler` and `dask worker`s."
        ) from None
    with client, client.get_executor(pure=False) as executor:
        seen = client.run(root.is_dir)
        if not seen or not all(seen.values()):
            raise ValueError(f"{address}: there must be workers that all see {root}: {seen}")
        yield executor


def run_all(
    studies: list[Study], start: Callable[..., Any], stop: Path, status: Status
) -> list[str]:
    """Runs studies to their end and gives the names of those that failed.

    Ctrl-C lets those that run save their state and end: each adds a byte to the file `stop`, which
    workers on other machines see too.
    """
    failed, running = [], {start(study): study.name for study in studies if study.stages}
    while running:
        try:
            done, _ = futures.wait(running, 60, futures.FIRST_COMPLETED)
            for future in done:
                name = running.pop(future)
                error = futures.CancelledError() if future.cancelled() else future.exception()
                failed += [name] * bool(error)
                ended = "stopped" if isinstance(error, StageInterrupted) else f"failed: {error}"
                status.say(f"{name}  {ended[:300] if error else 'done'}, {len(running)} left")
            if not done:
                status.say(f"{len(running)} left")
        except KeyboardInterrupt:
            with stop.open("a") as file:
                file.write("x")
            status.say("stopping: stages save their state (Ctrl-C again to end them now)")
    return failed


def run_point(share: Mapping[str, str], root: Path, stop: Path, study: Study) -> None:
    """Runs a study for a worker; what it says goes to `sweep.log` in its outputs."""
    home = root / "outputs" / study.name
    home.mkdir(parents=True, exist_ok=True)

    def stops() -> list[int]:
        return [signal.SIGINT] * (stop.stat().st_size if stop.exists() else 0)

    if stops():
        raise StageInterrupted("stopped")
    with (home / "sweep.log").open("w", encoding="utf-8") as log:
        run_study(
            study.folder,
            only=",".join(stage.name for stage in study.stages),
            seed=study.seed,
            status=Status(Console(file=log, soft_wrap=True, highlight=False)),
            stops=stops,
            env=share,
        )


def comparison(
    name: str, points: Sequence[Study], done: set[Path], study: Sequence[Stage], root: Path
) -> list[Study]:
    """The comparison of all fine-tunings that have finished, as a study; empty if it takes more.

    Seeds of a point share a name; where there are several, a point with one is left out.
    """
    groups: dict[str, dict[str, None]] = {}  # run folders in order, by name
    evaluations: dict[str, str] = {}
    for point in points:
        for stage in (s for s in (*point.shared, *point.stages) if s.folder in done):
            if stage.notebook.stem == TRAINING:
                values = point.values if stage in point.stages else {}
                words = [f"{k}={text_of(v)}" for k, v in values.items() if k != "seed"]
                label = " ".join(filter(None, [stage.parameters.variant, *words])) or stage.name
                groups.setdefault(label, {})[stage.path] = None
            if stage.notebook.stem == EVALUATION:
                evaluations[stage.parameters.finetune_run] = stage.path
    pooled = any(len(runs) > 1 for runs in groups.values())
    groups = {label: runs for label, runs in groups.items() if len(runs) > pooled}
    if len(groups) < 2:
        return []
    runs = [run for found in groups.values() for run in found]
    found = [evaluations.get(run, "") for run in runs]
    like = next(s for s in reversed(study) if s.notebook.stem in (COMPARISON, TRAINING)).parameters
    given = {"study": name, "concept": like.concept, "seed": like.seed, "finetune_runs": runs}
    given["evaluation_runs"] = found if all(found) else []
    given["names"] = [label for label, found in groups.items() for _ in found]
    model = parameters.MODELS[COMPARISON].checked(given, f"comparison of {name}")
    stage = stages.stage_of(model, Path("params", name), root)
    compared = Study(name, root / "params" / name, None, [stage])
    write_study(compared, root)
    return [compared]


def write_points(points: Sequence[Study], done: set[Path], home: Path) -> Path:
    """Writes `points.csv`, a row for each fine-tuning of each point; gives the sweep's page."""
    rows = []
    for point in points:
        every = [*point.shared, *point.stages]
        found = {stage.path: read_summary(stage.folder) for stage in every if stage.folder in done}
        facts = {name: text_of(value) for name, value in point.values.items()}
        facts["finished"] = f"{len(found)} of {len(every)}"
        facts["work"] = duration(sum(summary["wall_sec"] for summary in found.values()))
        runs = [stage for stage in every if stage.notebook.stem == TRAINING]
        for run in runs or every[-1:]:
            row = {"run": run.parameters.variant or run.name, **facts}
            for stage in (s for s in every if s.notebook.stem == EVALUATION and s.path in found):
                results = found[stage.path]["results"]
                if stage.parameters.finetune_run == run.path and "distances" in results:
                    for prop, distance in results["distances"].items():
                        row[f"{prop}: distance"] = f"{distance['fine-tuned']:.4f}"
                    row["diversity"] = f"{results['diversity']:.3f}"
            rows.append({**row, "study": point.name})
    table = pd.DataFrame(rows, dtype=object)
    save_table(home / "points.csv", table)
    text = table.fillna("").to_html(index=False, border=0)
    text = re.sub(
        r"<td>(.*)</td>(?=\s*</tr>)", r'<td><a href="../\1/index.html">\1</a></td>', text
    )
    return write_index(home, part=f'<div class="table" tabindex="0">{text}</div>')
