"""Compares how many answers a person must give if images are drawn at random and if chosen.

`python -m benchmarks.labels` prints the tables of `docs/labels.md`. The true labels of built-in
faces answer; the guesses of `population/asking.py` are tested on faces that are not candidates.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from ohlora_lib.population import asking
from ohlora_lib.population.faces.faces import draw_attributes, render_faces

SHARES = {"glass": 0.05, "age": 0.05, "quality": 0.9, "gender": 0.5}  # 10 % are of poor quality
CANDIDATES, UNSEEN = 6000, 3000
FIRST, ROUND = 100, 50  # answers before choosing begins, and per round
POINTS = {  # numbers of answers, by order
    "random": (100, 200, 300, 500, 700, 1000, 1400, 2000),
    "chosen": (100, 150, 200, 250, 300, 350, 400, 450, 500, 600, 700, 850, 1000),
}
TARGET = 2000  # random answers to equal


def population(seed: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Features and true labels of the candidates and, after them, of the unseen faces."""
    faces = range(CANDIDATES + UNSEEN)
    images = render_faces(faces, seed=1000 + seed, shares=SHARES)
    return asking.features(images), draw_attributes(faces, seed=1000 + seed, shares=SHARES)


def calibration_error(p: np.ndarray, truth: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: the mean gap between probability and share, over bins of p."""
    place = np.minimum((p * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(place, p - truth, bins)).sum() / len(p))


def measure(features: np.ndarray, truth: np.ndarray, order: str, seed: int) -> Iterator[dict]:
    """Answers questions about one property, and tests the guesses at each of `POINTS`."""
    labels, source = np.full(len(truth), np.nan), np.full(len(truth), "", dtype=object)
    known, count = labels[:CANDIDATES], 0  # a view
    while count < max(POINTS[order]):
        size = ROUND if count else FIRST
        draws = size // 5 if count and order == "chosen" else size
        left = np.random.default_rng([seed, count]).permutation(np.flatnonzero(np.isnan(known)))
        chosen = asking.next_images(features[:CANDIDATES], known, left[draws:], size - draws)
        for kind, rows in (("random", left[:draws]), ("chosen", chosen)):
            labels[rows], source[rows] = truth[rows], kind
        count += size
        if count in POINTS[order]:
            yield {"answers": count, **tested(features, labels, source, truth)}


def tested(
    features: np.ndarray, labels: np.ndarray, source: np.ndarray, truth: np.ndarray
) -> dict[str, float]:
    """AUROC and calibration error on the unseen faces, and the answers of the rarer class."""
    rows = np.flatnonzero(~np.isnan(labels))
    known = asking.guess(features[:CANDIDATES], labels[:CANDIDATES])
    mine = asking.weights(known, rows, source[rows])
    p, unseen = asking.guess(features, labels, weights=mine), slice(CANDIDATES, None)
    if np.isnan(p).any():
        return {"auroc": 0.5, "error": np.nan, "rare": 0}
    return {
        "auroc": roc_auc_score(truth[unseen], p[unseen]),
        "error": calibration_error(p[unseen], truth[unseen]),
        "rare": np.sum(labels[rows] == (truth.mean() < 0.5)),
    }


def all_curves(seeds: range) -> pd.DataFrame:
    """One row per seed, property, order and number of answers."""
    rows = []
    for seed in seeds:
        features, table = population(seed)
        for prop in SHARES:
            truth = table[prop].to_numpy(float)
            for order in POINTS:
                facts = {"seed": seed, "property": prop, "order": order}
                rows += [facts | row for row in measure(features, truth, order, seed)]
    return pd.DataFrame(rows)


def needed(curve: pd.Series, target: float) -> str:
    """The first number of answers from which a curve, indexed by answers, stays at the target."""
    below = curve.index[curve < target]
    later = curve.index[curve.index > below.max()] if len(below) else curve.index
    return str(later.min()) if len(later) else f"over {curve.index.max()}"


def show(curves: pd.DataFrame) -> None:
    """Prints the summary and the curves of `all_curves`."""
    mean = curves.groupby(["property", "order", "answers"], sort=False).mean()
    print(f"| property | AUROC, {TARGET} random | 500 random | 300 chosen | 500 chosen ", end="")
    print(f"| chosen answers needed | calibration error, {TARGET} random | 500 chosen |")
    print("|---" * 8 + "|")
    for prop in curves["property"].unique():
        random, chosen = mean.loc[prop, "random"], mean.loc[prop, "chosen"]
        cells = [random["auroc"][TARGET], random["auroc"][500], *chosen["auroc"][[300, 500]]]
        cells = [f"{value:.3f}" for value in cells]
        cells += [needed(chosen["auroc"], random["auroc"][TARGET])]
        cells += [f"{value:.4f}" for value in (random["error"][TARGET], chosen["error"][500])]
        print(f"| {prop} | {' | '.join(cells)} |")
    print("\n| property | order | answers | AUROC | lowest to highest | error | rarer ones |")
    print("|---" * 7 + "|")
    for keys, part in curves.groupby(["property", "order", "answers"], sort=False):
        auroc, rest = part["auroc"], part[["error", "rare"]].mean()
        ends = f"{auroc.mean():.4f} | {auroc.min():.4f} to {auroc.max():.4f}"
        names = " | ".join(map(str, keys))
        print(f"| {names} | {ends} | {rest['error']:.4f} | {rest['rare']:.0f} |")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first", type=int, default=3, help="0 to 2 served to choose the method")
    given = parser.parse_args()
    show(all_curves(range(given.first, given.first + given.seeds)))


if __name__ == "__main__":
    main()
