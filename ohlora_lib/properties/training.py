"""Trains property CNNs in folds; what was trained before a stop is not trained again.

Axes: N images, B batch, H image height.
Source: the published study's training (BCE, AdamW, cosine schedule of period 10, early stop).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from ohlora_lib.io.images import Images, take
from ohlora_lib.io.weights import save_weights
from ohlora_lib.nets import PropertyCNN
from ohlora_lib.nets.compute import autocast, images_at_once
from ohlora_lib.nets.samples import to_unit
from ohlora_lib.population.labels import save_table
from ohlora_lib.study.parameters import TrainPropertyCNN
from ohlora_lib.training.checkpoint import images_sha256, load_newest, save_state
from ohlora_lib.training.losses import NotFiniteError, check_finite

COSINE_PERIOD = 10  # epochs; stepped each epoch, so the rate rises again afterwards


@dataclass(frozen=True)
class CNNSettings:
    """How property CNNs are trained; the mappings go from property to value."""

    folds: int = 5
    width: float = 1.0
    batch: int = 16
    max_epochs: int = 100
    patience: int = 20  # epochs without a better validation loss
    learning_rate: Mapping[str, float] = field(default_factory=dict)
    loss_limit: Mapping[str, float] = field(default_factory=dict)  # validation loss to stay under
    max_attempts: int = 3  # trainings of one fold before the best of them is taken
    crops: Mapping[str, Sequence[float]] = field(default_factory=dict)
    mirror: bool = False  # show each image mirrored half of the time; the published CNNs do not
    seed: int = 0
    precision: str = "float32"


def role_plans(config: TrainPropertyCNN, precision: str) -> dict[str, CNNSettings]:
    """How to train the selector, and the judge: other folds, seed and perhaps learning rates."""
    settings = CNNSettings(precision=precision, **config.pick(CNNSettings, but="precision"))
    judge = {
        "folds": config.judge_folds,
        "learning_rate": {**settings.learning_rate, **config.judge_learning_rate},
        "seed": settings.seed + 1000,
    }
    return {"selector": settings, "judge": replace(settings, **judge)}


def split_table(halves: Mapping[str, np.ndarray], img_no: pd.Series) -> pd.DataFrame:
    """Which image trains whom: role, img_no."""
    parts = {role: img_no.iloc[rows] for role, rows in halves.items()}
    return pd.concat(parts, names=["role"]).reset_index("role")


@dataclass(frozen=True)
class Lesson:
    """What the CNNs of one property are trained on, and how."""

    images: Images  # uint8, (N, H, H, 3), on the device to train on
    labels: np.ndarray  # 0 or 1, (N,)
    prop: str
    settings: CNNSettings

    @cached_property
    def target(self) -> Tensor:
        """The labels on the device, float (N, 1)."""
        return torch.tensor(self.labels, dtype=torch.float32, device=self.images.device)[:, None]

    def new_net(self) -> PropertyCNN:
        """An untrained CNN, on the device."""
        settings, px = self.settings, self.images.shape[1]
        crop = settings.crops.get(self.prop)
        net = PropertyCNN(self.prop, image_px=px, width=settings.width, crop=crop)
        return net.to(self.images.device, memory_format=torch.channels_last)


@dataclass(frozen=True)
class Fold:
    """One trained fold: its network, its history and how well it does on its validation images."""

    prop: str
    fold: int
    net: PropertyCNN
    history: pd.DataFrame  # epoch, train_loss, valid_loss
    auroc: float
    best_loss: float
    attempts: int


def train_ensemble(
    images: Images,
    labels: pd.DataFrame,
    rows: np.ndarray,
    properties: Sequence[str],
    settings: CNNSettings,
    folder: Path,
) -> Iterator[Fold]:
    """Trains the folds of every property on some rows of a label table, and saves each.

    Args:
        images: All images, uint8, shape (N, H, H, 3), on the device to train on.
        labels: One row per image, one column of 0 and 1 per property.
        rows: Row numbers to train on; the others are never looked at.
        properties: Columns to learn.
        settings: How to train.
        folder: Gets `<property>-fold<k>.safetensors`, and checkpoints of the finished folds, from
            which the next start resumes.

    Yields:
        Each fold as it is done.

    Raises:
        ValueError: If a class has fewer images than there are folds, or a fold is there that was
            trained otherwise; names what has changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part, made = take(images, rows), set()
    common = {**vars(settings), "device": part.device.type, "images_sha256": images_sha256(part)}
    for prop in properties:
        lesson = Lesson(part, labels[prop].to_numpy()[rows], prop, settings)
        known = np.ascontiguousarray(lesson.labels, dtype=np.float64)
        facts = {**common, f"labels_{prop}_sha256": hashlib.sha256(known).hexdigest()}
        for k, split in enumerate(stratified_folds(lesson)):
            path = folder / f"{prop}-fold{k}.safetensors"
            state = folder / "checkpoints" / f"state-{path.stem}.pt"
            fold = _read_fold(state, lesson, facts)
            if fold is None:
                fold = train_fold(lesson, k, split)
                plain = {"net": fold.net.state_dict(), "history": fold.history.to_dict("list")}
                save_state(state, vars(fold) | plain, facts)
            save_weights(fold.net, path, validation_auroc=f"{fold.auroc:.4f}")
            made.add(path)
            yield fold
    for path in set(folder.glob("*-fold*.safetensors")) - made:
        path.unlink()  # of an earlier run with more folds: it would vote on


def _read_fold(path: Path, lesson: Lesson, facts: Mapping[str, Any]) -> Fold | None:
    """A fold, if it was trained before."""
    state = load_newest(path, facts)
    if state is None or state.keys() != Fold.__dataclass_fields__.keys():
        return None  # not trained, or by an earlier version, which kept other facts
    net = lesson.new_net()
    net.load_state_dict(state["net"])
    return Fold(**state | {"net": net.eval(), "history": pd.DataFrame(state["history"])})


def stratified_folds(lesson: Lesson) -> list[tuple[np.ndarray, np.ndarray]]:
    """Row numbers (train, valid) of each fold, classes in proportion.

    Raises:
        ValueError: If a class has fewer images than there are folds.
    """
    labels, settings = lesson.labels, lesson.settings
    counts = {value: int((labels == value).sum()) for value in (0, 1)}
    if min(counts.values()) < settings.folds:
        raise ValueError(
            f"{lesson.prop}: {counts[0]} images are labelled 0 and {counts[1]} are labelled 1; "
            f"each of {settings.folds} folds needs at least one of both. "
            f"Label more or use fewer folds."
        )
    splitter = StratifiedKFold(settings.folds, shuffle=True, random_state=settings.seed)
    return list(splitter.split(np.zeros(len(labels)), labels))


def train_fold(lesson: Lesson, fold: int, rows: tuple[np.ndarray, np.ndarray]) -> Fold:
    """Trains a fold; again while it is over its loss limit, and gives the best attempt.

    Args:
        lesson: What to learn.
        fold: Its number; with the number of the attempt it seeds the training.
        rows: Row numbers to train on and to validate on, of `stratified_folds`.
    """
    limit, best = lesson.settings.loss_limit.get(lesson.prop, float("inf")), None
    for attempt in range(1, lesson.settings.max_attempts + 1):
        done = _attempt(lesson, fold, rows, attempt)
        if best is None or done.best_loss < best.best_loss:
            best = done
        if best.best_loss <= limit:
            break
    return best


def _attempt(lesson: Lesson, fold: int, rows: tuple[np.ndarray, np.ndarray], attempt: int) -> Fold:
    """Trains until the validation loss has not fallen for some epochs; takes the best epoch."""
    settings, prop = lesson.settings, lesson.prop
    seed = int(np.random.SeedSequence([settings.seed, fold, attempt]).generate_state(1)[0])
    torch.manual_seed(seed)
    net, shuffle = lesson.new_net(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=settings.learning_rate.get(prop, 1e-4))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=COSINE_PERIOD)
    train, valid = (torch.from_numpy(part).to(lesson.images.device) for part in rows)
    truth = lesson.target[valid]  # (V, 1)
    best_loss, best_epoch, best_state, history = float("inf"), 0, {}, []
    for epoch in range(settings.max_epochs):
        train_loss = train_epoch(net, optimizer, lesson, train, shuffle)
        schedule.step()
        valid_loss = F.binary_cross_entropy_with_logits(_logits(net, lesson, valid), truth).item()
        history.append({"epoch": epoch, "train_loss": train_loss, "valid_loss": valid_loss})
        try:
            check_finite(history[-1])
        except NotFiniteError as error:
            raise NotFiniteError(
                f"{prop}, fold {fold}, epoch {epoch}: {error}. Lower the learning_rate of {prop}; "
                f"the folds before it are kept."
            ) from None
        if valid_loss < best_loss:
            best_loss, best_epoch = valid_loss, epoch
            best_state = {k: v.clone() for k, v in net.state_dict().items()}
        if epoch - best_epoch >= settings.patience:
            break
    net.load_state_dict(best_state)
    scores = torch.sigmoid(_logits(net, lesson, valid)).flatten().cpu().numpy()
    auroc = float(roc_auc_score(lesson.labels[rows[1]], scores))
    return Fold(prop, fold, net.eval(), pd.DataFrame(history), auroc, best_loss, attempt)


def train_epoch(
    net: PropertyCNN,
    optimizer: torch.optim.Optimizer,
    lesson: Lesson,
    rows: Tensor,
    shuffle: torch.Generator,
) -> float:
    """Trains one epoch on some rows of the lesson, in an order of its own; gives the mean loss."""
    net.train()
    images, target, settings = lesson.images, lesson.target, lesson.settings
    order = rows[torch.randperm(len(rows), generator=shuffle).to(rows.device)]
    total = torch.zeros((), device=images.device)
    for batch in order.split(settings.batch):
        pixels = to_unit(images[batch])  # (B, 3, H, H)
        if settings.mirror:
            flip = torch.rand(len(batch), 1, 1, 1, generator=shuffle).to(pixels.device) < 0.5
            pixels = torch.where(flip, pixels.flip(3), pixels)
        with autocast(images.device, settings.precision):
            logits = net.logits(pixels.contiguous(memory_format=torch.channels_last))
        loss = F.binary_cross_entropy_with_logits(logits, target[batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(batch)
    return (total / len(rows)).item()


@torch.no_grad()
def _logits(net: PropertyCNN, lesson: Lesson, rows: Tensor) -> Tensor:
    net.eval()
    images = lesson.images
    parts = rows.split(images_at_once(net.widest_map, images.device))
    with autocast(images.device, lesson.settings.precision):
        return torch.cat([net.logits(to_unit(images[part])) for part in parts])


def fold_table(folds: Sequence[Fold]) -> pd.DataFrame:
    """One row per fold: property, fold, AUROC and loss in validation, attempts, epochs."""
    names = ("prop", "fold", "auroc", "best_loss", "attempts")
    rows = [[getattr(f, n) for n in names] + [len(f.history)] for f in folds]
    return pd.DataFrame(rows, columns=["property", *names[1:], "epochs"])


def save_folds(folds: Sequence[Fold], folder: Path, role: str) -> None:
    """Writes `<role>-folds.csv` and the loss curves, `<role>-history.csv`: what a page draws."""
    history = pd.concat([f.history.assign(property=f.prop, fold=f.fold) for f in folds])
    save_table(folder / f"{role}-folds.csv", fold_table(folds))
    save_table(folder / f"{role}-history.csv", history)
