"""The noise of a mean score over a window of a log's rows.

A row's score differs from its trend for two reasons: only 100 samples were scored, and training
lets the mean itself wander, slowly, so that neighbouring rows are alike. The model is

    score = trend + sampling + wander,   sd(sampling) = sqrt(p (1 - p) / 100),
    wander = p (1 - p) * AR(1) of the logit, with correlation rho and deviation lam.

rho and lam are not known. Each pair on a grid is weighted by the restricted likelihood of the rows
near the window, and the error of the window's mean is drawn from the weighted mixture. A log that
is too short to tell the pairs apart keeps them all, and so gets a wide interval.

Source of the restricted likelihood: Harville, "Bayesian inference for variance components using
only error contrasts", 1974, doi:10.1093/biomet/61.2.383.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.linalg import solve_triangular, toeplitz
from threadpoolctl import threadpool_limits

from ohlora_lib.verdict.bootstrap import DRAWS

RHO = (0.0, 0.5, 0.8, 0.9, 0.95)  # correlation of neighbouring rows
LAM = (0.0, 0.05, 0.1, 0.2, 0.3, 0.45)  # deviation of the logit
FIXED_RHO, FIXED_LAM = 0.9, 0.2  # prior of rows of the same latents: largest rho, mean of lam
NEAR_ROWS = 200  # rows that the noise is estimated from, at most
KNOWN_ROWS = 100  # fewer do not show how slowly the mean wanders
PRIOR_ROWS = 10  # weight of the theoretical noise against the observed rows
SCORES_PER_ROW = 100  # samples scored for each row of a log


@dataclass(frozen=True)
class WindowMean:
    """Mean score of a window of rows, and draws of its error."""

    mean: float
    error: np.ndarray  # (DRAWS,), centred
    rows: int
    near_rows: int  # rows that its noise was estimated from


@threadpool_limits.wrap(limits=1, user_api="blas")  # threads of a busy machine wait
def window_mean(
    time: np.ndarray,
    score: np.ndarray,
    window: np.ndarray,
    seed: list[int],
    *,
    fixed: bool = False,
) -> WindowMean:
    """Mean of the marked rows (a stretch at one end of the log) with draws of its error.

    Time, score and mark of each row, (N,) each. Scores of `fixed` latents have no sampling error.
    """
    rows, at_start = int(window.sum()), bool(window[0])
    reach = max(rows, min(NEAR_ROWS, len(time) // 2))
    near = slice(0, reach) if at_start else slice(-reach, None)
    t, y, weights = time[near], score[near], window[near] / rows
    basis = _trend_basis((t - t[0]) / (t[-1] - t[0]))  # (N, K)
    trend = basis @ np.linalg.lstsq(basis, y, rcond=None)[0]
    shape = (PRIOR_ROWS + basis.shape[0] - basis.shape[1]) / 2
    weighed, squares, variances = [], [], []
    covariances = _covariances(trend, SCORES_PER_ROW * (10_000 if fixed else 1))
    for (rho, lam), covariance in zip(product(RHO, LAM), covariances, strict=True):
        root = np.linalg.cholesky(covariance)
        white = solve_triangular(root, np.column_stack([basis, y]), lower=True)
        upper = np.abs(np.linalg.qr(white, mode="r"))  # (K + 1, K + 1)
        squares.append((PRIOR_ROWS + upper[-1, -1] ** 2) / 2)
        size = np.log([*np.diag(root), *np.diag(upper)[:-1]]).sum()
        prior = (-lam / FIXED_LAM if rho <= FIXED_RHO else -np.inf) if fixed else 0.0
        weighed.append(prior - size - shape * np.log(squares[-1]))
        variances.append(weights @ covariance @ weights)
    chance = np.exp(np.array(weighed) - max(weighed))
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(chance), DRAWS, p=chance / chance.sum())
    scale = np.array(squares)[drawn] / rng.gamma(shape, size=DRAWS)
    error = rng.standard_normal(DRAWS) * np.sqrt(scale * np.array(variances)[drawn])
    return WindowMean(float(y @ weights), error, rows, len(t))


def _trend_basis(u: np.ndarray) -> np.ndarray:
    """Basis functions of a smooth trend, (N, 2 or 3), over time from 0 to 1."""
    return np.stack([np.ones_like(u), np.sqrt(u), u][: 3 if len(u) >= 12 else 2], axis=1)


def _covariances(trend: np.ndarray, samples: int) -> Iterator[np.ndarray]:
    """Yields the covariance of the rows, (N, N), for each correlation and deviation."""
    p = np.clip(trend, 1 / SCORES_PER_ROW, 1 - 1 / SCORES_PER_ROW)
    sampling = np.diag(p * (1 - p) / samples)
    slope = np.outer(p * (1 - p), p * (1 - p))  # of the score by the logit, for two rows
    for rho in RHO:
        alike = toeplitz(rho ** np.arange(len(p)))
        for lam in LAM:
            yield sampling + lam**2 * slope * alike
