"""Trains one fold of a compact CNN, which scores all properties, and calibrates its scores.

Axes: B batch, H image height, N rows, P properties.
Sources: one-cycle schedule, Smith and Topin, "Super-Convergence", 2019,
https://arxiv.org/abs/1708.07120; calibration, Platt, "Probabilistic Outputs for Support Vector
Machines", 1999, with the targets of Jeffreys' prior: Platt's leave an ensemble underconfident.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from ohlora_lib.nets import CompactCNN
from ohlora_lib.nets.compute import autocast
from ohlora_lib.properties.lesson import Fold, Lesson, Rows, fold_seed
from ohlora_lib.training.muon import Muon

Steppers = Sequence[torch.optim.Optimizer | torch.optim.lr_scheduler.LRScheduler]

FILTER_RATE = 0.07  # learning rate of the filters, by Muon
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 0.05  # of all other parameters, by AdamW
WARM_UP = 0.25  # share of the steps over which the learning rate rises
SHIFT = 1 / 32  # largest shift of an image, as a share of its side
BRIGHTNESS = 0.2  # largest relative change of contrast; brightness shifts by at most half
GUESSED = 0.3  # weight of all guesses in a calibration, as a share of the held-out labels' weight


def train_fold(lesson: Lesson, fold: int, rows: Rows) -> Fold:
    """Trains until no property improves for `patience` epochs; keeps the epoch of lowest loss.

    Args:
        lesson: Training data and settings.
        fold: Number of the fold; it seeds the training.
        rows: Row numbers for training, and for validation and calibration (`stratified_folds`).
    """
    seed = fold_seed(lesson.settings, fold, 1)
    torch.manual_seed(seed)
    net, random = lesson.new_net(), torch.Generator().manual_seed(seed)
    train, valid = (torch.from_numpy(part).to(lesson.images.device) for part in rows)
    history, state = _train(net, lesson, fold, (train, valid), random)
    net.load_state_dict(state)
    scores = lesson.logits(net, valid).cpu().numpy()
    net.calibration.copy_(torch.from_numpy(_calibration(net, lesson, rows[1], scores)))
    auroc = lesson.validation_auroc(rows[1], scores)
    best_loss = float(history["valid_loss"].min())
    return Fold(lesson.name, fold, net.eval(), history, auroc, best_loss, 1)


def _train(
    net: CompactCNN,
    lesson: Lesson,
    fold: int,
    rows: tuple[Tensor, Tensor],
    random: torch.Generator,
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """Trains on the first rows and validates on the second; returns history and best weights."""
    settings, (train, valid) = lesson.settings, rows
    weights = class_weights(lesson.target[train], lesson.learn[train])
    steppers = _steppers(net, settings.max_epochs * -(-len(train) // settings.batch))
    losses, state, history = np.empty((0, len(lesson.properties))), {}, []  # losses: (epochs, P)
    for epoch in range(settings.max_epochs):
        train_loss = _train_epoch(net, steppers, lesson, train, weights, random)
        each = _loss(lesson.logits(net, valid), lesson.target[valid], weights, lesson.valid[valid])
        losses = np.vstack([losses, each.mean(dim=0).cpu().numpy()])
        valid_loss = float(losses[-1].mean())
        history.append({"epoch": epoch, "train_loss": train_loss, "valid_loss": valid_loss})
        lesson.check_loss(fold, history[-1])
        if losses.mean(axis=1).argmin() == epoch:
            state = {k: v.clone() for k, v in net.state_dict().items()}
        if epoch - losses.argmin(axis=0).max() >= settings.patience:
            break
    return pd.DataFrame(history), state


def _steppers(net: CompactCNN, steps: int) -> Steppers:
    """Optimisers of the filters and of all other parameters, then their one-cycle schedules."""
    filters = [p for p in net.parameters() if p.ndim == 4]
    others = [p for p in net.parameters() if p.ndim != 4]
    optimizers = [
        Muon(filters, FILTER_RATE),
        torch.optim.AdamW(others, LEARNING_RATE, weight_decay=WEIGHT_DECAY),
    ]
    steps = max(steps, 3)  # torch divides by the length of the rise and of the fall
    one_cycle = partial(
        torch.optim.lr_scheduler.OneCycleLR,
        total_steps=steps, pct_start=max(WARM_UP, 2 / steps), cycle_momentum=False,
    )  # fmt: skip
    return [*optimizers, *(one_cycle(each, each.defaults["lr"]) for each in optimizers)]


def class_weights(target: Tensor, known: Tensor) -> Tensor:
    """Loss weights of the classes 0 and 1, (2, P), from labels (N, P); the rarer weighs more.

    `known`, (N, P), is 0 where a label is missing.

    They are the square roots of the weights that would balance the classes: full balance would
    overfit the few images of a rare class.
    """
    share = (target * known).mean(dim=0) / known.mean(dim=0)
    return (0.5 / torch.stack([1 - share, share])).sqrt()


def _loss(logits: Tensor, target: Tensor, weights: Tensor, label_weights: Tensor) -> Tensor:
    """Returns the cross-entropy of each logit, (B, P), weighted by class (2, P) and by label."""
    weight = (target * weights[1] + (1 - target) * weights[0]) * label_weights
    return F.binary_cross_entropy_with_logits(logits, target, weight, reduction="none")


def _train_epoch(
    net: CompactCNN,
    steppers: Steppers,
    lesson: Lesson,
    rows: Tensor,
    weights: Tensor,
    random: torch.Generator,
) -> float:
    """Trains one epoch in shuffled order; returns the mean loss."""
    net.train()
    order = rows[torch.randperm(len(rows), generator=random).to(rows.device)]
    total = torch.zeros((), device=rows.device)
    for batch in order.split(lesson.settings.batch):
        pixels = augment(lesson.pixels(batch), random, mirror=lesson.settings.mirror)
        with autocast(rows.device, lesson.settings.precision):
            logits = net.raw_logits(pixels)
        loss = _loss(logits, lesson.target[batch], weights, lesson.learn[batch]).mean()
        net.zero_grad(set_to_none=True)
        loss.backward()
        for stepper in steppers:
            stepper.step()
        total += loss.detach() * len(batch)
    return (total / len(rows)).item()


def augment(pixels: Tensor, random: torch.Generator, *, mirror: bool) -> Tensor:
    """Shifts images (B, 3, H, H), changes contrast and brightness, and mirrors half if `mirror`.

    Random numbers are drawn on the CPU, so that a seed gives the same result on every device.
    """
    side = pixels.shape[2]
    most = max(1, round(SHIFT * side))
    draw = torch.rand(5, len(pixels), generator=random)
    starts = (draw[1:3].T * (2 * most + 1)).long().tolist()  # B rows and columns
    draw = draw.to(pixels.device)
    if mirror:
        pixels = torch.where(draw[0, :, None, None, None] < 0.5, pixels.flip(3), pixels)
    padded = F.pad(pixels, [most] * 4, mode="replicate").permute(0, 2, 3, 1)  # (B, h, h, 3)
    moved = torch.stack([
        image[down : down + side, across : across + side]
        for image, (down, across) in zip(padded, starts, strict=True)
    ]).permute(0, 3, 1, 2)  # fmt: skip
    contrast, brightness = (BRIGHTNESS * (2 * draw[3:, :, None, None, None] - 1)).unbind()
    return (moved - 0.5) * (1 + contrast) + 0.5 + brightness / 2


def _calibration(
    net: CompactCNN, lesson: Lesson, valid: np.ndarray, scores: np.ndarray
) -> np.ndarray:
    """Scale and shift, (2, P), from held-out labels and, if there are any, from guesses.

    Where images were chosen, few labels are held out, and guesses steady the fit. They weigh less
    than these, because a fit to guesses alone leaves the scores underconfident.
    """
    labels, weights = lesson.labels[valid], lesson.valid.cpu().numpy()[valid]
    rows = np.flatnonzero(np.isnan(lesson.labels).all(axis=1))
    if lesson.guesses is not None and len(rows):
        others = lesson.logits(net, torch.from_numpy(rows).to(lesson.images.device))
        scores = np.vstack([scores, others.cpu().numpy()])
        labels = np.vstack([labels, lesson.guesses[rows]])
        each = GUESSED * weights.sum(axis=0) / len(rows)
        weights = np.vstack([weights, np.tile(each, (len(rows), 1))])
    return calibrate(scores, labels, weights)


def calibrate(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fits the scale and shift of logits, (2, P), that calibrate them, on held-out rows.

    This is Platt scaling. Its shift also undoes the class weights of the loss.

    Args:
        logits: Uncalibrated logits, (N, P).
        labels: Labels 0 or 1, or probabilities, (N, P); any value where the weight is 0.
        weights: Weights of the labels, (N, P).
    """
    found = []
    for x, y, w in zip(logits.T, labels.T, weights.T, strict=True):
        # Targets slightly inside (0, 1) keep the scale finite where the rows separate perfectly.
        ones, zeros = (y == 1).sum(), (y == 0).sum()
        target = np.where(y == 1, (ones + 0.5) / (ones + 1), 0.5 / (zeros + 1))
        if np.any((y > 0) & (y < 1)):  # probabilities among them do so, too
            target = np.nan_to_num(y)
        sample = np.concatenate([target, 1 - target]) * np.tile(w, 2)
        fit = LogisticRegression(C=np.inf).fit(
            np.tile(x, 2)[:, None], np.repeat([1, 0], len(x)), sample
        )
        scale, shift = fit.coef_.item(), fit.intercept_.item()
        share = np.average(target, weights=w)
        found.append((scale, shift) if scale > 0 else (0.0, logit(share)))
    return np.array(found, dtype=np.float32).T
