"""What speaks against the inputs of a fine-tuning, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ohlora_lib.conditions import check_enough
from ohlora_lib.trends import listed

WEAK_AUROC = 0.8  # CNNs under this on images they never saw say little ...
GUESSING_AUROC = 0.6  # ... and so do those whose 95 % interval includes this
FEW_IMAGES = 50  # selected; of fewer, samples may be copies
OTHER_RATIO = 0.5  # of the population's own precision and recall, that a base of such images has
CNN_ROLES = {"selector": "selecting CNNs are", "judge": "held-out judge is"}


@dataclass(frozen=True)
class Finding:
    """One broken rule: its name, and what was found, as part of a sentence."""

    rule: str
    text: str


def of_cnns(results: Mapping[str, Any], properties: Iterable[str]) -> list[Finding]:
    """What speaks against property CNNs.

    guessing: on images they never saw, the AUROC of a property is under 0.8, or its 95 % interval
        includes 0.6.

    Args:
        results: Of 03_train_property_cnn: `auroc` and `auroc_low`, by role and property.
        properties: Which matter.
    """
    found = []
    for role, who in CNN_ROLES.items():
        auroc, low = (results.get(name, {}).get(role, {}) for name in ("auroc", "auroc_low"))
        poor = [
            f"{prop} {auroc[prop]:.2f}" + (f" ({low[prop]:.2f} at worst)" if prop in low else "")
            for prop in properties
            if auroc.get(prop, 1) < WEAK_AUROC or low.get(prop, 1) <= GUESSING_AUROC
        ]
        if poor:
            found.append(Finding("guessing", f"the {who} weak at {listed(poor)} (AUROC on unseen "
                                 "images; 0.5 is guessing; are the labels right?)"))  # fmt: skip
    return found


def of_base(measured: pd.DataFrame | None) -> list[Finding]:
    """What speaks against selecting from a base.

    other images: its samples' precision or recall against the population, on features of the
        held-out judge, is under half of what the population has against itself.

    Args:
        measured: From `candidates.measure_base`; None if there is no population to compare with.
    """
    if measured is None:
        return []
    shares = ("precision", "recall")
    base, own = (measured.loc[name, [*shares]] for name in ("base", "population"))
    if (base >= OTHER_RATIO * own).all():
        return []
    parts = [f"{name} {base[name]:.2f}, and {own[name]:.2f} of the population" for name in shares]
    text = (
        f"the base draws other images than the population holds ({'; '.join(parts)} by itself): "
        "train a base on it (`source: train` in 02_train_base), or select among its own "
        "(`candidates: population`)"
    )
    return [Finding("other images", text)]


def of_count(images: int) -> list[Finding]:
    """What speaks against a number of selected images.

    few images: too few to fine-tune on, or fewer than 50.
    """
    try:
        check_enough(images)
    except ValueError as error:
        return [Finding("few images", str(error))]
    few = f"only {images} images were selected, so samples may be copies of them"
    return [Finding("few images", few)] if images < FEW_IMAGES else []
