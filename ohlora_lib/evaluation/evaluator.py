"""Evaluation while fine-tuning: sample, score by selector and judge, measure diversity.

Axes: S samples, H image height, P properties.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ohlora_lib.evaluation.distances import DiversityScale
from ohlora_lib.io.images import Images
from ohlora_lib.nets import Generator
from ohlora_lib.properties.ensemble import Ensemble
from ohlora_lib.selection.select import sample_images
from ohlora_lib.training.checkpoint import tensors_sha256

FIXED_SEED_OFFSET = 1_000_003  # keeps the fixed latents apart from every fresh draw


@dataclass(frozen=True)
class Evaluation:
    """Figures of one evaluation and the images of the fixed latents."""

    row: dict[str, float]
    fixed_images: np.ndarray  # uint8, (S, H, H, 3)


class Evaluator:
    """Scores a generator's samples, each time fresh ones and the same fixed latents.

    Args:
        selector: Ensemble that chose the training images.
        judge: Held-out ensemble.
        selected: The selected images, uint8, shape (N, H, H, 3), on the device.
        samples: Number S of samples of each kind.
        seed: Draws the latents.
        precision: Number format to draw in.
    """

    def __init__(
        self,
        selector: Ensemble,
        judge: Ensemble,
        selected: Images,
        *,
        samples: int = 100,
        seed: int = 0,
        precision: str = "float32",
    ) -> None:
        self.selector, self.judge = selector, judge
        self.samples, self.seed, self.precision = samples, seed, precision
        self.diversity = DiversityScale(judge.features(selected), samples, seed=seed)

    def facts(self) -> dict[str, Any]:
        """What decides the figures of an evaluation, for whoever must know it is the same."""
        cnns = {"selector_sha256": self.selector, "judge_sha256": self.judge}
        return {
            "samples": self.samples,
            "evaluation_seed": self.seed,
            "properties": self.selector.properties,
            **{name: tensors_sha256(_tensors(cnn)) for name, cnn in cnns.items()},
        }

    def draw(self, generator: Generator, *, seed: int, index: int) -> Tensor:
        """Samples with fixed noise, uint8 (S, H, H, 3); training mode is left as it was."""
        training = generator.training
        generator.eval()  # else the running mean of w would follow the samples
        places = {"seed": seed, "batch": self.samples, "start": index * self.samples}
        draws = sample_images(generator, self.samples, precision=self.precision, **places)
        images = torch.cat(list(draws))  # (S, H, H, 3)
        generator.train(training)
        return images

    def __call__(self, generator: Generator, index: int) -> Evaluation:
        """Evaluates; `index` numbers the evaluation, so that fresh latents can be drawn again."""
        fresh = self.draw(generator, seed=self.seed, index=index)
        fixed = self.draw(generator, seed=self.seed + FIXED_SEED_OFFSET, index=0)
        both = torch.cat([fresh, fixed])  # (2S, H, H, 3)
        row: dict[str, float] = {}
        selector, judge = self.selector.scores(both), self.judge.scores(both)  # (2S, P) each
        kinds = {
            "mean": selector[: len(fresh)],
            "heldout": judge[: len(fresh)],
            "fixed": selector[len(fresh) :],
            "fixed_heldout": judge[len(fresh) :],
        }
        for kind, part in kinds.items():
            for prop, value in zip(self.selector.properties, part.mean(0).tolist(), strict=True):
                row[f"{kind}_{prop}_score"] = value
        row["diversity"], row["recall"] = self.diversity(self.judge.features(fresh))
        return Evaluation(row, fixed.cpu().numpy())


def _tensors(cnns: Ensemble) -> dict[str, Tensor]:
    return {
        f"{prop}.{k}.{name}": value
        for prop, nets in cnns.members.items()
        for k, net in enumerate(nets)
        for name, value in net.state_dict().items()
    }
