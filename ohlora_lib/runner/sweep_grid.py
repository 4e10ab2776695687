"""Reads what a sweep goes through: `--grid r1_gamma=1,10,100` and `--seeds 0-4`."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ohlora_lib.runner.stages import Stage

TRAINING = "05_finetune_generator"  # whose parameter a bare name means, where others have it too
EVERYWHERE = ("concept", "device", "image_px", "precision")  # mean the same in every stage
OWN = {
    "study": "it is named by the sweep",
    "variant": "copy the params file instead",
    "seed": "give --seeds instead",
}
MOST_SEEDS = 1000
FORM = "NAME=VALUE,VALUE, such as r1_gamma=1,10,100"


@dataclass(frozen=True)
class Axis:
    """One parameter a sweep changes.

    Attributes:
        key: As given, `r1_gamma` or `05*.r1_gamma`.
        name: The parameter.
        label: What it is called in names and tables; no other axis has it.
        stages: Names of the stages it is changed in.
        values: Its values, in order.
    """

    key: str
    name: str
    label: str
    stages: tuple[str, ...]
    values: tuple[Any, ...]


def parse_grid(texts: Sequence[str], study: Sequence[Stage]) -> list[Axis]:
    """Reads axes of a grid and finds the stages they mean.

    A bare name means the fine-tuning's parameter, where several notebooks have one of that name;
    `<stage>.<name>` another's, with a glob for the stage.

    Args:
        texts: Each of the form NAME=VALUE,VALUE.
        study: The study's stages.

    Raises:
        ValueError: If a name or a value is not allowed; one line.
    """
    axes: list[Axis] = []
    for text in texts:
        key, _, listed = text.partition("=")
        key = key.strip()
        name = key.rpartition(".")[2]
        stages = _stages_of(key, study)
        values = _values(text, listed, name, stages)
        label = name
        if any(axis.label == label for axis in axes):
            label = f"{stages[0].name.partition('_')[0]}_{name}"
        names = tuple(stage.name for stage in stages)
        for axis in axes:
            if axis.label == label or (axis.name == name and set(axis.stages) & set(names)):
                raise ValueError(f"--grid names {name} of {names[0]} twice; put all in one list")
        axes.append(Axis(key, name, label, names, values))
    return axes


def _stages_of(key: str, study: Sequence[Stage]) -> list[Stage]:
    """The stages that a name of the grid means."""
    pattern, dot, name = key.rpartition(".")
    if name in OWN:
        raise ValueError(f"--grid cannot change {name}: {OWN[name]}")
    having = [stage for stage in study if name in type(stage.parameters).model_fields]
    if not having:
        known = {k for stage in study for k in type(stage.parameters).model_fields} - set(OWN)
        close = difflib.get_close_matches(name, sorted(known), 1)
        hint = f"Did you mean {close[0]!r}?" if close else f"There are {sorted(known)}."
        raise ValueError(f"--grid: no stage of this study has a parameter {name!r}. {hint}")
    if dot:
        chosen = [
            stage
            for stage in having
            if fnmatch.fnmatchcase(stage.name, pattern)
            or fnmatch.fnmatchcase(stage.notebook.stem, pattern)
        ]
        if not chosen:
            raise ValueError(
                f"--grid: {pattern!r} matches no stage with a parameter {name!r}; "
                f"those are {[stage.name for stage in having]}"
            )
        return chosen
    notebooks = {stage.notebook.stem for stage in having}
    if len(notebooks) == 1 or name in EVERYWHERE:
        return having
    if TRAINING in notebooks:
        return [stage for stage in having if stage.notebook.stem == TRAINING]
    first = sorted(notebooks)[0]
    raise ValueError(
        f"--grid: {name} is a parameter of {sorted(notebooks)}; say which, as {first}.{name}=..."
    )


def _values(text: str, listed: str, name: str, stages: Sequence[Stage]) -> tuple[Any, ...]:
    """The values of an axis, as the parameter's type has them."""
    try:
        given = yaml.safe_load(f"[{listed}]") if listed.strip() else []
    except yaml.YAMLError:
        given = []
    if not name or not given:
        raise ValueError(f"--grid has {text!r}; it must be {FORM}")
    stage = stages[0]
    kind = type(stage.parameters).model_fields[name].annotation
    values = []
    for value in given:
        if kind is float and not isinstance(value, bool):
            value = _number(value)
        changed = {**stage.parameters.model_dump(), name: value}
        source = f"{stage.params_file} (--grid {name})"
        values.append(getattr(type(stage.parameters).checked(changed, source), name))
    twice = [value for k, value in enumerate(values) if value in values[:k]]
    if twice:
        raise ValueError(f"--grid has {name}={twice[0]} twice; give each value once")
    return tuple(values)


def _number(value: Any) -> Any:
    """A number that YAML reads as text, such as 1e-4; anything else as it is."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def parse_seeds(text: str) -> list[int]:
    """Reads `0-4` or `0,2,5-7`; empty text gives none.

    Raises:
        ValueError: If it is not of that form, or a seed comes twice.
    """
    seeds: list[int] = []
    for part in text.split(",") if text.strip() else []:
        match = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not 0 <= last - first < MOST_SEEDS:
            raise ValueError(
                f"--seeds has {part!r}; it must be seeds or ranges, such as 0-4 or 0,2,5-7"
            )
        seeds += range(first, last + 1)
    twice = [seed for k, seed in enumerate(seeds) if seed in seeds[:k]]
    if twice:
        raise ValueError(f"--seeds has {twice[0]} twice; give each seed once")
    return seeds
