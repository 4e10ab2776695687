"""The noise of a mean score over a window of a log's rows.

A row of a log is noisy (100 samples scored) and rows may hang together. The noise of a window of
rows is a circular block bootstrap of the rows' residuals, in units of the sampling error
sqrt(p (1 - p) / 100), the most that 100 scores in [0, 1] with mean p can have when drawn
independently. Three things keep few rows from giving a false certainty: that sampling error counts
as `PRIOR_ROWS` further rows, the width is never under what an AR(1) process of the rows'
autocorrelation would have, and Student's t replaces the normal.

Source of the block length: Politis and White, "Automatic Block-Length Selection for the
Dependent Bootstrap", 2004, doi:10.1081/ETC-120028836, corrected by Patton and them in 2009.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

STRETCH_ROWS = 40  # rows a window's noise is learned from, at the least, where there are so many
PRIOR_ROWS = 10  # weight of the theoretical sampling error against the observed rows
DRAWS = 4000
SCORES_PER_ROW = 100  # samples scored for each row of a log


@dataclass(frozen=True)
class WindowMean:
    """Mean score of a window of rows, and draws of its error."""

    mean: float
    error: np.ndarray  # (DRAWS,), centred
    rows: int
    block_rows: int
    freedom: float  # rows' worth of knowledge about the error


def _autocorrelation(values: np.ndarray, lags: int) -> np.ndarray:
    """Autocorrelation at lags 0 to `lags`."""
    x = values - values.mean()
    return np.array([x[: len(x) - lag] @ x[lag:] for lag in range(lags + 1)]) / (x @ x)


def block_length(values: np.ndarray) -> int:
    """Rows in a block, from the values' autocorrelation (Politis and White); at least n^(1/3)."""
    n = len(values)
    least, most = max(1, round(n ** (1 / 3))), max(1, int(min(3 * n**0.5, n / 3)))
    if n < 8 or np.ptp(values) < 1e-9:
        return min(least, most)
    run = 5  # so many small autocorrelations in a row mean that the memory has ended
    lags = min(int(np.ceil(n**0.5)) + run, n // 2)
    rho = _autocorrelation(values, lags)
    small = np.abs(rho) < 2 * np.sqrt(np.log10(n) / n)
    memory = next((k for k in range(lags - run + 1) if small[k + 1 : k + 1 + run].all()), lags)
    k = np.arange(1, min(2 * max(memory, 1), lags) + 1)
    taper = np.clip(2 * (1 - k / k[-1]), 0, 1)
    bend = 2 * np.sum(taper * k * rho[k])
    level = 4 / 3 * (1 + 2 * np.sum(taper * rho[k])) ** 2
    length = (2 * bend**2 / max(level, 1e-9)) ** (1 / 3) * n ** (1 / 3)
    return int(np.clip(round(length), min(least, most), most))


def _safe_rho(residual: np.ndarray) -> float:
    """Autocorrelation of neighbours, corrected for short series; 0.75 standard errors up."""
    n = len(residual)
    if n < 8 or np.ptp(residual) < 1e-9:
        return 0.5
    rho = (_autocorrelation(residual, 1)[1] * n + 2) / (n - 5)
    return float(np.clip(rho + 0.75 / np.sqrt(n), 0, 0.9))


def window_mean(
    time: np.ndarray, score: np.ndarray, window: np.ndarray, seed: list[int]
) -> WindowMean:
    """Mean of the marked rows (a stretch at one end of the log) with draws of its error."""
    rows, at_start = int(window.sum()), bool(window[0])
    # At most a third of the log: a longer stretch of a short log holds the change itself, which no
    # smooth trend fits, and would count it as noise.
    reach = max(rows, min(STRETCH_ROWS, len(time) // 3))
    near = slice(0, reach) if at_start else slice(-reach, None)
    t, y, inside = time[near], score[near], window[near]
    basis = np.stack([np.ones_like(t), np.sqrt(t - t[0])], 1)  # (N, 2)
    trend = basis @ np.linalg.lstsq(basis, y, rcond=None)[0]  # (N,)
    p = np.clip(trend, 1 / SCORES_PER_ROW, 1 - 1 / SCORES_PER_ROW)
    unit = np.sqrt(p * (1 - p) / SCORES_PER_ROW)
    residual = (y - trend) / unit
    residual -= residual.mean()

    block, rho, squares = block_length(residual), _safe_rho(residual), residual @ residual
    memory = (1 + rho) / (1 - rho)  # rows that say as much as one independent row
    freedom = max(len(t) - 2 * memory, 2)
    size = np.sqrt((squares + PRIOR_ROWS) / (freedom + PRIOR_ROWS))
    rng = np.random.default_rng(seed)
    if squares < 1e-9:
        residual = rng.standard_normal(len(t))
        squares = residual @ residual
    starts = rng.integers(len(t), size=(DRAWS, -(-rows // block)))
    picks = (starts[:, :, None] + np.arange(block)).reshape(DRAWS, -1)[:, :rows] % len(t)
    draws = residual[picks].mean(1) / np.sqrt(squares / len(t))  # (DRAWS,)
    lag = np.arange(1, rows)
    least = np.sqrt((1 + 2 * np.sum((1 - lag / rows) * rho**lag)) / rows)  # AR(1)
    draws = (draws - draws.mean()) * max(1.0, least / draws.std())
    error = draws * size * unit[inside].mean()
    known = freedom / memory + PRIOR_ROWS
    return WindowMean(float(score[window].mean()), error, rows, block, known)


def distance_change(
    a: WindowMean, b: WindowMean, target: float, level: float
) -> tuple[float, float, float, float, float]:
    """Distance of a, distance of b, b less a, and the interval's low and high end."""
    distances = abs(a.mean - target), abs(b.mean - target)
    estimate, tail = distances[1] - distances[0], (1 - level) / 2
    wider = stats.t.isf(tail, min(a.freedom, b.freedom)) / stats.norm.isf(tail)
    # Signed errors, so that a mean near its target stays fair.
    errors = [side.error if side.mean >= target else -side.error for side in (a, b)]
    error = (errors[1] - errors[0]) * wider
    low, high = np.quantile(error, [tail, 1 - tail])
    return *distances, estimate, estimate + float(low), estimate + float(high)


def effect_word(low: float, high: float) -> str:
    """What an interval of the change of distance says."""
    if high < 0:
        return "closer"
    return "moved away" if low > 0 else "not shown"  # NaN is not shown
