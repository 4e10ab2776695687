"""Samples and scores candidates in chunks, and keeps the images that have the look.

Each finished chunk is a file: memory stays flat, and a stage that was stopped resumes at the next
chunk, with the same result to the last bit.
Axes: N candidates, B of a chunk, K kept, P properties, H image height.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import ohlora_lib
from ohlora_lib.io.disk import atomic_path, sha256
from ohlora_lib.io.images import new_store, open_store, to_tensor
from ohlora_lib.io.weights import load_generator
from ohlora_lib.nets import Generator
from ohlora_lib.nets.samples import sample_images
from ohlora_lib.population.labels import match_rows, read_table
from ohlora_lib.properties.ensemble import Ensemble, load_ensemble
from ohlora_lib.selection.select import Selection, read_scores, select
from ohlora_lib.study.look import Condition, conditions
from ohlora_lib.study.machine import track
from ohlora_lib.study.parameters import SelectImages
from ohlora_lib.study.run import Run
from ohlora_lib.study.run_folder import check_inside, project_root, read_config

CHUNK = 100  # candidates; the latents of as many samples share a random state
EXAMPLES = 48  # images thrown away that are shown


@dataclass(frozen=True)
class Candidates:
    """Images to choose from: fresh samples of a base, or images of a population.

    Args:
        source: Generator on the device, or uint8 images (N, H, H, 3).
        count: Number N of candidates.
        seed: Draws the latents of samples.
        device: Where they are drawn and scored.
        precision: Number format to draw and score in.
    """

    source: Generator | np.ndarray
    count: int
    seed: int
    device: torch.device
    precision: str

    @property
    def fresh(self) -> bool:
        """Whether they are samples, which take long to draw again."""
        return isinstance(self.source, Generator)

    @property
    def image_px(self) -> int:
        """Side H of the images, pixels."""
        return self.source.image_px if self.fresh else self.source.shape[1]

    @property
    def starts(self) -> range:
        """First candidate of each chunk."""
        return range(0, self.count, CHUNK)

    def draw(self, start: int) -> Tensor:
        """One chunk, uint8 (B, H, H, 3), on the device."""
        if not self.fresh:
            return to_tensor(self.source[start : start + CHUNK], self.device)
        size, options = min(CHUNK, self.count - start), {"seed": self.seed, "start": start}
        options |= {"batch": CHUNK, "precision": self.precision}
        return next(sample_images(self.source, size, **options))

    def where(self, flags: np.ndarray) -> Iterator[np.ndarray]:
        """Candidates with a flag, in order, uint8 (b, H, H, 3), from a chunk at a time."""
        for start in self.starts:
            rows = np.flatnonzero(flags[start : start + CHUNK])
            if len(rows):
                yield self.draw(start).cpu().numpy()[rows]


@dataclass(frozen=True)
class Chosen:
    """Scores of all candidates, the images that were kept, and some that were thrown away."""

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


def find_candidates(
    config: SelectImages, run: Run, judge: Ensemble | None, *, device: torch.device, precision: str
) -> Candidates | None:
    """The images that `candidates` of the parameters names; None for a table of scores alone.

    Raises:
        ValueError: If the judge's CNNs were trained at another image size.
    """
    if config.candidates == "table":
        return None
    if config.candidates == "base":
        source = load_generator(run.inputs["base_run"] / "generator.safetensors").to(device)
        found = Candidates(source, config.samples, config.seed, device, precision)
    else:
        source = open_store(run.inputs["population_run"] / "images" / "images.npy")
        found = Candidates(source, len(source), config.seed, device, precision)
    check_size(judge, found.image_px)
    return found


def score(config: SelectImages, run: Run, offered: Candidates | None) -> pd.DataFrame:
    """Scores of all candidates: of the table that is named, else by the selector, in chunks.

    Returns:
        A row a candidate, columns `<property>_score`. Those of a finished run are read.

    Raises:
        ValueError: If a table cannot be read, or the images do not fit the CNNs; one line.
    """
    wanted = conditions(config.concept, config.keep)
    if config.scores_csv:
        table = read_scores(project_root() / config.scores_csv, wanted)
        if offered is None:
            return table
        files = read_table(run.inputs["population_run"] / "files.csv", ["file"])
        return align_scores(table, files, config.scores_csv)
    if run.finished:
        columns = [f"{prop}_score" for prop in config.concept]
        return read_table(run.path / "scores.csv", columns)[columns].astype(np.float32)
    folder = chunk_folder(run, offered)
    for left in folder.parent.glob("*"):
        if left != folder:
            shutil.rmtree(left)
    options = {"device": offered.device, "precision": offered.precision}
    selector = load_ensemble(run.inputs["cnn_run"] / "selector", list(config.concept), **options)
    return score_chunks(offered, selector, wanted, folder, skip_first=config.skip_first)


def chunk_folder(run: Run, offered: Candidates) -> Path:
    """Where finished chunks are; another place for all that would make them different."""
    inputs = [sha256(folder / "summary.json") for folder in run.inputs.values()]
    facts = (run.config, inputs, str(offered.device), offered.precision, ohlora_lib.__version__)
    return run.path / "chunks" / hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def score_chunks(
    offered: Candidates,
    selector: Ensemble,
    wanted: Sequence[Condition],
    folder: Path,
    *,
    skip_first: int,
) -> pd.DataFrame:
    """Scores all chunks that are not on the disk yet, with progress.

    Args:
        offered: The candidates.
        selector: Scores them.
        wanted: Conditions; samples that meet all are kept beside the scores.
        folder: Gets a file a chunk.
        skip_first: Number of first candidates left out.
    """
    check_size(selector, offered.image_px)
    for start in track(offered.starts, "Scoring"):
        file = folder / f"{start:08d}.npz"
        if file.is_file():
            continue
        images = offered.draw(start)
        scores = selector.table(images)
        part = {"scores": scores.to_numpy()}  # float32, (B, P)
        if offered.fresh:
            flags = np.logical_and.reduce([c.holds(scores[f"{c.prop}_score"]) for c in wanted])
            flags &= np.arange(start, start + len(scores)) >= skip_first
            part["kept"] = images.cpu().numpy()[flags]
        with atomic_path(file) as path, path.open("wb") as opened:
            np.savez(opened, **part)
    scores = np.concatenate([*_read_chunks(folder, "scores")])
    return pd.DataFrame(scores, columns=[f"{prop}_score" for prop in selector.properties])


def _read_chunks(folder: Path, name: str) -> Iterator[np.ndarray]:
    for file in sorted(folder.glob("[0-9]*.npz")):
        with np.load(file) as part:
            yield part[name]


def choose(
    config: SelectImages,
    run: Run,
    offered: Candidates | None,
    scores: pd.DataFrame,
    *,
    foreign: str = "",
) -> Chosen:
    """Keeps the candidates that meet every condition, in `images/selected.npy` of the run.

    Args:
        config: With the conditions.
        run: Gets the images; those of a finished run are read.
        offered: The candidates; None where there is a table of scores alone.
        scores: From `score`.
        foreign: What to do instead of loosening, where the images are of something else.

    Raises:
        ValueError: If nothing is kept (says what to do); nothing is written then.
    """
    wanted = conditions(config.concept, config.keep)
    selection = select(scores, wanted, skip_first=config.skip_first, foreign=foreign)
    path = run.path / "images" / "selected.npy"
    none = np.empty((0, 1, 1, 3), dtype=np.uint8)
    if offered is None:
        path.unlink(missing_ok=True)
        return Chosen(scores, selection, none, none)
    if not run.finished:
        _store_kept(offered, selection.kept, chunk_folder(run, offered), path)
    thrown = ~selection.kept
    thrown = [*offered.where(thrown & (thrown.cumsum() <= EXAMPLES))]
    return Chosen(scores, selection, open_store(path), np.concatenate(thrown) if thrown else none)


def _store_kept(offered: Candidates, kept: np.ndarray, folder: Path, path: Path) -> None:
    """Writes what is kept and removes the chunks; samples whose chunks are gone are redrawn."""
    saved = offered.fresh and folder.is_dir()
    images = _read_chunks(folder, "kept") if saved else offered.where(kept)
    with new_store(path, offered.image_px) as store:
        for part in images:
            store.append(part)
    shutil.rmtree(folder.parent, ignore_errors=True)


def align_scores(scores: pd.DataFrame, files: pd.DataFrame, source: str) -> pd.DataFrame:
    """Puts rows of scores in the order of a population's images; images without a row get none.

    Args:
        scores: A row an image, with its file's name or `img_no`.
        files: The population's files.
        source: Begins error messages.

    Raises:
        ValueError: If the rows do not say which image they are about; one line.
    """
    rows = match_rows(scores, files["file"].tolist(), source)
    numbers = files["img_no"].reindex(rows).set_axis(scores.index)
    known = numbers.notna()
    found = scores[known].set_index(numbers[known].astype("int64"))
    return found.reindex(range(int(files["img_no"].max()) + 1)).reset_index(drop=True)


def check_size(selector: Ensemble, image_px: int) -> None:
    """Raises ValueError if the CNNs were trained at another image size."""
    sizes = {net.image_px for nets in selector.members.values() for net in nets}
    if sizes != {image_px}:
        raise ValueError(
            f"the images to choose from have {image_px} px, the property CNNs read "
            f"{sorted(sizes)} px; population, base and CNNs need one `image_px`"
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
