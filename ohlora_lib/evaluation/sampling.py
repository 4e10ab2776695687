"""Evaluation sampling: judges a base and every checkpoint of a run again, with many samples.

Axes: S samples, H image height, P properties, F features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ohlora_lib.evaluation.distances import DiversityScale, compare_features
from ohlora_lib.io.images import Images, to_tensor
from ohlora_lib.io.weights import load_generator, read_tensors
from ohlora_lib.nets import Generator
from ohlora_lib.nets.samples import sample_images
from ohlora_lib.properties.ensemble import Ensemble

FIXED_SHOWN = 36  # images of fixed latents that are kept to be shown
MEASURED = 1000  # samples that are compared with as many images of a population


@dataclass(frozen=True)
class Judged:
    """One generator judged: its row of figures, its scores, some of its images."""

    row: dict[str, float | str]
    scores: pd.DataFrame  # (S, 2P): <property>_score and heldout_<property>_score
    fixed_scores: pd.DataFrame  # the same of the fixed latents
    fixed_images: np.ndarray  # uint8, (at most 36, H, H, 3)

    def heldout(self, kind: str = "scores") -> pd.DataFrame:
        """The judge's scores of fresh samples, or of fixed ones, a column a property."""
        table = getattr(self, kind).filter(regex="^heldout_")
        return table.rename(columns=lambda name: name[len("heldout_") : -len("_score")])


def find_checkpoints(run_folder: Path) -> list[Path]:
    """Generators of a run, first to last.

    Raises:
        ValueError: If there are none.
    """
    paths = sorted((run_folder / "checkpoints").glob("generator-epoch*.safetensors"))
    if not paths:
        raise ValueError(f"{run_folder}: no checkpoints to evaluate. Run the fine-tuning first.")
    return paths


class SampleJudge:
    """Judges generators against the selected images.

    Args:
        selector: Ensemble that chose the training images.
        judge: Held-out ensemble; its features carry the distances.
        selected: Selected images, uint8, shape (N, H, H, 3), on the device.
        samples: Number S of fresh and of fixed samples.
        seed: Draws the latents; the fixed ones are the same for every generator.
        precision: Number format to draw in.
    """

    def __init__(
        self,
        selector: Ensemble,
        judge: Ensemble,
        selected: Images,
        *,
        samples: int,
        seed: int,
        precision: str,
    ) -> None:
        self.selector, self.judge = selector, judge
        self.samples, self.seed, self.precision = samples, seed, precision
        self.features = judge.features(selected)
        self.scale = DiversityScale(self.features, samples, seed=seed)

    def __call__(self, generator: Generator, index: int, **facts: float | str) -> Judged:
        """Judges one generator; `index` numbers it, so that its fresh latents are its own."""
        fresh = self.fresh(generator, index)
        fixed = self._draw(generator, seed=self.seed)
        row = dict(facts)
        tables = {}
        for kind, images in (("", fresh), ("fixed_", fixed)):
            heldout = self.judge.table(images).add_prefix("heldout_")
            tables[kind] = pd.concat([self.selector.table(images), heldout], axis=1)
            row |= {f"{kind}{k}": v for k, v in tables[kind].mean().items()}
        features = self.judge.features(fresh)
        row["diversity"], row["recall"] = self.scale(features)
        distances = compare_features(self.features, features)
        row["recall_raw"] = distances.pop("recall")
        shown = fixed[:FIXED_SHOWN].cpu().numpy()
        return Judged(row | distances, tables[""], tables["fixed_"], shown)

    def fresh(self, generator: Generator, index: int) -> Tensor:
        """The fresh samples that a generator was judged by, uint8 (S, H, H, 3)."""
        return self._draw(generator, seed=self.seed + 1 + index)

    def _draw(self, generator: Generator, *, seed: int) -> Tensor:
        options = {"seed": seed, "precision": self.precision}
        return torch.cat(list(sample_images(generator, self.samples, **options)))

    def judge_all(
        self,
        base: Generator,
        checkpoints: Sequence[Path],
        device: torch.device,
        *,
        shown: bool = False,
    ) -> Iterator[Judged]:
        """Judges the base, then each checkpoint.

        Args:
            base: The generator before the fine-tuning.
            checkpoints: Weights, first to last.
            device: Where to compute.
            shown: Whether to judge only what a page shows: base, middle and last.
        """
        last = len(checkpoints)
        chosen = {0, (last + 1) // 2, last} if shown else range(last + 1)
        yield self(base, 0, stage="base", epoch=0, images_seen=0)
        for k, path in enumerate(checkpoints, start=1):
            if k not in chosen:
                continue
            facts = read_tensors(path)[1]
            seen = {"epoch": int(facts["epochs"]), "images_seen": int(facts["images_seen"])}
            yield self(load_generator(path).to(device), k, stage="checkpoint", **seen)


def measure_base(
    generator: Generator, population: np.ndarray, judge: Ensemble, *, seed: int, precision: str
) -> pd.DataFrame:
    """How close samples of a base come to a population, on features of the held-out judge.

    Args:
        generator: The base's, on the judge's device.
        population: uint8, shape (N, H, H, 3).
        judge: Held-out ensemble.
        seed: Draws the latents.
        precision: Number format to draw in.

    Returns:
        Fréchet distance, precision and recall of `base` and of `population`: as many of its
        images against as many others, the best that one can hope for.
    """
    place = next(generator.parameters()).device
    images = population[:: max(len(population) // (2 * MEASURED), 1)][: 2 * MEASURED]
    count = len(images) // 2
    drawn = torch.cat([*sample_images(generator, count, seed=seed, precision=precision)])
    parts = {"base": drawn, "population": to_tensor(images[1 : 2 * count : 2], place)}
    real = judge.features(to_tensor(images[: 2 * count : 2], place))
    found = {name: compare_features(real, judge.features(part)) for name, part in parts.items()}
    return pd.DataFrame(found).T
