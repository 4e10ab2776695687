"""What speaks against the inputs of a fine-tuning, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ohlora_lib.verdict.verdict import listed

WEAK_AUROC = 0.8  # CNNs under this on images they never saw say little ...
GUESSING_AUROC = 0.6  # ... and so do those whose 95 % interval includes this
# Diversity is measured by half of the selected images, whose recall needs four: a third neighbour.
LEAST_IMAGES = 8
FEW_IMAGES = 50  # selected; of fewer, samples may be copies
# Of the population's own precision and recall, that a base of such images has at least. Measured
# on the shipped base, 60 to 2,000 images, judges trained on each kind: built-in faces, of other
# shares too, 0.58 to 1 (1 of 1,377 draws under 0.6); noise, bars, digits and shapes 0 to 0.69
# (2 of 589 draws missed); patches of two photographs 0 to 1.05 (41 of 316 missed).
OTHER_RATIO = 0.6
CNN_ROLES = {"selector": "selecting", "judge": "judge"}


@dataclass(frozen=True)
class Finding:
    """One broken rule: its name, and what was found, as part of a sentence."""

    rule: str
    text: str


def check_enough(images: int) -> None:
    """Raises ValueError, with what to do, if that many images are too few to fine-tune on."""
    if images < LEAST_IMAGES:
        raise ValueError(
            f"{images} image{' is' if images == 1 else 's are'} too few to fine-tune on (at least "
            f"{LEAST_IMAGES}): loosen `keep` in 04_select_images"
        )


def of_cnns(results: Mapping[str, Any], properties: Iterable[str]) -> list[Finding]:
    """What speaks against property CNNs.

    guessing: on images they never saw, the AUROC of a property is under 0.8, or its 95 % interval
        includes 0.6.

    Args:
        results: Of 03_train_property_cnn: `auroc` and `auroc_low`, by role and property.
        properties: Which matter.
    """
    weak: dict[str, list[str]] = {}
    for role, who in CNN_ROLES.items():
        auroc, low = (results.get(name, {}).get(role, {}) for name in ("auroc", "auroc_low"))
        for prop in properties:
            if auroc.get(prop, 1) < WEAK_AUROC:
                weak.setdefault(prop, []).append(f"{who} {auroc[prop]:.2f}")
            elif low.get(prop, 1) <= GUESSING_AUROC:
                weak.setdefault(prop, []).append(f"{who} {low[prop]:.2f} at worst")
    parts = [f"{prop} ({', '.join(numbers)})" for prop, numbers in weak.items()]
    text = f"by their AUROC on unseen images (0.5 is guessing) CNNs are weak at {listed(parts)}"
    return [Finding("guessing", f"{text}; check the labels")] if parts else []


def of_base(measured: pd.DataFrame | None) -> list[Finding]:
    """What speaks against selecting from a base.

    other images: its samples' precision or recall against the population, on features of the
        held-out judge, is under 0.6 of what one half of the population has against the other.

    Args:
        measured: From `sampling.measure_base`; None if there is no population to compare with.
    """
    if measured is None:
        return []
    shares = ("precision", "recall")
    base, own = (measured.loc[name, [*shares]] for name in ("base", "population"))
    if (base >= OTHER_RATIO * own).all():
        return []
    parts = [f"{name} {base[name]:.2f} where {own[name]:.2f} is possible" for name in shares]
    return [Finding("other images", "the base draws other images than the population holds ("
                    f"{listed(parts)}): train a base on it (`source: train` in 02_train_base), "
                    "or select among its images (`candidates: population`)")]  # fmt: skip


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
