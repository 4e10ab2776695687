"""Soft pseudo-labels (guesses) for images without labels, where few images are labelled.

A small model on frozen features (`population.asking`) learns more from a few hundred labels than a
new CNN can. The CNN learns its predictions as soft labels, which also help to calibrate it; only
real labels choose the epoch and test. Selector and judge get guesses from their own labels, for
different images.
Axes: N rows, P properties.
Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015,
https://arxiv.org/abs/1503.02531.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ohlora_lib.population import asking
from ohlora_lib.population.labels import drawn_at_random, label_weights
from ohlora_lib.study.parameters import TrainPropertyCNN

MOST = 4000  # images without labels that get pseudo-labels


@dataclass(frozen=True)
class Guesses:
    """What each role learns from."""

    labels: pd.DataFrame  # the labelled images, then those without labels
    rows: dict[str, np.ndarray]  # row numbers by role
    scores: dict[str, np.ndarray]  # probabilities by role, (N, P); none if no image was chosen
    labelled: int  # number of labelled images

    def sentence(self) -> str:
        """States how many images train each role."""
        counts = {role: int((rows < self.labelled).sum()) for role, rows in self.rows.items()}
        text = " ".join(f"{count} images train the {role}." for role, count in counts.items())
        if more := len(self.labels) - self.labelled:
            text += f" {more} images without labels add pseudo-labels, half of them for each."
        return text


def with_guesses(
    labels: pd.DataFrame,
    images: np.ndarray,
    halves: Mapping[str, np.ndarray],
    config: TrainPropertyCNN,
) -> Guesses:
    """Adds guesses for compact CNNs if some images were chosen; otherwise changes nothing.

    Args:
        labels: One row per labelled image: `img_no`, a column of 0, 1 or NaN per property, and how
            labels were made (`fact_columns`).
        images: All images of the population, uint8, (M, H, H, 3).
        halves: Rows of `labels` by role.
        config: Its seed decides which images get pseudo-labels, and from which role.
    """
    if drawn_at_random(labels).all() or config.architecture == "published":
        return Guesses(labels, dict(halves), {}, len(labels))
    random = np.random.default_rng(config.seed)
    others = random.permutation(np.setdiff1d(np.arange(len(images)), labels["img_no"]))[:MOST]
    added = pd.DataFrame({"img_no": others, "source": "chosen"})
    together = pd.concat([labels, added], ignore_index=True)
    features = asking.features(images[together["img_no"]])
    parts = np.array_split(np.arange(len(labels), len(together)), len(halves))
    rows, scores = {}, {}
    for (role, half), part in zip(halves.items(), parts, strict=True):
        rows[role] = np.concatenate([half, part])
        scores[role] = _guess(features, labels, config.properties, half)
    return Guesses(together, rows, scores, len(labels))


def _guess(
    features: np.ndarray,
    labels: pd.DataFrame,
    properties: Sequence[str],
    half: np.ndarray,
) -> np.ndarray:
    """Probabilities (N, P) for all rows of `features`, from the labels of one half."""
    weights, found = label_weights(labels, properties), []
    for k, prop in enumerate(properties):
        known = np.full(len(features), np.nan)
        known[half] = labels[prop].to_numpy()[half]
        weight = weights[np.flatnonzero(~np.isnan(known)), k]
        found.append(asking.guess(features, known, weights=weight))
    return np.stack(found, axis=1)
