"""Intervals of a change of distance to a target, from draws of the errors of two means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def distance_change(
    means: Sequence[float], errors: Sequence[np.ndarray], target: float, level: float
) -> tuple[float, float, float, float, float]:
    """Distance of a, distance of b, b less a, and the low and high end of its interval.

    `errors` holds centred draws of the error of each mean, (N,) each.
    """
    distances = [abs(mean - target) for mean in means]
    estimate, tail = distances[1] - distances[0], (1 - level) / 2
    # Signed errors, so that a mean near its target stays fair.
    signed = [e if mean >= target else -e for mean, e in zip(means, errors, strict=True)]
    low, high = np.quantile(signed[1] - signed[0], [tail, 1 - tail])
    return *distances, estimate, estimate + float(low), estimate + float(high)


def effect_word(low: float, high: float) -> str:
    """What an interval of the change of distance says."""
    if high < 0:
        return "closer"
    return "moved away" if low > 0 else "not shown"  # NaN is not shown
