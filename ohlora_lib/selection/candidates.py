"""Scores candidate images batch by batch and keeps what has the look; memory stays flat.

Axes: N candidates, K kept, B batch, H image height.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ohlora_lib.evaluation.distances import compare_features
from ohlora_lib.io.images import StoreWriter, new_store, open_store, to_tensor
from ohlora_lib.nets import Generator
from ohlora_lib.population.labels import match_rows, read_table
from ohlora_lib.properties.ensemble import Ensemble
from ohlora_lib.selection.select import Selection, sample_images, select
from ohlora_lib.study.conditions import Condition
from ohlora_lib.study.run_files import check_inside, read_config
from ohlora_lib.study.run_folder import project_root

BATCH = 100
EXAMPLES = 48  # images thrown away that are shown
MEASURED = 1000  # samples that are compared with as many images of a population


@dataclass(frozen=True)
class Chosen:
    """Scores of all candidates, and the images that were kept."""

    scores: pd.DataFrame  # (N, P), columns <property>_score
    selection: Selection
    kept: np.ndarray  # uint8, (K, H, H, 3), memory-mapped
    thrown: np.ndarray  # uint8, (at most 48, H, H, 3)

    def table(self) -> pd.DataFrame:
        """A row a candidate: img_no, its scores, whether it was kept."""
        names = [name for name in self.scores if name.endswith("_score")]
        scores = self.scores[names].rename_axis("img_no").reset_index()
        return scores.assign(kept=self.selection.kept.astype(int))

    def means(self) -> pd.DataFrame:
        """Mean scores of all candidates and of those kept, a row a property."""
        scores = self.scores.filter(like="_score")
        return pd.DataFrame(
            {"candidates": scores.mean(), "kept": scores[self.selection.kept].mean()}
        )


def judge_overlap(kept: np.ndarray, cnn_run: Path) -> int:
    """How many kept images the held-out judge learned from, pixel for pixel.

    Args:
        kept: uint8, shape (K, H, H, 3).
        cnn_run: Run folder of `03_train_property_cnn`.
    """
    run = project_root() / str(read_config(cnn_run).get("population_run", ""))
    check_inside(run, project_root())
    split = read_table(cnn_run / "split.csv", ["img_no", "role"])
    population = open_store(run / "images" / "images.npy")
    learned = {
        hash(population[row].tobytes()) for row in split.loc[split["role"] == "judge", "img_no"]
    }
    return sum(hash(image.tobytes()) in learned for image in kept)


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
    check_size(judge, generator.image_px)
    place = next(generator.parameters()).device
    images = population[:: max(len(population) // (2 * MEASURED), 1)][: 2 * MEASURED]
    count = len(images) // 2
    drawn = torch.cat([*sample_images(generator, count, seed=seed, precision=precision)])
    parts = {"base": drawn, "population": to_tensor(images[1 : 2 * count : 2], place)}
    real = judge.features(to_tensor(images[: 2 * count : 2], place))
    found = {name: compare_features(real, judge.features(part)) for name, part in parts.items()}
    return pd.DataFrame(found).T


def stored(images: np.ndarray, device: torch.device) -> Iterator[Tensor]:
    """Images of a store, uint8 (B, H, H, 3), a batch at a time on the device."""
    for first in range(0, len(images), BATCH):
        yield to_tensor(images[first : first + BATCH], device)


def align_scores(scores: pd.DataFrame, files: pd.DataFrame, source: str) -> pd.DataFrame:
    """Puts rows of scores in the order of a population's images; images without a row get none.

    Args:
        scores: A row an image, with its file's name or `img_no`.
        files: The population's files.
        source: Begins error messages.

    Raises:
        ValueError: If the rows do not say which image they are about; one line.
    """
    rows = match_rows(scores, files, source)
    numbers = files["img_no"].reindex(rows).set_axis(scores.index)
    known = numbers.notna()
    found = scores[known].set_index(numbers[known].astype("int64"))
    return found.reindex(range(int(files["img_no"].max()) + 1)).reset_index(drop=True)


def choose_rows(
    scores: pd.DataFrame, wanted: Sequence[Condition], *, skip_first: int = 0
) -> Chosen:
    """Keeps rows of a table of scores whose images are elsewhere.

    Raises:
        ValueError: If nothing is kept (says what to loosen).
    """
    none = joined([])
    return Chosen(scores, select(scores, wanted, skip_first=skip_first), none, none)


def choose(
    batches: Iterable[Tensor],
    selector: Ensemble | pd.DataFrame,
    wanted: Sequence[Condition],
    path: Path,
    *,
    skip_first: int = 0,
) -> Chosen:
    """Scores batches of images and writes those that meet every condition to a store.

    Args:
        batches: uint8, shape (B, H, H, 3), on the selector's device.
        selector: Scores them; or a table of their scores, made elsewhere, in their order.
        wanted: Conditions.
        path: Store to write.
        skip_first: Number of first images left out.

    Raises:
        ValueError: If nothing is kept (says what to loosen); nothing is written then.
    """
    batches = iter(batches)
    batch = next(batches)
    image_px = batch.shape[1]
    if isinstance(selector, Ensemble):
        check_size(selector, image_px)
    with new_store(path, image_px) as store:
        part = score_part(chain([batch], batches), selector, wanted, store, skip_first=skip_first)
        selection = select(part.scores, wanted, skip_first=skip_first)
    return Chosen(part.scores, selection, open_store(path), part.thrown)


@dataclass(frozen=True)
class Part:
    """Some candidates in a row, scored; the images that were kept are in a store."""

    scores: pd.DataFrame  # (N, P), columns <property>_score
    thrown: np.ndarray  # uint8, the first thrown away, (at most 48, H, H, 3)


def score_part(
    batches: Iterable[Tensor],
    selector: Ensemble | pd.DataFrame,
    wanted: Sequence[Condition],
    store: StoreWriter,
    *,
    start: int = 0,
    skip_first: int = 0,
) -> Part:
    """Scores batches of images and appends those that meet every condition to a store.

    Args:
        batches: uint8, shape (B, H, H, 3), on the selector's device.
        selector: Scores them; or a table of the scores of all candidates.
        wanted: Conditions.
        store: Takes what is kept.
        start: Number of candidates before the first of these.
        skip_first: Number of first images left out, of all candidates.
    """
    # One growing buffer: small tables kept between large images would scatter the memory.
    values, names, thrown, done = bytearray(), [], [], start
    for batch in batches:
        scores = _scores(selector, batch, done)
        flags = np.logical_and.reduce([c.holds(scores[f"{c.prop}_score"]) for c in wanted])
        flags &= np.arange(done, done + len(batch)) >= skip_first
        pixels = batch.cpu().numpy()
        store.append(pixels[flags])
        _hold(thrown, pixels[~flags], EXAMPLES)
        if isinstance(selector, Ensemble):
            names = list(scores)
            values += scores.to_numpy(dtype=np.float32).tobytes()
        done += len(batch)
    if isinstance(selector, Ensemble):
        table = pd.DataFrame(
            np.frombuffer(values, np.float32).reshape(-1, len(names)), columns=names
        )
    else:
        table = selector.iloc[start:done].reset_index(drop=True)
    return Part(table, joined(thrown))


def check_size(selector: Ensemble, image_px: int) -> None:
    """Raises ValueError if the CNNs were trained at another image size."""
    sizes = {net.image_px for nets in selector.members.values() for net in nets}
    if sizes != {image_px}:
        raise ValueError(
            f"the images to choose from have {image_px} px, the property CNNs read "
            f"{sorted(sizes)} px; population, base and CNNs need one `image_px`"
        )


def _scores(selector: Ensemble | pd.DataFrame, batch: Tensor, done: int) -> pd.DataFrame:
    if isinstance(selector, Ensemble):
        return selector.table(batch)
    return selector.iloc[done : done + len(batch)]


def _hold(held: list[np.ndarray], images: np.ndarray, most: int) -> None:
    """Adds images to a list, up to so many in all."""
    room = most - sum(map(len, held))
    if room > 0 and len(images):
        held.append(images[:room])


def joined(held: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenates images, uint8 (n, H, H, 3) each; no images give an empty array."""
    return np.concatenate(held) if held else np.empty((0, 1, 1, 3), dtype=np.uint8)
