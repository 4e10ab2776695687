"""Active learning: chooses the images to ask a person about, and predicts the open answers.

A Bayesian logistic regression, fitted to the answers, reads frozen features of the shipped
discriminator. Its coefficients are uncertain, so it is less sure of images unlike the answered
ones. It asks about images of which it is least sure (for a rare label, those most likely to have
it), and spreads them in feature space. It also predicts the open answers.
Axes: N images, F features, n answers.
Sources: uncertainty sampling, Lewis and Gale, "A Sequential Algorithm for Training Text
Classifiers", 1994, https://arxiv.org/abs/cmp-lg/9407020; probabilities under uncertain
coefficients, MacKay, "The Evidence Framework Applied to Classification Networks", 1992,
https://doi.org/10.1162/neco.1992.4.5.720; core-set, Sener and Savarese, "Active Learning for
Convolutional Neural Networks: A Core-Set Approach", 2018, https://arxiv.org/abs/1708.00489; scores
without one answer, Pregibon, "Logistic Regression Diagnostics", 1981,
https://doi.org/10.1214/aos/1176345513; scale and shift of logits, Platt, 1999.
"""

from importlib.resources import files

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cdist
from scipy.special import expit
from torch import Tensor

from ohlora_lib.io.images import Images, hold
from ohlora_lib.io.weights import load_discriminator
from ohlora_lib.nets.samples import to_signed

DISCRIMINATOR = files("ohlora_lib") / "assets" / "base64-discriminator.safetensors"
AT_ONCE = 64  # images per forward pass
TAPS = (3, 4)  # layers whose activations, at 16 px, are pooled
NUMBERS = 256  # features kept
PENALTY = 4.0  # of the squared coefficients
OWN = 0.6  # share of an answered image's logit that learned from its own answer
FEWEST = 3  # answers of each class, to calibrate on
BINS = 10  # of the predicted probability, for the weights
POOL = 5  # how many of the most uncertain images compete for each place
MOST_STEPS = 12  # of Newton's method
FLOOR = 1e-3  # least variance of an answer, so that a step stays finite


@torch.no_grad()
def features(images: np.ndarray) -> np.ndarray:
    """Frozen features of images, standardised: comparable only within one call.

    Args:
        images: uint8, (N, H, H, 3).

    Returns:
        float32, (N, F): principal components of pooled activations, with a mean square of 1.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        found = _activations(hold(images))
        spread = found.std(0, correction=0)
        found = (found - found.mean(0)) / spread.clamp_min(0.05 * spread.mean() + 1e-6)
        *_, axes = torch.pca_lowrank(found, min(NUMBERS, *found.shape), center=False)
    found = found @ axes  # (N, F)
    return (found / found.square().mean().sqrt().clamp_min(1e-6)).numpy()


def _activations(images: Images) -> Tensor:
    """Largest activations of the tapped layers in each of 4 x 4 fields, (N, 16 C)."""
    net, parts = load_discriminator(str(DISCRIMINATOR)), []
    for batch in images.split(AT_ONCE):
        x, pooled = to_signed(batch), []
        if x.shape[2] != net.image_px:
            x = F.interpolate(x, net.image_px, mode="bilinear", antialias=True)
        x = net.input0(x)  # (B, C, 64, 64)
        for k in range(max(TAPS) + 1):
            x = getattr(net, f"layer{k}")(x)
            if k in TAPS:
                pooled.append(F.adaptive_max_pool2d(x, 4).flatten(1))  # (B, 16 C)
        parts.append(torch.cat(pooled, 1))
    return torch.cat(parts)


def guess(
    features: np.ndarray, labels: np.ndarray, *, weights: np.ndarray | None = None
) -> np.ndarray:
    """Predicts the probability, (N,), that each image has a property.

    Logits are calibrated, with the weights, on the answered images, each predicted without its own
    answer, so that neither overfitting nor the choice of images biases the probabilities. The
    result for an answered image lies between its logits with and without its answer: the former
    are overconfident, but chosen images are so spread out that the latter are less
    confident than for an image that was never asked about.

    Args:
        features: From `features`, (N, F).
        labels: 0, 1, or NaN where there is no answer, (N,).
        weights: Of the answered images, in their order (`weights`); None means equal weights.

    Returns:
        NaN for all images while one of the two classes has no answer.
    """
    rows = np.flatnonzero(~np.isnan(labels))
    if len(np.unique(labels[rows])) < 2:
        return np.full(len(features), np.nan)
    logits, without = _logits(features, labels, rows)
    scale, shift = 1.0, 0.0
    if np.bincount(labels[rows].astype(int)).min() >= FEWEST:
        times = np.ones(len(rows)) if weights is None else weights
        (slope, offset), _ = _fit(without[:, None], labels[rows], times, FLOOR)
        scale, shift = (slope, offset) if slope > 0 else (scale, shift)
    return expit(scale * logits + shift)


def next_images(
    features: np.ndarray, labels: np.ndarray, candidates: np.ndarray, count: int
) -> np.ndarray:
    """Chooses images to ask about, for one property: those whose labels are least sure, spread.

    Args:
        features: From `features`, (N, F).
        labels: 0, 1, or NaN where there is no answer, (N,).
        candidates: Images without an answer; the first are chosen while one of the two classes
            has no answer.
        count: Number of images; all candidates if they are fewer.

    Returns:
        The images, in the order to ask.
    """
    rows, count = np.flatnonzero(~np.isnan(labels)), min(count, len(candidates))
    if len(np.unique(labels[rows])) < 2 or not count:
        return candidates[:count]
    unsure = -np.abs(expit(_logits(features, labels, rows)[0]) - 0.5)[candidates]
    best = np.argsort(-unsure, kind="stable")[: POOL * count]
    pool, value = candidates[best], unsure[best] - unsure[best].min() + FLOOR
    nearest = cdist(features[pool], features[rows]).min(1)  # to what is or will be answered
    chosen: list[int] = []
    for _ in range(count):
        gain = value * nearest
        gain[chosen] = -1
        chosen.append(int(np.argmax(gain)))
        nearest = np.minimum(nearest, cdist(features[pool], features[pool[chosen[-1:]]])[:, 0])
    return pool[chosen]


def weights(probabilities: np.ndarray, rows: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Importance weights, (n,), with mean 1, that make answered images look like the candidates.

    Divides the images into bins of the predicted probability and weights each answered image by
    its bin's share of all images over its share of the answered ones (post-stratification).

    Args:
        probabilities: From `guess`, (N,).
        rows: Answered images, (n,).
        source: "random" or "chosen" for each of them, (n,).
    """
    if np.all(source == "random") or np.isnan(probabilities).any():
        return np.ones(len(rows))
    edges = np.quantile(probabilities[rows], np.linspace(0, 1, BINS + 1)[1:-1])
    bins = np.searchsorted(edges, probabilities, side="right")  # (N,)
    everyone, answered = (np.bincount(part, minlength=BINS) for part in (bins, bins[rows]))
    found = (everyone / np.maximum(answered, 1))[bins[rows]]
    return found / found.mean()


def _logits(
    features: np.ndarray, labels: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of all images, (N,), and of the answered ones without their own answer, (n,).

    Both are shrunk, so that they give the mean probability over the uncertain coefficients. One
    Newton step leaves an answer out.
    """
    found, curve = _fit(features[rows], labels[rows], np.ones(len(rows)), PENALTY)
    x = np.c_[features, np.ones(len(features), np.float32)]  # (N, F + 1)
    logits, variance = x @ found, (x * np.linalg.solve(curve, x.T).T).sum(1)
    p = expit(logits[rows])
    variance[rows] /= 1 - variance[rows] * np.maximum(p * (1 - p), FLOOR)  # without the answer
    without = logits[rows] - variance[rows] * (labels[rows] - p)
    logits[rows] = OWN * logits[rows] + (1 - OWN) * without
    return _shrink(logits, variance), _shrink(without, variance[rows])


def _shrink(logits: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """The logit of the mean probability, where logits are normally distributed."""
    return logits / np.sqrt(1 + np.pi / 8 * variance)


def _fit(
    features: np.ndarray, labels: np.ndarray, times: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """Logistic regression with an L2 penalty by Newton's method.

    Returns the coefficients, (F + 1,), intercept last, and the loss's second derivatives.
    """
    x = np.c_[features, np.ones(len(features), np.float32)]  # (n, F + 1)
    found = np.zeros(x.shape[1])
    ridge = np.append(np.full(features.shape[1], penalty), FLOOR)
    for _ in range(MOST_STEPS):
        p = expit(x @ found)
        slope = x.T @ (times * (p - labels)) + ridge * found
        curve = (x * (times * np.maximum(p * (1 - p), FLOOR))[:, None]).T @ x + np.diag(ridge)
        found -= (step := np.linalg.solve(curve, slope))
        if np.abs(step).max() < 1e-3:
            break
    return found, curve
