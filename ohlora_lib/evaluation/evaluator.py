"""Evaluating a generator: sample, score by selector and judge, measure diversity and distances.

Stage 5 evaluates every few batches, for a row of its log; stage 6 evaluates the base and every
checkpoint on many samples.
Axes: S samples, H image height, P properties, F features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ohlora_lib.evaluation.distances import DiversityScale, compare_features
from ohlora_lib.evaluation.independent import IndependentJudge
from ohlora_lib.io.images import Images, to_tensor
from ohlora_lib.io.weights import load_generator, read_tensors
from ohlora_lib.nets.samples import sample_images
from ohlora_lib.nets.style_generator import StyleGenerator
from ohlora_lib.properties.ensemble import Ensemble
from ohlora_lib.training.checkpoint import tensors_sha256

FIXED_SEED_OFFSET = 1_000_003  # keeps stage 5's fixed latents apart from every fresh draw
MEASURED = 1000  # samples compared with the same number of population images
FIXED_SHOWN = 36  # images of fixed latents that stage 6 keeps to show


@dataclass(frozen=True)
class Evaluation:
    """Figures of one evaluation and the images of the fixed latents."""

    row: dict[str, float]
    fixed_images: np.ndarray  # uint8, (S, H, H, 3)


@dataclass(frozen=True)
class Judged:
    """One generator judged: its row of figures, the scores of its samples, some of its images."""

    row: dict[str, float | str]
    samples: pd.DataFrame  # one row per sample: stage, epoch, kind ("fresh" or "same" latents),
    # latent_seed and latent (its number in `draw_latents`), <property>_score,
    # heldout_<property>_score and, where there is such a judge, independent_<property>_score
    fixed_images: np.ndarray  # uint8, (at most 36, H, H, 3)

    def by(self, judge: str, kind: str = "fresh") -> pd.DataFrame:
        """Scores by the "heldout" or "independent" judge, one row per sample, by property."""
        table = self.samples[self.samples["kind"] == kind].filter(regex=f"^{judge}_")
        table = table.reset_index(drop=True)
        return table.rename(columns=lambda name: name[len(f"{judge}_") : -len("_score")])


@dataclass(eq=False)
class Evaluator:
    """Scores a generator's samples: from fresh latents and from the same fixed latents."""

    selector: Ensemble  # chose the training images
    judge: Ensemble  # held out; its features carry diversity and distances
    selected: InitVar[Images]  # the selected images, uint8, (N, H, H, 3), on the device
    samples: int = 100  # number S of samples of each kind
    seed: int = 0  # draws the latents
    precision: str = "float32"  # number format to draw in
    independent: IndependentJudge | None = None  # scores the fresh samples of `judged` too

    def __post_init__(self, selected: Images) -> None:
        self.features = self.judge.features(selected)  # (N, F)
        self.diversity = DiversityScale(self.features, self.samples, seed=self.seed)

    def facts(self) -> dict[str, Any]:
        """Settings and CNN hashes that determine an evaluation's figures; resuming checks them."""
        return {
            "samples": self.samples,
            "evaluation_seed": self.seed,
            "properties": self.selector.properties,
            "selector_sha256": _sha256(self.selector),
            "judge_sha256": _sha256(self.judge),
        }

    def draw(self, generator: StyleGenerator, **place: int) -> Tensor:
        """Samples with fixed noise, uint8 (S, H, H, 3); `place` is for `sample_images`."""
        training = generator.training
        generator.eval()  # otherwise sampling would update the running mean of w
        draws = sample_images(generator, self.samples, precision=self.precision, **place)
        images = torch.cat(list(draws))  # (S, H, H, 3)
        generator.train(training)
        return images

    def __call__(self, generator: StyleGenerator, index: int) -> Evaluation:
        """Evaluates; `index` numbers the evaluation, to redraw its fresh latents."""
        size = self.samples
        fresh = self.draw(generator, seed=self.seed, batch=size, start=index * size)
        fixed = self.draw(generator, seed=self.seed + FIXED_SEED_OFFSET, batch=size)
        both = torch.cat([fresh, fixed])  # (2S, H, H, 3)
        selector, judge = self.selector.scores(both), self.judge.scores(both)  # (2S, P) each
        parts = selector[:size], judge[:size], selector[size:], judge[size:]
        row = {}
        for kind, part in zip(("mean", "heldout", "fixed", "fixed_heldout"), parts, strict=True):
            names = [f"{kind}_{prop}_score" for prop in self.selector.properties]
            row |= dict(zip(names, part.mean(0).tolist(), strict=True))
        row["diversity"], row["recall"] = self.diversity(self.judge.features(fresh))
        return Evaluation(row, fixed.cpu().numpy())

    def fresh(self, generator: StyleGenerator, index: int) -> Tensor:
        """The fresh samples on which a generator was judged, uint8 (S, H, H, 3)."""
        return self.draw(generator, seed=self.seed + 1 + index)

    def judged(self, generator: StyleGenerator, index: int, **facts: float | str) -> Judged:
        """Judges one generator; each `index` has fresh latents of its own."""
        latent_seeds = {"fresh": self.seed + 1 + index, "same": self.seed}
        images = {kind: self.draw(generator, seed=seed) for kind, seed in latent_seeds.items()}
        tables = {}
        for kind, seed in latent_seeds.items():
            latents = {"kind": kind, "latent_seed": seed, "latent": range(self.samples)}
            where = pd.DataFrame(facts | latents).drop(columns="images_seen", errors="ignore")
            tables[kind] = where.join(self.scores_of(images[kind]))
        row = dict(facts)
        for prefix, table in zip(("", "fixed_"), tables.values(), strict=True):
            row |= {f"{prefix}{k}": v for k, v in table.filter(like="_score").mean().items()}
        features = self.judge.features(images["fresh"])
        row["diversity"], row["recall"] = self.diversity(features)
        distances = compare_features(self.features, features)
        row["recall_raw"] = distances.pop("recall")
        shown = images["same"][:FIXED_SHOWN].cpu().numpy()
        return Judged(row | distances, pd.concat(tables.values(), ignore_index=True), shown)

    def scores_of(self, images: Tensor) -> pd.DataFrame:
        """Scores of images, uint8 (S, H, H, 3), by all judges: see `Judged.samples`."""
        tables = [self.selector.table(images), self.judge.table(images).add_prefix("heldout_")]
        if self.independent:
            tables.append(self.independent.table(images).add_prefix("independent_"))
        return pd.concat(tables, axis=1)

    def judge_all(
        self,
        base: StyleGenerator,
        checkpoints: Sequence[Path],
        device: torch.device,
        *,
        shown: bool,
    ) -> Iterator[Judged]:
        """Judges the base, then the checkpoints; if `shown`, only the middle and last."""
        last = len(checkpoints)
        chosen = {(last + 1) // 2, last} if shown else range(last + 1)
        yield self.judged(base, 0, stage="base", epoch=0, images_seen=0)
        for k, path in enumerate(checkpoints, start=1):
            if k in chosen:
                facts = read_tensors(path)[1]
                seen = {"epoch": int(facts["epochs"]), "images_seen": int(facts["images_seen"])}
                yield self.judged(load_generator(path).to(device), k, stage="checkpoint", **seen)


def find_checkpoints(run_folder: Path) -> list[Path]:
    """Lists the generator checkpoints of a run, oldest first; ValueError without any."""
    paths = sorted((run_folder / "checkpoints").glob("generator-epoch*.safetensors"))
    if not paths:
        raise ValueError(f"{run_folder}: no checkpoints to evaluate. Run the fine-tuning first.")
    return paths


def _sha256(cnns: Ensemble) -> str:
    return tensors_sha256({
        f"{prop}.{k}.{name}": value
        for prop, nets in cnns.members.items()
        for k, net in enumerate(nets)
        for name, value in net.state_dict().items()
    })  # fmt: skip


def measure_base(
    generator: StyleGenerator,
    population: np.ndarray,
    judge: Ensemble,
    *,
    seed: int,
    precision: str,
) -> pd.DataFrame:
    """How closely samples of a base match a population, on features of the held-out judge.

    The generator is on the judge's device; the population is uint8, shape (N, H, H, 3).

    Returns:
        Fréchet distance, precision and recall of `base` and of `population`: one half of
        its images against the other, which are the best values attainable.

    Raises:
        ValueError: If the sizes of the images differ.
    """
    place, size = next(generator.parameters()).device, population.shape[1]
    if generator.image_px != size:
        raise ValueError(f"the base draws {generator.image_px} px, but the population's images "
                         f"have {size} px; use one `image_px` for population, base and CNNs"
                         )  # fmt: skip
    images = population[:: max(len(population) // (2 * MEASURED), 1)][: 2 * MEASURED]
    count = len(images) // 2
    drawn = torch.cat([*sample_images(generator, count, seed=seed, precision=precision)])
    parts = {"base": drawn, "population": to_tensor(images[1 : 2 * count : 2], place)}
    real = judge.features(to_tensor(images[: 2 * count : 2], place))
    found = {name: compare_features(real, judge.features(part)) for name, part in parts.items()}
    return pd.DataFrame(found).T
