"""Trains property CNNs in folds; an interrupted run resumes after its last finished fold.

Axes: N images, H image height.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ohlora_lib.io.images import Images, take
from ohlora_lib.io.weights import save_weights
from ohlora_lib.population.labels import (
    drawn_at_random,
    label_weights,
    save_table,
    split_halves,
)
from ohlora_lib.properties import compact, published
from ohlora_lib.properties.lesson import CNNSettings, Fold, Lesson, deal, stratified_folds
from ohlora_lib.study.parameters import TrainPropertyCNN
from ohlora_lib.training.checkpoint import images_sha256, load_unchanged, save_state

TRAINERS = {"compact": compact.train_fold, "published": published.train_fold}


def role_plans(config: TrainPropertyCNN, precision: str) -> dict[str, CNNSettings]:
    """Settings of selector and judge; the judge has its own folds, seed and learning rates."""
    settings = CNNSettings(precision=precision, **config.pick(CNNSettings, but="precision"))
    judge = {
        "folds": config.judge_folds,
        "learning_rate": {**settings.learning_rate, **config.judge_learning_rate},
        "seed": settings.seed + 1000,
    }
    return {"selector": settings, "judge": replace(settings, **judge)}


def split_rows(
    labels: pd.DataFrame, properties: Sequence[str], *, seed: int
) -> dict[str, np.ndarray]:
    """Splits row numbers into disjoint sorted halves for the selector and the judge.

    If some images were chosen, both halves get their share of random and of chosen images, of
    each class.
    """
    if label_weights(labels, properties) is None:
        halves = split_halves(len(labels), seed=seed)
    else:
        values, random = labels[list(properties)].to_numpy(), np.random.default_rng(seed)
        half = deal(values, 2, random, drawn_at_random(labels))
        halves = np.flatnonzero(half == 0), np.flatnonzero(half == 1)
    return dict(zip(("selector", "judge"), halves, strict=True))


def split_table(halves: Mapping[str, np.ndarray], img_no: pd.Series) -> pd.DataFrame:
    """Lists which images train the selector and which the judge: role, img_no."""
    parts = {role: img_no.iloc[rows] for role, rows in halves.items()}
    return pd.concat(parts, names=["role"]).reset_index("role")


def train_ensemble(
    images: Images,
    labels: pd.DataFrame,
    rows: np.ndarray,
    properties: Sequence[str],
    settings: CNNSettings,
    folder: Path,
    guesses: np.ndarray | None = None,
) -> Iterator[Fold]:
    """Trains the folds of all properties on some rows of a label table, and saves each fold.

    Args:
        images: All images, uint8, shape (N, H, H, 3), on the device to train on.
        labels: One row per image, one column of 0 and 1 per property.
        rows: Row numbers to train on; the other rows are never used.
        properties: Label columns to learn.
        settings: Training settings.
        folder: Receives `compact-fold<k>.safetensors`, or `<property>-fold<k>.safetensors` for
            the published architecture, and checkpoints of finished folds to resume from.
        guesses: Probabilities, (N, P), that compact CNNs learn where labels are missing.

    Yields:
        Each fold once it is trained.

    Raises:
        ValueError: If a class has fewer images than there are folds, or the folder holds a fold
            trained with other settings or data; names the changes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part, made = take(images, rows), set()
    common = {**vars(settings), "device": part.device.type, "images_sha256": images_sha256(part)}
    soft = None if guesses is None else guesses[rows]
    for names in settings.lessons(properties):
        lesson = _lesson(part, labels.iloc[rows], names, settings, soft)
        facts = common | {f"labels_{lesson.name}_sha256": _sha256(lesson.labels)}
        if lesson.weights is not None:
            chosen = [lesson.weights, lesson.drawn, *([] if soft is None else [soft])]
            facts[f"weights_{lesson.name}_sha256"] = _sha256(np.column_stack(chosen))
        splits = stratified_folds(lesson)
        for k, split in enumerate(splits):
            path = folder / f"{lesson.name}-fold{k}.safetensors"
            state = folder / "checkpoints" / f"state-{path.stem}.pt"
            fold = _read_fold(state, lesson, facts)
            if fold is None:
                choose = lesson.settings.crops == "auto"
                train = published.choose_crop if choose else TRAINERS[settings.architecture]
                fold = train(lesson, k, split)
                save_state(state, _plain(fold), facts)
            if settings.crops == "auto":  # the first fold chose
                lesson = published.with_crop(lesson, fold.net.crop)
            auroc = ", ".join(f"{value:.4f}" for value in fold.auroc.values())
            save_weights(fold.net, path, validation_auroc=auroc)
            made.add(path)
            yield fold
    for path in set(folder.glob("*-fold*.safetensors")) - made:
        path.unlink()  # left by an earlier run with more folds; it would still vote


def _lesson(
    images: Images,
    labels: pd.DataFrame,
    names: tuple[str, ...],
    settings: CNNSettings,
    guesses: np.ndarray | None,
) -> Lesson:
    """The images that have one of these labels or a guess, with weights if some were chosen."""
    names = list(names)
    rows = np.flatnonzero(labels[names].notna().any(axis=1))
    if len(rows) < len(labels) and guesses is None:
        images, labels = take(images, rows), labels.iloc[rows]
    weights = label_weights(labels, names)
    drawn = None if weights is None else drawn_at_random(labels)
    values = labels[names].to_numpy()
    return Lesson(images, values, tuple(names), settings, weights, drawn, guesses)


def _sha256(labels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(labels, dtype=np.float64)).hexdigest()


def _plain(fold: Fold) -> dict[str, Any]:
    """A fold as plain values and tensors, with the crop that its network sees, if any."""
    crop = getattr(fold.net, "crop", None)
    history = fold.history.to_dict("list")
    return vars(fold) | {"net": fold.net.state_dict(), "history": history, "crop": crop}


def _read_fold(path: Path, lesson: Lesson, facts: Mapping[str, Any]) -> Fold | None:
    """Loads a fold from its checkpoint; None if it must be trained."""
    state = load_unchanged(path, facts)
    if state is None or state.keys() != {*Fold.__dataclass_fields__, "crop"}:
        return None  # not trained yet, or saved by an older version in another format
    net = published.with_crop(lesson, state.pop("crop")).new_net()
    net.load_state_dict(state["net"])
    return Fold(**state | {"net": net.eval(), "history": pd.DataFrame(state["history"])})


def fold_table(folds: Sequence[Fold]) -> pd.DataFrame:
    """Tabulates each property and fold: validation AUROC and loss, attempts, epochs."""
    return pd.DataFrame([
        {"property": prop, "fold": fold.fold, "auroc": auroc, "best_loss": fold.best_loss,
         "attempts": fold.attempts, "epochs": len(fold.history)}
        for fold in folds for prop, auroc in fold.auroc.items()
    ])  # fmt: skip


def save_folds(folds: Sequence[Fold], folder: Path, role: str) -> None:
    """Writes `<role>-folds.csv`, and loss curves to `<role>-history.csv`, for the page."""
    history = pd.concat([f.history.assign(cnn=f.name, fold=f.fold) for f in folds])
    save_table(folder / f"{role}-folds.csv", fold_table(folds))
    save_table(folder / f"{role}-history.csv", history)
