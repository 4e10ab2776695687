"""Training data and settings of property CNNs, and the result of a trained fold.

Axes: N images, H image height, P properties.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from ohlora_lib.io.images import Images
from ohlora_lib.nets import CompactCNN, PropertyCNN
from ohlora_lib.nets.compute import autocast, images_at_once
from ohlora_lib.nets.samples import to_unit
from ohlora_lib.study.machine import counted
from ohlora_lib.training.losses import NotFiniteError, check_finite

Rows = tuple[np.ndarray, np.ndarray]  # row numbers for training and for validation


@dataclass(frozen=True)
class CNNSettings:
    """Training settings of property CNNs; mappings are keyed by property."""

    architecture: str = "compact"  # compact: one CNN for all properties; published: one each
    folds: int = 3
    width: float = 1.0
    batch: int = 32
    max_epochs: int = 11
    patience: int = 10  # epochs without a lower validation loss
    learning_rate: Mapping[str, float] = field(default_factory=dict)
    loss_limit: Mapping[str, float] = field(default_factory=dict)  # highest validation loss
    max_attempts: int = 3  # attempts per fold; the best is kept
    crops: Mapping[str, Sequence[float]] | str = field(default_factory=dict)  # or "auto"
    mirror: bool = True  # mirrors half of the images, at random; the published CNNs do not
    seed: int = 0
    precision: str = "float32"

    def lessons(self, properties: Sequence[str]) -> list[tuple[str, ...]]:
        """Groups the properties by the CNN that learns them."""
        if self.architecture == "compact":
            return [tuple(properties)]
        return [(prop,) for prop in properties]


@dataclass(frozen=True)
class Lesson:
    """Training data and settings of one CNN."""

    images: Images  # uint8, (N, H, H, 3), on the device to train on
    labels: np.ndarray  # 0 or 1, (N, P); NaN if missing, which needs `weights`
    properties: tuple[str, ...]
    settings: CNNSettings
    weights: np.ndarray | None = None  # (N, P), see `label_weights`; None if none were chosen
    drawn: np.ndarray | None = None  # which images were drawn at random, (N,); None means all
    guesses: np.ndarray | None = None  # soft labels to learn where `labels` are missing, (N, P)

    @property
    def name(self) -> str:
        """Name of these CNNs in files and tables: `compact`, or the single property."""
        compact = self.settings.architecture == "compact"
        return "compact" if compact else self.properties[0]

    @cached_property
    def target(self) -> Tensor:
        """Labels on the device, float (N, P); the guess, or else 0, if missing."""
        guesses = 0.0 if self.guesses is None else self.guesses
        labels = np.where(np.isnan(self.labels), guesses, self.labels)
        return torch.tensor(labels, dtype=torch.float32, device=self.images.device)

    @cached_property
    def learn(self) -> Tensor:
        """Weights of labels in training, (N, P): equal, but 0 for missing ones without a guess."""
        return self._scaled(~np.isnan(self.labels) | (self.guesses is not None))

    @cached_property
    def valid(self) -> Tensor:
        """Weights of labels in validation, (N, P): `weights`, or else equal."""
        return self.learn if self.weights is None else self._scaled(self.weights)

    def _scaled(self, weights: np.ndarray) -> Tensor:
        """Weights on the device, scaled to a mean of 1 per property."""
        found = torch.tensor(weights, dtype=torch.float32, device=self.images.device)
        return found / found.mean(dim=0)

    def validation_auroc(self, rows: np.ndarray, scores: np.ndarray) -> dict[str, float]:
        """AUROC by property of the scores (n, P) of some rows, on images drawn at random.

        NaN if those have one class only.
        """
        drawn = np.ones(len(rows), dtype=bool) if self.drawn is None else self.drawn[rows]
        found = {}
        for prop, label, score in zip(self.properties, self.labels[rows].T, scores.T, strict=True):
            known = drawn & ~np.isnan(label)
            both = len(np.unique(label[known])) > 1
            found[prop] = float(roc_auc_score(label[known], score[known]) if both else np.nan)
        return found

    def new_net(self) -> PropertyCNN | CompactCNN:
        """Builds an untrained CNN on the device."""
        settings = self.settings
        size = {"image_px": self.images.shape[1], "width": settings.width}
        if settings.architecture == "compact":
            net = CompactCNN(self.properties, **size)
        else:
            crop = settings.crops.get(self.name)
            net = PropertyCNN(self.name, crop=crop, **size)
        return net.to(self.images.device, memory_format=torch.channels_last)

    def pixels(self, rows: Tensor) -> Tensor:
        """CNN inputs for the given rows, float (n, 3, H, H) in [0, 1]."""
        return to_unit(self.images[rows]).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def logits(self, net: PropertyCNN | CompactCNN, rows: Tensor) -> Tensor:
        """Logits of a CNN for the given rows, (n, P)."""
        net.eval()
        parts = rows.split(images_at_once(net.widest_map, self.images.device))
        with autocast(self.images.device, self.settings.precision):
            return torch.cat([net.logits(self.pixels(part)) for part in parts])

    def check_loss(self, fold: int, entry: Mapping[str, float]) -> None:
        """Raises NotFiniteError, with a remedy, if a loss of the epoch is NaN or infinite."""
        try:
            check_finite(entry)
        except NotFiniteError as error:
            remedy = "Use `precision: float32`"
            if self.settings.architecture == "published":
                remedy = f"Lower the learning_rate of {self.name}"
            raise NotFiniteError(
                f"{self.name}, fold {fold}, epoch {entry['epoch']}: {error}. {remedy}; "
                f"earlier folds are kept."
            ) from None


@dataclass(frozen=True)
class Fold:
    """One trained fold: its network, history, and validation scores."""

    name: str  # of the lesson
    fold: int
    net: PropertyCNN | CompactCNN
    history: pd.DataFrame  # epoch, train_loss, valid_loss
    auroc: dict[str, float]  # by property
    best_loss: float
    attempts: int


def fold_seed(settings: CNNSettings, fold: int, attempt: int) -> int:
    """Derives the seed for training a fold."""
    return int(np.random.SeedSequence([settings.seed, fold, attempt]).generate_state(1)[0])


def stratified_folds(lesson: Lesson) -> list[Rows]:
    """Splits rows into (train, valid) for each fold, stratified by the labels of all properties.

    Rows without a label are for training in every fold.

    Raises:
        ValueError: If a class has fewer images than there are folds.
    """
    labels, settings, weights = lesson.labels, lesson.settings, lesson.weights
    for prop, column in zip(lesson.properties, labels.T, strict=True):
        counts = {value: int((column == value).sum()) for value in (0, 1)}
        if min(counts.values()) < settings.folds:
            raise ValueError(
                f"{prop}: {counted(counts[0], 'image')} labelled 0 and {counts[1]} labelled 1; "
                f"each of the {settings.folds} folds needs at least one of each. "
                f"Label more images or use fewer folds."
            )
    for prop, column in zip(lesson.properties, () if weights is None else weights.T, strict=False):
        if (count := int((column[lesson.drawn] > 0).sum())) < settings.folds:
            raise ValueError(
                f"{prop}: {counted(count, 'labelled image')} drawn at random; each of the "
                f"{settings.folds} folds needs one to test it. Label more images at random."
            )
    if settings.architecture == "published" and lesson.drawn is None:
        splitter = StratifiedKFold(settings.folds, shuffle=True, random_state=settings.seed)
        return list(splitter.split(np.zeros(len(labels)), labels[:, 0]))
    fold = deal(labels, settings.folds, np.random.default_rng(settings.seed), lesson.drawn)
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(settings.folds)]


def deal(
    labels: np.ndarray, folds: int, random: np.random.Generator, drawn: np.ndarray | None = None
) -> np.ndarray:
    """Assigns rows of labels (N, P) to folds, rarest class first; returns the fold per row, (N,).

    With `drawn`, (N,), images drawn at random and chosen ones are dealt separately.
    Source: iterative stratification, Sechidis et al., "On the Stratification of Multi-Label Data",
    2011.
    """
    fold, order = np.full(len(labels), -1), random.permutation(len(labels))
    kinds = [np.ones(len(labels), dtype=bool)] if drawn is None else [drawn, ~drawn]
    classes = [(c == value) & kind for c in labels.T for value in (0, 1) for kind in kinds]
    for mine in sorted(classes, key=np.sum):
        have = np.bincount(fold[mine & (fold >= 0)], minlength=folds)
        size = np.bincount(fold[fold >= 0], minlength=folds)
        for row in order[mine[order] & (fold[order] < 0)]:
            least = np.lexsort((size, have))[0]
            fold[row] = least
            have[least] += 1
            size[least] += 1
    return fold
