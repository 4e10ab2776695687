"""Learning curve of labelling: how good models are by number of answers, and what more would add.

Axes: N candidates, F features.
Sources: cross-validation; for the forecast, the power law of learning curves, Cortes et al.,
"Learning Curves: Asymptotic Values and Rate of Convergence", 1993.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from ohlora_lib.population import asking
from ohlora_lib.population.labels import drawn_at_random

POINTS, FOLDS = 4, 3  # of the curve; of the images drawn at random
LEAST = 20  # answers at the first point
MORE = 200  # answers that the forecast adds
PAYS = 0.005  # least gain in AUROC that is worth them
SMALLEST = 1e-3  # 1 - AUROC in the fit, at least
FEW, FEWEST = 10, 3  # random images of the rarer class: uncertain below, no forecast below
COLUMNS = ["property", "answers", "auroc", "low", "high", "positives", "rarer"]


def label_curve(features: np.ndarray, answers: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """AUROC of the committee (`asking.guess`) after growing numbers of answers, per property.

    Only images drawn at random test it, because chosen ones are a biased sample. At each point,
    all of them are tested by cross-validation, also those answered later.

    Args:
        features: Of the candidates, shape (N, F).
        answers: Rows of `answers.csv`, in the order of answering; `img_no` counts candidates from
            0. Without `source`, all images count as drawn at random.
        seed: Seeds the folds and the committee.

    Returns:
        One row per property and number of answers (yes and no, not skipped ones): AUROC with a
        95 % interval, `positives` among these answers, and `rarer`, the number of random images
        of the rarer class. AUROC is missing where a class is.
    """
    asked = answers.groupby(["property", "img_no"], sort=False)
    given = asked.last().reset_index()  # the last answer, at the place of the first
    given = given[given["answer"].astype(str).isin(["0", "1"])]
    rows = [
        (prop, count, *_point(features[mine["img_no"]], mine, count, seed))
        for prop, mine in given.groupby("property", sort=False)
        for count in _counts(len(mine))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _counts(answers: int) -> list[int]:
    """Up to `POINTS` numbers of answers, each twice the one before; the last is all of them."""
    counts = [round(answers / 2**k) for k in reversed(range(POINTS))]
    return [count for count in counts if count >= LEAST] or [answers]


def _point(features: np.ndarray, mine: pd.DataFrame, count: int, seed: int) -> tuple:
    """Values of the columns after `answers`, from a property's answers and their features."""
    labels = mine["answer"].astype(int).to_numpy()
    drawn = drawn_at_random(mine)
    zeros, ones = np.bincount(labels[drawn], minlength=2)
    auroc = low = high = np.nan
    if min(zeros, ones) >= FEWEST:
        scores = _held_out(features, labels, drawn, count, seed)
        if not np.isnan(scores).any():
            auroc = float(roc_auc_score(labels[drawn], scores))
            low, high = auroc_interval(auroc, ones, zeros)
    return auroc, low, high, int(labels[:count].sum()), int(min(zeros, ones))


def _held_out(
    features: np.ndarray, labels: np.ndarray, drawn: np.ndarray, count: int, seed: int
) -> np.ndarray:
    """Scores of the images drawn at random, each by a committee that learned without it."""
    rows, scores = np.flatnonzero(drawn), np.full(len(labels), np.nan)
    folds = min(FOLDS, *np.bincount(labels[drawn]))
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for _, part in splitter.split(rows, labels[rows]):
        known = labels.astype(float)
        known[count:] = known[rows[part]] = np.nan
        scores[rows[part]] = asking.guess(features, known, seed=seed)[rows[part]]
    return scores[rows]


def auroc_interval(auroc: float, ones: int, zeros: int) -> tuple[float, float]:
    """95 % interval of an AUROC from the class counts; also defined at 0 and 1.

    A bootstrap would have no width at 1, where few positives are all ranked first.
    Source: Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney
    statistic, part 2", 2006, method 5.
    """

    def low(value: float) -> float:
        def gap(true: float) -> float:
            spread = 1 + more * ((1 - true) / (2 - true) + true / (1 + true))
            return value - true - z * np.sqrt(true * (1 - true) * spread / (ones * zeros))

        edge = value - 1e-9
        return brentq(gap, 0, edge) if edge > 0 else 0.0

    if not min(ones, zeros):
        return 0.0, 1.0
    z, more = norm.ppf(0.975), (ones + zeros) / 2 - 1
    return low(auroc), 1 - low(1 - auroc)


def more_answers(curve: pd.DataFrame) -> list[str]:
    """Forecasts, in a sentence per property of `label_curve`, what `MORE` answers would bring.

    Extrapolates a power law of 1 - AUROC; an exponent below 0 counts as 0.
    """
    return [_forecast(prop, part) for prop, part in curve.groupby("property", sort=False)]


def _forecast(prop: str, part: pd.DataFrame) -> str:
    last, known = part.iloc[-1], part.dropna(subset=["auroc"])
    few = f"only {last.rarer} images drawn at random have the rarer label"
    if np.isnan(last.auroc):
        return f"{prop}: too early to test, because {few}. Answer more questions."
    ends = f"95 % interval {last.low:.2f} to {last.high:.2f}"
    text = f"{prop}: AUROC {last.auroc:.3f} ({ends}) after {last.answers} answers; "
    if len(known) < 3:
        text += "too early for a forecast."
    else:
        error = np.log((1 - known["auroc"]).clip(lower=SMALLEST))
        rate = max(0.0, -np.polyfit(np.log(known["answers"]), error, 1)[0])
        after = 1 - (1 - last.auroc) * (1 + MORE / last.answers) ** -rate
        if after - last.auroc < PAYS:
            text += f"more hardly help: {MORE} more would raise it by less than {PAYS}."
        else:
            text += f"{MORE} more would raise it to about {after:.3f}."
    return text + (f" This is uncertain: {few}." if last.rarer < FEW else "")
