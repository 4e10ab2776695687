"""Runs a study for every point of a grid and every seed, and compares the points.

A point is an ordinary study, written to `params/<study>-<name>-<value>[-seed<k>]/`. It contains
the stages that the grid affects, and reads the others from the run folders of its parent: the
study itself (with the seed), which runs first.
"""

import itertools
import json
import os
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
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
from ohlora_lib.runner.status import Status, SweepProgress
from ohlora_lib.study import machine, parameters
from ohlora_lib.study.cells import check_known
from ohlora_lib.study.machine import counted, duration
from ohlora_lib.study.records import read_summary
from ohlora_lib.study.run_folder import move_aside

TRAINING = "05_finetune_generator"  # the stage a bare parameter name refers to, if it has it
EVALUATION = "06_evaluate_samples"
COMPARISON = "08_compare_runs"
EVERYWHERE = ("concept", "device", "image_px", "precision")  # have one meaning in every stage
OWN = {"study", "variant", "seed"}  # set by the sweep itself
HIDDEN = ["label", "path", "evaluation"]  # columns only the comparison uses
LOOK_SEC = 2.0  # between looks at the studies' logs
HEADER = "# Written by `ohlora sweep`, which overwrites it. To change it, copy the folder.\n"


@dataclass(frozen=True)
class Axis:
    """A parameter the sweep varies, and the stages it applies to."""

    name: str
    stages: list[str]
    values: list[Any]


@dataclass(frozen=True)
class Study:
    """A study to run: a point, a parent of points, or the comparison."""

    name: str
    folder: Path  # its params files
    stages: list[Stage]
    seed: int | None = None  # replaces the seed in the params files
    values: dict[str, str] = field(default_factory=dict)  # grid values, and the seed if given
    shared: list[Stage] = field(default_factory=list)  # the parent's stages


def run_sweep(
    folder: Path | str,
    *,
    grid: Sequence[str] = (),
    seeds: str = "",
    workers: int = 1,
    scheduler: str = "",
    status: Status | None = None,
) -> Path:
    """Runs the unfinished points of a sweep and compares all points.

    Args:
        folder: The study's params folder.
        grid: Axes, see `parse_grid`.
        seeds: Seeds for each point, see `parse_seeds`.
        workers: Number of studies to run in parallel on this machine.
        scheduler: Address of a Dask scheduler whose workers run the studies instead.
        status: Where progress is shown; standard output if None.

    Returns the sweep's page; `points.csv` lies in the same folder. Raises ValueError, before
    anything starts, if there is neither a grid nor a seed, or an axis, a parameter or the
    scheduler is invalid; StageError if a point failed, after all others ran to the end; and
    StageInterrupted if the sweep was stopped.
    """
    if not grid and not seeds.strip():
        raise ValueError("a sweep needs --grid r1_gamma=0.1,0.2 or --seeds 0-2, or both")
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
    for point in points * bool(axes):
        write_study(point, root)
    pool = cluster(scheduler, root) if scheduler else threads(workers)
    progress = SweepProgress(status, len(every))
    with pool as (executor, env), status.live("sweep"):

        def run(studies: Sequence[Study]) -> list[str]:
            begun = {}
            for one in studies:
                log = log_file(one, root)
                log.unlink(missing_ok=True)  # of an earlier sweep
                begun[executor.submit(run_point, one, root, env, stop)] = log
            return follow(begun, stop, progress)

        size = f"{counted(len(points), 'point')}, {counted(len(every), 'stage')}"
        status.say(f"{size}; progress of each study: outputs/<study>/sweep.log")
        failed = run([parent for parent in parents if parent.stages])
        failed += run([point for point in points if point.stages])
        done = {stage.folder for stage in every if stages.reason_to_run(stage, root) is None}
        table = tabulate(points, done)
        compared = comparison(name, table, study, root)
        old = home / COMPARISON  # of other points, if it is not finished or must run again
        if not (compared and stages.reason_to_run(compared[0].stages[0], root) is None):
            move_aside(old)
        progress.left += len(compared)
        failed += run(compared)
    page = write_points(table, home)
    if stop.exists():
        raise StageInterrupted("stopped by Ctrl-C. The same command resumes from there.")
    if failed:
        raise StageError(f"did not finish: {', '.join(failed)}. The same command runs them again.")
    status.say(str(stages.shown_path(page, Path.cwd())))
    return page


def parse_grid(texts: Sequence[str], study: Sequence[Stage]) -> list[Axis]:
    """Parses grid axes: NAME=VALUE,VALUE or STAGE.NAME=VALUE,VALUE, where STAGE is a glob.

    An invalid name or value raises a one-line ValueError.
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
                f"--grid is {text!r}; it must be NAME=VALUE,VALUE, each name and each value once"
            )
        axes.append(Axis(name, [stage.name for stage in chosen], values))
    return axes


def _stages_of(pattern: str, name: str, study: Sequence[Stage]) -> list[Stage]:
    """Returns an axis's stages; without a pattern, stage 5's if they have the parameter."""
    fields = {stage.name: type(stage.parameters).model_fields for stage in study}
    known = set().union(*fields.values()) - OWN
    check_known([name], known, "--grid (of parameters; for seeds there is --seeds)")
    having = [stage for stage in study if name in fields[stage.name]]
    if pattern:
        return stages.select(having, pattern, f"stage that has {name}")
    usual = "*" if name in EVERYWHERE else TRAINING
    return [stage for stage in having if stages.matches(stage, usual)] or having


def parse_seeds(text: str) -> list[int]:
    """Parses `0-4` or `0,2,5-7`; ValueError if malformed or if a seed is repeated."""
    seeds: list[int] = []
    for part in text.split(",") if text.strip() else []:
        match = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part)
        more = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
        if not 0 < len(more) <= 1000 or set(seeds) & set(more):
            raise ValueError(
                f"--seeds has {part!r}; give each seed once, alone or in a range: 0-4 or 0,2,5-7"
            )
        seeds += more
    return seeds


def lay_out(
    folder: Path, root: Path, axes: Sequence[Axis], seeds: Sequence[int]
) -> tuple[list[Study], list[Study]]:
    """Returns a sweep's parents, one per seed, and its points; ValueError for an invalid value."""
    parents, points = [], []
    for seed in seeds or [None]:
        study = stages.read_study(folder, root, seed)
        reached: dict[str, Stage] = {}  # affected by the grid, directly or through their inputs
        for stage in study:
            given = stage.parameters.model_dump()
            changed = any(stage.name in axis.stages for axis in axes)
            if changed or stages.repoint(given, dict.fromkeys(reached, "")) != given:
                reached[stage.path] = stage
        shared = [stage for stage in study if stage.path not in reached]
        parents.append(Study(stages.seeded(folder.name, seed), folder, shared, seed))
        for chosen in itertools.product(*(axis.values for axis in axes)):
            values = {axis.name: text_of(v) for axis, v in zip(axes, chosen, strict=True)}
            words = "-".join([folder.name, *(f"{axis}-{value}" for axis, value in values.items())])
            name, own = stages.seeded(stages.folder_name(words), seed), []
            places = {path: f"outputs/{name}/{stage.name}" for path, stage in reached.items()}
            for stage in reached.values():
                pairs = zip(axes, chosen, strict=True)
                changes = {axis.name: v for axis, v in pairs if stage.name in axis.stages}
                source = f"{stage.params_file} (--grid {changes})"
                model = stages.derive(stage.parameters, places, source, **changes, study=name)
                own.append(stages.stage_of(model, Path("params", name), root))
            values |= {} if seed is None else {"seed": str(seed)}
            points.append(Study(name, root / "params" / name, own, None, values, shared))
    return parents, points


def text_of(value: Any) -> str:
    """Formats a value as short YAML: 10 for 10.0, lists and mappings as JSON."""
    return value if isinstance(value, str) else json.dumps(value).removesuffix(".0")


def write_study(study: Study, root: Path) -> None:
    """Writes a study's params files over an earlier sweep's; ValueError if there are others."""
    study.folder.mkdir(exist_ok=True)
    for path in study.folder.iterdir():
        if not path.is_file() or not path.read_bytes().startswith(HEADER.encode()):
            raise ValueError(f"{path} was not written by a sweep. Rename that study's folder.")
        path.unlink()
    for stage in study.stages:
        given = yaml.safe_dump(stage.parameters.model_dump(), sort_keys=False, allow_unicode=True)
        write_atomic(root / stage.params_file, HEADER + given)


@contextmanager
def threads(workers: int) -> Iterator[tuple[futures.Executor, dict[str, str]]]:
    """Yields one thread per worker, and environment variables that divide the CPU cores."""
    cores = str(max(1, machine.usable_cores() // workers))
    with futures.ThreadPoolExecutor(workers) as executor:
        yield executor, {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or cores}


@contextmanager
def cluster(address: str, root: Path) -> Iterator[tuple[futures.Executor, dict[str, str]]]:
    """Yields a Dask executor; ValueError if it is unreachable or a worker lacks the project."""
    try:
        from distributed import Client

        client = Client(address, timeout=20, set_as_default=False)
    except (ImportError, OSError, ValueError) as error:
        raise ValueError(
            f"scheduler {address!r} cannot be reached ({' '.join(str(error).split())[:200]}). "
            "Run `pip install 'ohlora[distributed]'`, `dask scheduler` and `dask worker`."
        ) from None
    with client, client.get_executor(pure=False) as executor:
        seen = client.run(root.is_dir)
        if not seen or not all(seen.values()):
            raise ValueError(f"{address}: needs workers, each with {root}; found: {seen}")
        yield executor, {}


def log_file(study: Study, root: Path) -> Path:
    """Returns the file in which a worker logs a study's progress."""
    return root / "outputs" / study.name / "sweep.log"


def follow(running: dict[futures.Future, Path], stop: Path, progress: SweepProgress) -> list[str]:
    """Waits for all studies to end, each with its log, and returns the names of failed studies.

    Ctrl-C lets running studies save their state and exit: each press appends a byte to the file
    `stop`, which workers on other machines also watch.
    """
    failed, say = [], progress.status.say
    while running:
        try:
            done, _ = futures.wait(running, LOOK_SEC, futures.FIRST_COMPLETED)
            progress.show({log.parent.name: log for log in running.values()})
            for future in done:
                name = running.pop(future).parent.name
                error = futures.CancelledError() if future.cancelled() else future.exception()
                failed += [name] * bool(error)
                if error:
                    stopped = isinstance(error, StageInterrupted)
                    say(f"{name}  {'stopped' if stopped else f'failed: {error}'}")
        except KeyboardInterrupt:
            with stop.open("a") as file:
                file.write("x")
            say("stopping: stages save their state (Ctrl-C again to end them now)")
    return failed


def run_point(study: Study, root: Path, env: Mapping[str, str], stop: Path) -> None:
    """Runs a study in a worker; its progress goes to `sweep.log` in its output folder."""
    log_path = log_file(study, root)
    log_path.parent.mkdir(parents=True, exist_ok=True)

    def stops() -> list[int]:
        return [signal.SIGINT] * (stop.stat().st_size if stop.exists() else 0)

    if stops():
        raise StageInterrupted("stopped")
    with log_path.open("w", encoding="utf-8") as log:
        run_study(
            study.folder,
            only=",".join(stage.name for stage in study.stages),
            seed=study.seed,
            status=Status(Console(file=log, soft_wrap=True, highlight=False)),
            stops=stops,
            env=env,
        )


def tabulate(points: Sequence[Study], done: set[Path]) -> pd.DataFrame:
    """Returns one row per fine-tuning run of each point: values, progress and results.

    HIDDEN columns: its name in the comparison, its run folder and its evaluation's, if finished.
    """
    rows = []
    for point in points:
        every = [*point.shared, *point.stages]
        found = {stage.path: read_summary(stage.folder) for stage in every if stage.folder in done}
        evaluations = [s for s in every if s.notebook.stem == EVALUATION and s.path in found]
        judged = {stage.parameters.finetune_run: stage.path for stage in evaluations}
        own = [f"{name}={value}" for name, value in point.values.items() if name != "seed"]
        facts = {**point.values, "finished": f"{len(found)} of {len(every)}"}
        facts["work"] = duration(sum(summary["wall_sec"] for summary in found.values()))
        runs = [stage for stage in every if stage.notebook.stem == TRAINING]
        for run in runs or every[-1:]:
            row = {"run": run.parameters.variant or run.name, **facts}
            evaluation = judged.get(run.path, "")
            results = found[evaluation]["results"] if evaluation else {}
            if "distances" in results:
                for prop, distance in results["distances"].items():
                    row[f"{prop}: distance"] = f"{distance['fine-tuned']:.4f}"
                row["diversity"] = f"{results['diversity']:.3f}"
            words = [run.parameters.variant, *own * (run in point.stages)]
            label = " ".join(filter(None, words)) or run.name
            path = run.path if run in runs and run.path in found else ""
            hidden = dict(zip(HIDDEN, (label, path, evaluation), strict=True))
            rows.append({**row, "study": point.name, **hidden})
    return pd.DataFrame(rows, dtype=object)


def comparison(name: str, table: pd.DataFrame, study: Sequence[Stage], root: Path) -> list[Study]:
    """Returns a study comparing all finished fine-tuning runs; empty if fewer than two names.

    Seeds of one point share a name. If any point has several seeds, points with one are left out.
    """
    runs = table[table["path"] != ""].drop_duplicates("path")
    count = runs.groupby("label")["path"].transform("size")
    runs = runs[count > (count.max() > 1)]
    if runs["label"].nunique() < 2:
        (root / "params" / name / f"{COMPARISON}.yaml").unlink(missing_ok=True)
        return []
    runs = pd.concat([group for _, group in runs.groupby("label", sort=False)])
    like = next(s for s in reversed(study) if s.notebook.stem in (COMPARISON, TRAINING)).parameters
    given = {"study": name, "concept": like.concept, "seed": like.seed}
    given |= {"finetune_runs": runs["path"].tolist(), "names": runs["label"].tolist()}
    given["evaluation_runs"] = runs["evaluation"].tolist() * bool(runs["evaluation"].all())
    model = parameters.MODELS[COMPARISON].checked(given, f"comparison of {name}")
    stage = stages.stage_of(model, Path("params", name), root)
    compared = Study(name, root / "params" / name, [stage])
    write_study(compared, root)
    return [compared]


def write_points(table: pd.DataFrame, home: Path) -> Path:
    """Writes `points.csv` and the sweep's page, which shows that table; returns the page."""
    shown = table.drop(columns=HIDDEN)
    save_table(home / "points.csv", shown)
    text = shown.fillna("").to_html(index=False, border=0)
    link = r'<td><a href="../\1/index.html">\1</a></td>'
    text = re.sub(r"<td>(.*)</td>(?=\s*</tr>)", link, text)
    return write_index(home, part=f'<div class="table" tabindex="0">{text}</div>')
