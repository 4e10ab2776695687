"""Intervals of a change of distance to a target, and the bootstrap of samples and of seeds.

Sources: Rubin, "The Bayesian Bootstrap", 1981, doi:10.1214/aos/1176345338; Agarwal et al., "Deep
Reinforcement Learning at the Edge of the Statistical Precipice", 2021,
https://arxiv.org/abs/2108.13264.
Axes: D draws, L latents.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

DRAWS = 10_000
AT_ONCE = 500  # draws, so that memory stays small


def distance_change(
    means: Sequence[float], errors: Sequence[np.ndarray], target: float, level: float
) -> tuple[float, float, float, float, float]:
    """Distance of a, distance of b, b minus a, and the low and high end of its interval.

    `errors` holds centred draws of the error of each mean, (D,) each.
    """
    distances = [abs(mean - target) for mean in means]
    estimate, tail = distances[1] - distances[0], (1 - level) / 2
    # Signed errors, so that a mean near its target stays fair.
    signed = [e if mean >= target else -e for mean, e in zip(means, errors, strict=True)]
    low, high = np.quantile(signed[1] - signed[0], [tail, 1 - tail])
    return *distances, estimate, estimate + float(low), estimate + float(high)


def effect_word(low: float, high: float) -> str:
    """The effect shown by an interval of the change of distance."""
    if high < 0:
        return "closer"
    return "moved away" if low > 0 else "not shown"  # NaN is not shown


def latent_errors(scores: Sequence[pd.Series], seed: list[int]) -> list[np.ndarray]:
    """Draws of the error of two mean scores, (D,) each, by a bootstrap over latents.

    The series' index says which latent was scored. A latent that both share is drawn for both, so
    that its common contribution cancels in their difference.
    """
    both = pd.concat(scores, axis=1, keys=range(len(scores)))  # (L, 2), NaN where one lacks it
    there = both.notna().to_numpy(float)
    values = (both - both.mean()).fillna(0).to_numpy()
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(DRAWS // AT_ONCE):
        weights = rng.standard_exponential((AT_ONCE, len(both)))  # (D, L)
        parts.append((weights @ values) / (weights @ there))
    return list(np.concatenate(parts).T)


def chance_of_improvement(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """How often a seed of b ends closer than a seed of a, and the share's 95 % interval.

    Takes the seeds' distances; the bootstrap resamples the seeds of a and of b separately.
    """
    wins = np.sign(np.subtract.outer(np.asarray(a), np.asarray(b))) / 2 + 0.5  # (A, B)
    rng = np.random.default_rng(0)
    rows, columns = (rng.integers(size, size=(DRAWS, size)) for size in wins.shape)
    drawn = wins[rows[:, :, None], columns[:, None, :]].mean((1, 2))
    return float(wins.mean()), *np.quantile(drawn, [0.025, 0.975]).tolist()
