"""Trains property CNNs in folds, and scores images with them.

Two ensembles share this code: the selector, which chooses the training images and steers nothing
else, and the held-out judge, trained on other labels, which only ever looks.
Axes: N images, B batch, H image height, P properties, K folds, F features.
Source: the published study's training (BCE, AdamW, cosine schedule of period 10, early stop).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from ohlora_lib.io.images import Images
from ohlora_lib.io.pictures import WEIGHTS
from ohlora_lib.io.weights import load_property_cnn, save_weights
from ohlora_lib.nets import PropertyCNN
from ohlora_lib.nets.compute import autocast, images_at_once
from ohlora_lib.nets.samples import to_unit
from ohlora_lib.population.labels import save_table
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


@dataclass(frozen=True)
class Fold:
    """One trained fold: its network, its history and its scores on its validation images."""

    prop: str
    fold: int
    net: PropertyCNN
    history: pd.DataFrame  # epoch, train_loss, valid_loss
    valid_rows: np.ndarray  # row numbers, (V,)
    valid_scores: np.ndarray  # probabilities, (V,)
    auroc: float
    best_loss: float
    attempts: int


def stratified_folds(labels: np.ndarray, settings: CNNSettings, prop: str) -> list[tuple]:
    """Row numbers (train, valid) of each fold, classes in proportion.

    Raises:
        ValueError: If a class has fewer images than there are folds.
    """
    counts = {value: int((labels == value).sum()) for value in (0, 1)}
    if min(counts.values()) < settings.folds:
        raise ValueError(
            f"{prop}: {counts[0]} images are labelled 0 and {counts[1]} are labelled 1; each of "
            f"{settings.folds} folds needs at least one of both. Label more or use fewer folds."
        )
    splitter = StratifiedKFold(settings.folds, shuffle=True, random_state=settings.seed)
    return list(splitter.split(np.zeros(len(labels)), labels))


def train_folds(
    images: Images,
    labels: np.ndarray,
    prop: str,
    settings: CNNSettings,
    trained: Callable[[int], Fold | None] = lambda _: None,
) -> Iterator[Fold]:
    """Trains one property's folds, one after another.

    Args:
        images: uint8, shape (N, H, H, 3), on the device to train on.
        labels: 0 or 1, shape (N,).
        prop: Name of the property.
        settings: How to train.
        trained: Gives a fold by number if it is there already.

    Yields:
        Each fold as it is done; one over its loss limit has been trained again first.
    """
    limit = settings.loss_limit.get(prop, float("inf"))
    for k, rows in enumerate(stratified_folds(labels, settings, prop)):
        best = trained(k)
        for attempt in range(1, settings.max_attempts + 1) if best is None else ():
            done = _train_fold(images, labels, prop, settings, k, rows, attempt)
            if best is None or done.best_loss < best.best_loss:
                best = done
            if best.best_loss <= limit:
                break
        yield best


def new_net(images: Images, prop: str, settings: CNNSettings) -> PropertyCNN:
    """An untrained CNN for a property of images (N, H, H, 3), on their device."""
    crop = settings.crops.get(prop)
    net = PropertyCNN(prop, image_px=images.shape[1], width=settings.width, crop=crop)
    return net.to(images.device, memory_format=torch.channels_last)


def _train_fold(
    images: Images,
    labels: np.ndarray,
    prop: str,
    settings: CNNSettings,
    fold: int,
    rows: tuple[np.ndarray, np.ndarray],
    attempt: int,
) -> Fold:
    seed = int(np.random.SeedSequence([settings.seed, fold, attempt]).generate_state(1)[0])
    torch.manual_seed(seed)
    device = images.device
    net = new_net(images, prop, settings)
    optimizer = torch.optim.AdamW(net.parameters(), lr=settings.learning_rate.get(prop, 1e-4))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=COSINE_PERIOD)
    target = torch.tensor(labels, dtype=torch.float32, device=device)[:, None]  # (N, 1)
    train, valid = (torch.from_numpy(part).to(device) for part in rows)
    shuffle = torch.Generator().manual_seed(seed)
    best_loss, best_epoch, best_state, history = float("inf"), 0, {}, []
    for epoch in range(settings.max_epochs):
        train_loss = train_epoch(net, optimizer, images, target, train, settings, shuffle)
        schedule.step()
        logits = _logits(net, images, valid, settings)
        valid_loss = F.binary_cross_entropy_with_logits(logits, target[valid]).item()
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
    scores = torch.sigmoid(_logits(net, images, valid, settings)).flatten().cpu().numpy()
    auroc = float(roc_auc_score(labels[rows[1]], scores))
    table = pd.DataFrame(history)
    return Fold(prop, fold, net.eval(), table, rows[1], scores, auroc, best_loss, attempt)


def train_epoch(
    net: PropertyCNN,
    optimizer: torch.optim.Optimizer,
    images: Images,
    target: Tensor,
    rows: Tensor,
    settings: CNNSettings,
    shuffle: torch.Generator,
) -> float:
    """Trains one epoch on `rows` of images (N, H, H, 3), labels (N, 1); gives the mean loss."""
    net.train()
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
def _logits(net: PropertyCNN, images: Images, rows: Tensor, settings: CNNSettings) -> Tensor:
    net.eval()
    parts = rows.split(images_at_once(net.widest_map, images.device))
    with autocast(images.device, settings.precision):
        return torch.cat([net.logits(to_unit(images[part])) for part in parts])


class Ensemble:
    """The CNNs of all properties; a score is the mean of a property's CNNs.

    Args:
        members: CNNs of each property, in the order of the concept.
        precision: Number format to score in.
    """

    def __init__(
        self, members: Mapping[str, Sequence[PropertyCNN]], *, precision: str = "float32"
    ) -> None:
        self.members = {prop: list(nets) for prop, nets in members.items()}
        self.precision = precision
        self.nets = [net for nets in self.members.values() for net in nets]
        for net in self.nets:
            net.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @property
    def properties(self) -> list[str]:
        """Names of the properties, in order."""
        return list(self.members)

    def to(self, device: torch.device) -> Ensemble:
        """Moves all CNNs to a device."""
        for net in self.nets:
            net.to(device)
        return self

    def _batches(self, images: Images, batch: int | None) -> Iterator[Tensor]:
        """Images as the CNNs take them, float (B, 3, H, H)."""
        widest = max(net.widest_map for net in self.nets)
        for part in images.split(batch or images_at_once(widest, images.device)):
            yield to_unit(part).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def member_scores(self, images: Images, batch: int | None = None) -> dict[str, Tensor]:
        """Scores of every CNN.

        Args:
            images: uint8, shape (N, H, H, 3), on the CNNs' device.
            batch: Images at a time; None takes as many as is fastest.

        Returns:
            Probabilities by property, each of shape (N, K).
        """
        parts: dict[str, list[Tensor]] = {prop: [] for prop in self.members}
        for pixels in self._batches(images, batch):
            with autocast(images.device, self.precision):
                for prop, nets in self.members.items():
                    parts[prop].append(torch.cat([net(pixels) for net in nets], dim=1))  # (B, K)
        return {prop: torch.cat(scores) for prop, scores in parts.items()}

    def scores(self, images: Images) -> Tensor:
        """Soft votes of uint8 images (N, H, H, 3): probabilities, shape (N, P)."""
        members = self.member_scores(images)
        return torch.stack([members[prop].mean(dim=1) for prop in self.members], dim=1)

    @torch.no_grad()
    def features(self, images: Images, batch: int | None = None) -> Tensor:
        """Features of the first CNN of each property, side by side: uint8 images to (N, F)."""
        nets = [members[0] for members in self.members.values()]
        parts = []
        for pixels in self._batches(images, batch):
            with autocast(images.device, self.precision):
                parts.append(torch.cat([net.features(pixels).float() for net in nets], dim=1))
        return torch.cat(parts)

    def table(self, images: Images) -> pd.DataFrame:
        """Soft votes as a table, a column `<property>_score` each."""
        columns = [f"{prop}_score" for prop in self.members]
        return pd.DataFrame(self.scores(images).cpu().numpy(), columns=columns)


def role_plans(
    settings: CNNSettings, judge_folds: int, judge_learning_rate: Mapping[str, float]
) -> dict[str, CNNSettings]:
    """How to train the selector, as `settings` say, and the judge: other folds, seed and rates."""
    rates = {**settings.learning_rate, **judge_learning_rate}
    seed = settings.seed + 1000
    judge = replace(settings, folds=judge_folds, learning_rate=rates, seed=seed)
    return {"selector": settings, "judge": judge}


def split_table(halves: Mapping[str, np.ndarray], img_no: pd.Series) -> pd.DataFrame:
    """Which image trains whom: role, img_no."""
    parts = {role: img_no.iloc[rows] for role, rows in halves.items()}
    return pd.concat(parts, names=["role"]).reset_index("role")


def import_cnns(source: Path, properties: Sequence[str], folder: Path) -> str:
    """Takes over trained CNNs, each from a file with its property in its name.

    Args:
        source: Folder of `.pth` or `.safetensors` files.
        properties: Which to take.
        folder: Gets `<property>-fold<k>.safetensors`.

    Returns:
        What was taken over, a sentence.

    Raises:
        ValueError: If a property has none, or a file is unreadable or another property's.
    """
    visible = (path for path in sorted(source.iterdir()) if not path.name.startswith("."))
    files = [path for path in visible if path.suffix in WEIGHTS]
    folder.mkdir(parents=True, exist_ok=True)
    counts = {}
    for prop in properties:
        name = re.compile(rf"(?<![A-Za-z]){re.escape(prop)}(?![A-Za-z])")
        mine = [path for path in files if name.search(path.stem)]
        if not mine:
            raise ValueError(
                f"{source}: no file has {prop!r} in its name; it has "
                f"{[path.name for path in files][:8]}. Name them as {prop}_0.pth."
            )
        for k, path in enumerate(mine):
            net = load_property_cnn(path)
            if net.prop != prop:
                raise ValueError(f"{path}: is a CNN for {net.prop!r} by its tensors, not {prop!r}")
            save_weights(net, folder / f"{prop}-fold{k}.safetensors")
        counts[prop] = len(mine)
    return "Taken over: " + ", ".join(f"{n} CNNs for {prop}" for prop, n in counts.items()) + "."


def fold_table(folds: Sequence[Fold]) -> pd.DataFrame:
    """A row a fold: property, fold, AUROC and loss on its validation images, attempts, epochs."""
    names = ("prop", "fold", "auroc", "best_loss", "attempts")
    rows = [[getattr(f, n) for n in names] + [len(f.history)] for f in folds]
    return pd.DataFrame(rows, columns=["property", *names[1:], "epochs"])


def history_table(folds: Sequence[Fold]) -> pd.DataFrame:
    """Loss curves of all folds: property, fold, epoch, train_loss, valid_loss."""
    return pd.concat([f.history.assign(property=f.prop, fold=f.fold) for f in folds])


def save_folds(folds: Sequence[Fold], folder: Path, role: str) -> None:
    """Writes `<role>-folds.csv` and `<role>-history.csv`, which a page is drawn from."""
    save_table(folder / f"{role}-folds.csv", fold_table(folds))
    save_table(folder / f"{role}-history.csv", history_table(folds))


def unseen_scores(ensemble: Ensemble, images: Images, labels: pd.DataFrame) -> pd.DataFrame:
    """Scores of images the ensemble never saw, tidy: image, property, score, label."""
    scores = ensemble.scores(images).cpu().numpy()
    parts = [
        pd.DataFrame({
            "image": labels.index, "property": prop, "score": scores[:, k],
            "label": labels[prop].to_numpy(),
        })
        for k, prop in enumerate(ensemble.properties)
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def unseen_auroc(scores: pd.DataFrame) -> dict[str, float]:
    """AUROC of each property from a table of `unseen_scores`."""
    groups = scores.groupby("property", sort=False)
    return {prop: float(roc_auc_score(g["label"], g["score"])) for prop, g in groups}


def load_ensemble(
    folder: Path,
    properties: Sequence[str],
    *,
    device: torch.device | str = "cpu",
    precision: str = "float32",
) -> Ensemble:
    """Reads the CNNs of the properties from a folder.

    Raises:
        ValueError: If a property has no CNN there, or a file is unreadable.
    """
    members = {}
    for prop in properties:
        paths = sorted(Path(folder).glob(f"{prop}-fold*.safetensors"))
        if not paths:
            there = sorted({p.name.rsplit("-fold", 1)[0] for p in Path(folder).glob("*-fold*")})
            raise ValueError(
                f"{folder}: no CNN for property {prop!r}; there are CNNs for {there}. Train it in "
                f"03_train_property_cnn, or leave it out of `concept`."
            )
        members[prop] = [load_property_cnn(path) for path in paths]
    return Ensemble(members, precision=precision).to(torch.device(device))
