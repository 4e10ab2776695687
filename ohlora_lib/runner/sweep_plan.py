"""What a sweep consists of: the points of a grid, the seeds, and the stages they share.

A stage lies in a study named by what changes it: `quickstart` if nothing does, `quickstart-seed0`
where seeds are given, `quickstart-r1_gamma-10-seed0` if a value of the grid reaches it too. So
what several points have in common has one run folder and runs once, and a stage that the grid does
not reach is the one that `ohlora run` makes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ohlora_lib.runner.stages import Stage, each_path
from ohlora_lib.runner.sweep_grid import Axis

LONGEST = 64  # letters of a study's name


@dataclass(frozen=True)
class Task:
    """One stage of a sweep: what it needs, and what it is the stage of.

    Attributes:
        stage: The stage, in the study it lies in.
        needs: Run folders of this sweep that must be finished before.
        values: What the grid changes in it or in what it needs, by axis.
        seed: Its seed, where the sweep gives seeds.
        command: What to type to make it alone, `--only` aside.
    """

    stage: Stage
    needs: tuple[Path, ...]
    values: dict[str, Any]
    seed: int | None
    command: str

    @property
    def name(self) -> str:
        """Study and stage."""
        return f"{self.stage.folder.parent.name}/{self.stage.name}"

    @property
    def label(self) -> str:
        """What it is called in a comparison, seeds not told apart: `v9 r1_gamma=10`."""
        words = [f"{name}={value_text(value)}" for name, value in self.values.items()]
        return " ".join([self.stage.parameters.variant, *words]).strip() or self.stage.name


@dataclass(frozen=True)
class Point:
    """One combination of the grid's values and a seed: a study of its own."""

    study: str
    values: dict[str, Any]
    seed: int | None
    folders: list[Path]  # run folders of its stages, shared ones included


@dataclass
class Plan:
    """All of a sweep: its points, and each stage once, inputs before what needs them."""

    name: str
    study: Sequence[Stage]
    command: str
    points: list[Point] = field(default_factory=list)
    tasks: dict[Path, Task] = field(default_factory=dict)  # by run folder


def plan_sweep(
    study: Sequence[Stage], root: Path, axes: Sequence[Axis], seeds: Sequence[int]
) -> Plan:
    """Lays out a sweep.

    Args:
        study: The study's stages, in order.
        root: The project.
        axes: The grid.
        seeds: Seeds; the params files' own if empty.

    Raises:
        ValueError: If a value is not allowed, or a name is taken; one line.
    """
    name = study[0].parameters.study
    sweep = short_name("-".join([name, "sweep", *(axis.label for axis in axes)]))
    plan = Plan(sweep, study, _sweep_command(study[0], axes, seeds))
    for chosen in itertools.product(*(axis.values for axis in axes)):
        values = {axis.label: value for axis, value in zip(axes, chosen, strict=True)}
        for seed in seeds or [None]:
            tasks = list(_point_tasks(study, root, axes, values, seed))
            folders = [task.stage.folder for task in tasks]
            plan.points.append(Point(study_name(name, values, seed), values, seed, folders))
            for task in tasks:
                known = plan.tasks.setdefault(task.stage.folder, task)
                assert known.stage.parameters == task.stage.parameters, task.name
    _check_names(plan, name, root)
    return plan


def _point_tasks(
    study: Sequence[Stage],
    root: Path,
    axes: Sequence[Axis],
    values: Mapping[str, Any],
    seed: int | None,
) -> Iterator[Task]:
    """The stages of one point, each in the study it belongs to."""
    moved: dict[PurePosixPath, Task] = {}  # by where the study itself has it
    for stage in study:
        mine = [axis for axis in axes if stage.name in axis.stages]
        given = stage.parameters.model_dump()
        given |= {axis.name: values[axis.label] for axis in mine}
        if seed is not None:
            given["seed"] = seed
        changed = _checked(stage, given, [f"{axis.name}={given[axis.name]}" for axis in mine])
        needs = _needed(changed, moved)
        reached = {axis.label for axis in mine}.union(*(task.values for task in needs))
        own = {label: value for label, value in values.items() if label in reached}
        name = study_name(stage.parameters.study, own, seed)
        places = {
            old.as_posix(): task.stage.folder.relative_to(root).as_posix()
            for old, task in moved.items()
        }
        given = {**repointed(changed.model_dump(), places), "study": name}
        folder = root / "outputs" / name / stage.name
        resolved = Stage(
            stage.name, stage.params_file, stage.notebook, folder, _checked(stage, given, [])
        )
        command = _command(stage, axes, own, seed)
        task = Task(resolved, tuple(t.stage.folder for t in needs), own, seed, command)
        moved[PurePosixPath("outputs", stage.parameters.study, stage.name)] = task
        yield task


def _checked(stage: Stage, given: Mapping[str, Any], changes: Sequence[str]) -> Any:
    source = f"{stage.params_file} ({', '.join(changes)})" if changes else str(stage.params_file)
    return type(stage.parameters).checked(given, source)


def _needed(parameters: Any, moved: Mapping[PurePosixPath, Task]) -> list[Task]:
    """The tasks whose run folders some parameters name, or files in them."""
    paths = {**parameters.input_runs(), **parameters.input_files()}
    names = [PurePosixPath(text) for _, text in each_path(paths)]
    return [
        task
        for old, task in moved.items()
        if any(old == path or old in path.parents for path in names)
    ]


def repointed(value: Any, places: Mapping[str, str]) -> Any:
    """Replaces run folders, and what lies in them, in a value, lists and mappings included."""
    if isinstance(value, str):
        path = PurePosixPath(value)
        for old, new in places.items():
            if path.is_relative_to(old):
                return PurePosixPath(new, path.relative_to(old)).as_posix()
        return value
    if isinstance(value, list):
        return [repointed(item, places) for item in value]
    if isinstance(value, dict):
        return {name: repointed(item, places) for name, item in value.items()}
    return value


def _command(
    stage: Stage, axes: Sequence[Axis], values: Mapping[str, Any], seed: int | None
) -> str:
    """The command that makes a stage: `ohlora run` where the grid does not reach it."""
    if not values:
        folder = stage.params_file.parent.as_posix()
        return f"ohlora run {folder}" + ("" if seed is None else f" --seed {seed}")
    mine = [replace(a, values=(values[a.label],)) for a in axes if a.label in values]
    return _sweep_command(stage, mine, [] if seed is None else [seed])


def _sweep_command(stage: Stage, axes: Sequence[Axis], seeds: Sequence[int]) -> str:
    """The command of a sweep through some axes and seeds."""
    words = ["ohlora", "sweep", stage.params_file.parent.as_posix()]
    for axis in axes:
        words += ["--grid", f"{axis.key}={','.join(map(value_text, axis.values))}"]
    if seeds:
        words += ["--seeds", ",".join(map(str, seeds))]
    return shlex.join(words)


def study_name(study: str, values: Mapping[str, Any], seed: int | None) -> str:
    """Name of the study that some values and a seed make of another one."""
    words = [f"{label}-{value_text(value)}" for label, value in values.items()]
    tail = "" if seed is None else f"-seed{seed}"
    return short_name("-".join([study, *words]), LONGEST - len(tail)) + tail


def value_text(value: Any) -> str:
    """A value as YAML would read it: 10 for 10.0, lists and mappings as JSON."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value)


def short_name(text: str, longest: int = LONGEST) -> str:
    """A text as the name of a folder: safe letters, not too long, and no other text's name."""
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "_", text)
    if safe == text and len(text) <= longest:
        return text
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{safe[: longest - 9].rstrip('_.-')}-{mark}"


def _check_names(plan: Plan, study: str, root: Path) -> None:
    """Raises if a study of the sweep has the name of another one."""
    names = {plan.name, *(folder.parent.name for folder in plan.tasks)} - {study}
    for name in sorted(names):
        if (root / "params" / name).is_dir():
            raise ValueError(
                f"the sweep would write to outputs/{name}, which belongs to params/{name}. "
                f"Rename that study."
            )
