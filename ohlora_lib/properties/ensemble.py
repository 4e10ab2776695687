"""Scores images with property CNNs.

Two ensembles share this code: the selector, which only chooses the training images, and the
held-out judge, which is trained on other labels and only evaluates.
Axes: N images, B batch, H image height, P properties, K CNNs per property, F features.
A compact CNN scores several properties with one shared trunk.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ohlora_lib.io.images import Images
from ohlora_lib.io.pictures import WEIGHTS
from ohlora_lib.io.weights import load_property_cnn, save_weights
from ohlora_lib.nets import CompactCNN, PropertyCNN
from ohlora_lib.nets.compute import autocast, images_at_once
from ohlora_lib.nets.samples import to_unit
from ohlora_lib.study.machine import counted

if TYPE_CHECKING:
    from ohlora_lib.properties.baseline import PixelRidge

CNN = PropertyCNN | CompactCNN
FRAME, MEAN_OF = (255, 0, 0), 500  # colour; images


class Ensemble:
    """The CNNs of all properties; a property's score is the soft vote of its CNNs.

    Args:
        members: CNNs per property, in the order of the concept; a CNN may serve several.
        precision: Number format used for scoring.
    """

    def __init__(
        self, members: Mapping[str, Sequence[CNN]], *, precision: str = "float32"
    ) -> None:
        self.members = {prop: list(nets) for prop, nets in members.items()}
        self.precision = precision
        self.nets = list(dict.fromkeys(net for nets in self.members.values() for net in nets))
        for net in self.nets:
            net.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @property
    def properties(self) -> list[str]:
        """Property names, in order."""
        return list(self.members)

    def to(self, device: torch.device) -> Ensemble:
        """Moves all CNNs to a device."""
        for net in self.nets:
            net.to(device)
        return self

    def as_trained(self) -> Ensemble:
        """Returns a copy whose scores are uncalibrated."""
        other = copy.deepcopy(self)
        for net in other.nets:
            if isinstance(net, CompactCNN):
                net.calibration.copy_(torch.tensor([[1.0], [0.0]]).expand_as(net.calibration))
        return other

    def _batches(self, images: Images) -> Iterator[Tensor]:
        """Yields CNN inputs, float (B, 3, H, H), in the batch size that runs fastest."""
        widest = max(net.widest_map for net in self.nets)
        for part in images.split(images_at_once(widest, images.device)):
            yield to_unit(part).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def member_scores(self, images: Images) -> dict[str, Tensor]:
        """Scores uint8 images (N, H, H, 3), on the CNNs' device: (N, K) for each property."""
        parts: dict[str, list[Tensor]] = {prop: [] for prop in self.members}
        for pixels in self._batches(images):
            with autocast(images.device, self.precision):
                said = {net: net(pixels) for net in self.nets}  # (B, properties of the CNN) each
            for prop, nets in self.members.items():
                columns = [said[net][:, net.properties.index(prop)] for net in nets]
                parts[prop].append(torch.stack(columns, dim=1))  # (B, K)
        return {prop: torch.cat(scores) for prop, scores in parts.items()}

    def scores(self, images: Images) -> Tensor:
        """Soft votes for uint8 images (N, H, H, 3): probabilities, shape (N, P).

        A vote averages the probabilities of a property's CNNs. For compact CNNs, which are
        calibrated, it averages logits: a mean of calibrated probabilities is underconfident.
        """
        scores = self.member_scores(images)
        return torch.stack([self.vote(prop, each) for prop, each in scores.items()], dim=1)

    def vote(self, prop: str, scores: Tensor) -> Tensor:
        """The soft vote, (N,), of a property's CNNs, which gave these scores, (N, K)."""
        if all(isinstance(net, CompactCNN) for net in self.members[prop]):
            return torch.logit(scores, eps=1e-7).mean(dim=1).sigmoid()
        return scores.mean(dim=1)

    @torch.no_grad()
    def features(self, images: Images) -> Tensor:
        """Concatenates the features of each property's first CNN, (N, F), for uint8 images."""
        nets, parts = dict.fromkeys(members[0] for members in self.members.values()), []
        for pixels in self._batches(images):
            with autocast(images.device, self.precision):
                parts.append(torch.cat([net.features(pixels).float() for net in nets], dim=1))
        return torch.cat(parts)

    def table(self, images: Images) -> pd.DataFrame:
        """Returns soft votes as a table with columns `<property>_score`."""
        columns = [f"{prop}_score" for prop in self.members]
        return pd.DataFrame(self.scores(images).cpu().numpy(), columns=columns)


def import_cnns(source: Path, properties: Sequence[str], folder: Path) -> str:
    """Copies trained CNNs into a folder, named as `load_ensemble` expects; returns a summary.

    The source is a folder of `.pth` or `.safetensors` files, each with `compact` or a property
    in its name.

    Raises:
        ValueError: If a property has no file, or a file is unreadable or of another property.
    """
    files = [path for path in sorted(source.glob("[!.]*")) if path.suffix in WEIGHTS]
    folder.mkdir(parents=True, exist_ok=True)
    counts = {}
    for prop in properties:
        name = re.compile(rf"(?<![A-Za-z])({re.escape(prop)}|compact)(?![A-Za-z])")
        mine = [path for path in files if name.search(path.stem)]
        if not mine:
            raise ValueError(
                f"{source}: no file name contains {prop!r}; found "
                f"{[path.name for path in files][:8]}. Name the files like {prop}_0.pth."
            )
        for k, path in enumerate(mine):
            net = load_property_cnn(path)
            if prop not in net.properties:
                holds = " and ".join(map(repr, net.properties))
                raise ValueError(f"{path} holds a CNN for {holds}, not {prop!r}. Rename it.")
            kind = "compact" if isinstance(net, CompactCNN) else prop
            save_weights(net, folder / f"{kind}-fold{k}.safetensors")
        counts[prop] = len(mine)
    parts = [f"{counted(n, 'CNN')} for {prop}" for prop, n in counts.items()]
    return f"Imported {', '.join(parts)}."


def unseen_scores(
    ensemble: Ensemble | PixelRidge, images: Images, labels: pd.DataFrame
) -> pd.DataFrame:
    """Scores held-out images as a tidy table: image, property, score, label.

    Missing labels get no row.
    """
    scores = ensemble.scores(images).cpu().numpy()  # (N, P)
    table = pd.DataFrame({
        "image": np.tile(labels.index, len(ensemble.properties)),
        "property": np.repeat(ensemble.properties, len(labels)),
        "score": scores.T.ravel(),
        "label": labels[ensemble.properties].to_numpy().T.ravel(),
    })  # fmt: skip
    return table.dropna(subset=["label"], ignore_index=True)


def what_is_seen(net: CNN, images: Images, labels: np.ndarray) -> np.ndarray:
    """Draws a red frame around the crop that a CNN sees, uint8 (at most 7, H, H, 3).

    Shows the mean of up to 500 images, three images labelled 0, and three labelled 1. `images` are
    uint8 (N, H, H, 3), `labels` (N,).
    """
    rows = np.concatenate([np.flatnonzero(labels == value)[:3] for value in (0, 1)])
    mean = images[:MEAN_OF].float().mean(dim=0, keepdim=True).round().to(torch.uint8)
    pictures = torch.cat([mean, images[rows]]).cpu().numpy()
    whole = slice(0, net.image_px)
    down, across = getattr(net, "box", (whole, whole))
    pictures[:, [down.start, down.stop - 1], across] = FRAME
    pictures[:, down, [across.start, across.stop - 1]] = FRAME
    return pictures


def unseen_auroc(scores: pd.DataFrame) -> dict[str, float]:
    """AUROC of each property from a table of `unseen_scores`; 0.5 if all its labels are equal."""
    groups = scores.groupby("property", sort=False)
    return {
        prop: float(roc_auc_score(g["label"], g["score"])) if g["label"].nunique() > 1 else 0.5
        for prop, g in groups
    }


def load_ensemble(
    folder: Path,
    properties: Sequence[str],
    *,
    device: torch.device | str = "cpu",
    precision: str = "float32",
) -> Ensemble:
    """Loads the CNNs of the properties from a folder.

    Raises:
        ValueError: If the folder has no CNN for a property, or a file is unreadable.
    """
    paths = sorted(Path(folder).glob("*-fold*.safetensors"))
    names = {"compact", *properties}
    nets = [load_property_cnn(p) for p in paths if p.stem.rpartition("-fold")[0] in names]
    members = {}
    for prop in properties:
        members[prop] = [net for net in nets if prop in net.properties]
        if not members[prop]:
            known = {name for net in nets for name in net.properties}
            there = sorted(known | {p.stem.rpartition("-fold")[0] for p in paths} - {"compact"})
            raise ValueError(
                f"{folder}: no CNN for property {prop!r}; there are CNNs for {there}. Train one "
                f"in 03_train_property_cnn, or remove {prop!r} from `concept`."
            )
    return Ensemble(members, precision=precision).to(torch.device(device))
