"""A look, expressed as property scores: what the scores mean, and conditions on them."""

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import pandas as pd

CONDITION = re.compile(r"\s*([\w.]+)\s*(>=|<=)\s*([-+0-9.eE]+)\s*")
OUTPUT = re.compile(r"(1 ?- ?)?(\d{1,6})\[(\d{1,6})(?::(\d{1,6}))?\]")
MEANING = {  # what labels and scores of 0 and 1 mean in the published study
    "gender": ["male", "female"],
    "quality": ["poor image", "good image"],
    "age": ["young", "old"],
    "glass": ["no glasses", "glasses"],
}
Meanings = Mapping[str, Sequence[str]]  # property: what 0 and 1 mean


def meaning_of(prop: str, meaning: Meanings) -> str:
    """What a property's 0 and 1 mean: "1 = female, 0 = male", or "0/1" if that is not given."""
    if prop not in meaning:
        return "0/1"
    zero, one = meaning[prop]
    return f"1 = {one}, 0 = {zero}"


def label_words(prop: str, value: int) -> str:
    """Describes a label: "male (gender = 0)", or "hat = 0" for a property of the user's own."""
    words = f"{prop} = {value}"
    return f"{MEANING[prop][value]} ({words})" if prop in MEANING else words


def target_words(prop: str, target: float, meaning: Meanings) -> str:
    """Describes a target: "female" for 1, "male" for 0, otherwise "gender 0.5"."""
    if prop in meaning and target in (0, 1):
        return meaning[prop][int(target)]
    return f"{prop} {target:g}"


@dataclass(frozen=True)
class Condition:
    """A threshold on one score, for example `gender >= 0.92`."""

    prop: str
    sign: str
    threshold: float

    def holds(self, scores: pd.Series) -> pd.Series:
        """Marks the scores that meet the condition."""
        return scores >= self.threshold if self.sign == ">=" else scores <= self.threshold

    def __str__(self) -> str:
        return f"{self.prop} {self.sign} {self.threshold:g}"


def parse_condition(text: str) -> Condition:
    """Parses `gender>=0.92` or `age<=0.008`; ValueError for any other form."""
    match = CONDITION.fullmatch(text)
    with suppress(TypeError, ValueError):
        if math.isfinite(threshold := float(match[3])):
            return Condition(match[1], match[2], threshold)
    raise ValueError(f"condition {text!r} is not of the form 'gender>=0.92' or 'age<=0.008'")


def conditions(concept: Mapping[str, float], keep: Mapping[str, float]) -> list[Condition]:
    """Conditions of a look: score >= value for targets of 0.5 or more, otherwise <= value."""
    for prop in keep:
        if prop not in concept:
            raise ValueError(f"keep names {prop!r}, which the concept lacks; use {list(concept)}")
    return [Condition(p, ">=" if concept[p] >= 0.5 else "<=", value) for p, value in keep.items()]


@dataclass(frozen=True)
class ModelOutput:
    """Output columns of a classifier whose sum, or 1 minus the sum, is a property's score."""

    output: int  # index over the outputs of all models
    columns: slice
    inverse: bool


def parse_output(text: str) -> ModelOutput:
    """Parses `0[3]`, `1[40:81]` or `1 - 0[3]`; ValueError for any other form."""
    if match := OUTPUT.fullmatch(text):
        first = int(match[3])
        columns = slice(first, int(match[4] or first + 1))
        if columns.start < columns.stop:
            return ModelOutput(int(match[2]), columns, bool(match[1]))
    raise ValueError(f"output {text!r} is not of the form '0[3]', '1[40:81]' or '1 - 0[3]'")
