"""Conditions on scores and labels, such as `gender>=0.92`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import pandas as pd

CONDITION = re.compile(r"^\s*([\w.]+)\s*(>=|<=)\s*([-+0-9.eE]+)\s*$")

# Diversity is measured by half of the selected images, whose recall needs four: a third neighbour.
LEAST_IMAGES = 8


@dataclass(frozen=True)
class Condition:
    """One threshold on one score, for example `gender >= 0.92`."""

    prop: str
    sign: str
    threshold: float

    def holds(self, scores: pd.Series) -> pd.Series:
        """Which scores are kept."""
        return scores >= self.threshold if self.sign == ">=" else scores <= self.threshold

    def __str__(self) -> str:
        return f"{self.prop} {self.sign} {self.threshold:g}"


def parse_condition(text: str) -> Condition:
    """Reads `gender>=0.92` or `age<=0.008`.

    Raises:
        ValueError: If the text is no condition.
    """
    match = CONDITION.match(text)
    with suppress(ValueError):
        if match and math.isfinite(threshold := float(match[3])):
            return Condition(match[1], match[2], threshold)
    raise ValueError(f"condition {text!r} is not of the form 'gender>=0.92' or 'age<=0.008'")


def check_enough(images: int) -> None:
    """Raises ValueError, with what to do, if that many images are too few to fine-tune on."""
    if images < LEAST_IMAGES:
        raise ValueError(
            f"{images} image{' is' if images == 1 else 's are'} too few to fine-tune on (at least "
            f"{LEAST_IMAGES}): loosen `keep` in 04_select_images"
        )


def conditions(concept: Mapping[str, float], keep: Mapping[str, float]) -> list[Condition]:
    """Thresholds of a look: at least the value for a target of 1, at most for a target of 0.

    Raises:
        ValueError: If a property of `keep` is not in the concept.
    """
    unknown = [prop for prop in keep if prop not in concept]
    if unknown:
        raise ValueError(f"keep names {unknown[0]!r}, which is not in the concept {list(concept)}")
    return [
        Condition(prop, ">=" if concept[prop] >= 0.5 else "<=", value)
        for prop, value in keep.items()
    ]
