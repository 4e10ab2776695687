"""Samples and scores candidates in chunks, and keeps the images that have the look.

Each finished chunk is a file: memory use stays constant, and an interrupted stage resumes at the
next chunk, with a bit-identical result.
Axes: N candidates, B per chunk, K kept, P properties, H image height.
"""

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
from ohlora_lib.nets.samples import sample_images
from ohlora_lib.nets.style_generator import StyleGenerator
from ohlora_lib.population.labels import match_rows, read_table
from ohlora_lib.properties.ensemble import load_ensemble
from ohlora_lib.selection.select import Selection, read_scores, select
from ohlora_lib.study.look import Condition, conditions
from ohlora_lib.study.machine import track
from ohlora_lib.study.parameters import SelectImages
from ohlora_lib.study.records import in_project, read_config
from ohlora_lib.study.run_folder import Run

CHUNK = 100  # candidates; the latents of one chunk share a random state
EXAMPLES = 48  # rejected images shown
NONE = np.empty((0, 1, 1, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Candidates:
    """Candidate images: fresh samples of a base, or images of a population."""

    source: StyleGenerator | np.ndarray  # on the device, or uint8 (N, H, H, 3)
    count: int  # N
    seed: int  # seeds the latents of samples
    device: torch.device  # for sampling and scoring
    precision: str  # number format for sampling and scoring

    @property
    def fresh(self) -> bool:
        """Whether the candidates are samples, which are slow to draw again."""
        return not isinstance(self.source, np.ndarray)

    @property
    def image_px(self) -> int:
        """Side H of the images in pixels."""
        return self.source.image_px if self.fresh else self.source.shape[1]

    def draw(self, start: int) -> Tensor:
        """Draws or loads one chunk, uint8 (B, H, H, 3), on the device."""
        if not self.fresh:
            return to_tensor(self.source[start : start + CHUNK], self.device)
        size = min(CHUNK, self.count - start)
        options = {"seed": self.seed, "start": start, "precision": self.precision}
        return next(sample_images(self.source, size, **options))

    def where(self, flags: np.ndarray) -> Iterator[np.ndarray]:
        """Yields the flagged candidates in order, uint8 (b, H, H, 3), chunk by chunk."""
        for start in range(0, self.count, CHUNK):
            rows = np.flatnonzero(flags[start : start + CHUNK])
            if len(rows):
                yield self.draw(start).cpu().numpy()[rows]


@dataclass(frozen=True)
class Chosen:
    """Scores of all candidates, the images kept, and examples of rejected images."""

    scores: pd.DataFrame  # (N, P), columns <property>_score
    selection: Selection
    kept: np.ndarray  # uint8, (K, H, H, 3), memory-mapped
    thrown: np.ndarray  # uint8, (at most 48, H, H, 3)

    def table(self) -> pd.DataFrame:
        """Tabulates each candidate: img_no, its scores, whether it was kept."""
        scores = self.scores.rename_axis("img_no").reset_index()
        return scores.assign(kept=self.selection.kept.astype(int))

    def means(self) -> pd.DataFrame:
        """Mean scores of all candidates and of kept images; one row per property."""
        kept = self.scores[self.selection.kept]
        return pd.DataFrame({"candidates": self.scores.mean(), "kept": kept.mean()})


def find_candidates(
    config: SelectImages, run: Run, *, device: torch.device, precision: str
) -> Candidates | None:
    """Opens the images that the parameter `candidates` names; None for a score table alone."""
    if config.candidates == "table":
        return None
    if config.candidates == "base":
        source = load_generator(run.inputs["base_run"] / "generator.safetensors").to(device)
        return Candidates(source, config.samples, config.seed, device, precision)
    source = open_store(run.inputs["population_run"] / "images" / "images.npy")
    return Candidates(source, len(source), config.seed, device, precision)


def choose(
    config: SelectImages, run: Run, offered: Candidates | None, *, foreign: str = ""
) -> Chosen:
    """Scores the candidates, and keeps each that meets every condition.

    Writes `images/selected.npy`, or reads the results of a finished run. `offered` is None for a
    score table alone; `foreign` is as in `select`. Raises ValueError, and writes no images, if a
    table is malformed, the image size does not fit the CNNs, or no image is kept.
    """
    wanted = conditions(config.concept, config.keep)
    if config.scores_csv:
        scores = _read_aligned(config, run, wanted, offered)
    elif run.finished:
        columns = [f"{prop}_score" for prop in config.concept]
        scores = read_table(run.path / "scores.csv", columns)[columns].astype(np.float32)
    else:
        scores = _score_chunks(config, run, wanted, offered)
    selection = select(scores, wanted, skip_first=config.skip_first, foreign=foreign)
    path = run.path / "images" / "selected.npy"
    if offered is None:
        path.unlink(missing_ok=True)
        return Chosen(scores, selection, NONE, NONE)
    thrown = ~selection.kept
    examples = [*offered.where(thrown & (thrown.cumsum() <= EXAMPLES))] or [NONE]
    if not run.finished:
        chunks = chunk_folder(run, offered)
        images = _read_chunks(chunks, "kept") if offered.fresh else offered.where(selection.kept)
        with new_store(path, offered.image_px) as store:
            for part in images:
                store.append(part)
        shutil.rmtree(chunks.parent, ignore_errors=True)
    return Chosen(scores, selection, open_store(path), np.concatenate(examples))


def _read_aligned(
    config: SelectImages, run: Run, wanted: Sequence[Condition], offered: Candidates | None
) -> pd.DataFrame:
    """Reads external scores in the order of the population; NaN for images without a row."""
    table = read_scores(in_project(config.scores_csv), wanted)
    if offered is not None:
        files = read_table(run.inputs["population_run"] / "files.csv", ["img_no", "file"])
        rows = match_rows(table, files["file"].tolist(), config.scores_csv)
        table.index = files["img_no"].reindex(rows)
        table = table[table.index.notna()].reindex(range(offered.count))
    return table.filter(regex="_score$").reset_index(drop=True)


def chunk_folder(run: Run, offered: Candidates) -> Path:
    """Folder of finished chunks, named by a hash of everything that determines their content."""
    inputs = [sha256(folder / "summary.json") for folder in run.inputs.values()]
    facts = (run.config, inputs, str(offered.device), offered.precision, ohlora_lib.__version__)
    return run.path / "chunks" / hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _score_chunks(
    config: SelectImages, run: Run, wanted: Sequence[Condition], offered: Candidates
) -> pd.DataFrame:
    """Scores the chunks missing on disk; stores samples that meet all conditions with them."""
    folder = chunk_folder(run, offered)
    options = {"device": offered.device, "precision": offered.precision}
    selector = load_ensemble(run.inputs["cnn_run"] / "selector", list(config.concept), **options)
    sizes = {net.image_px for nets in selector.members.values() for net in nets}
    if sizes != {offered.image_px}:
        raise ValueError(
            f"the candidate images have {offered.image_px} px, but the property CNNs expect "
            f"{sorted(sizes)} px; use one `image_px` for population, base and CNNs"
        )
    for start in track(range(0, offered.count, CHUNK), "Scoring"):
        file = folder / f"{start:08d}.npz"
        if file.is_file():
            continue
        images = offered.draw(start)
        scores = selector.table(images)
        part = {"scores": scores.to_numpy()}  # float32, (B, P)
        if offered.fresh:
            flags = np.logical_and.reduce([c.holds(scores[f"{c.prop}_score"]) for c in wanted])
            flags &= np.arange(start, start + len(scores)) >= config.skip_first
            part["kept"] = images.cpu().numpy()[flags]
        with atomic_path(file) as path, path.open("wb") as opened:
            np.savez(opened, **part)
    scores = np.concatenate([*_read_chunks(folder, "scores")])
    return pd.DataFrame(scores, columns=[f"{prop}_score" for prop in selector.properties])


def _read_chunks(folder: Path, name: str) -> Iterator[np.ndarray]:
    for file in sorted(folder.glob("[0-9]*.npz")):
        with np.load(file) as part:
            yield part[name]


def judge_overlap(kept: np.ndarray, cnn_run: Path) -> int:
    """Counts kept images, uint8 (K, H, H, 3), identical to an image the judge was trained on."""
    population_run = in_project(read_config(cnn_run)["population_run"])
    population = open_store(population_run / "images" / "images.npy")
    split = read_table(cnn_run / "split.csv", ["img_no", "role"])
    rows = split.loc[split["role"] == "judge", "img_no"]
    learned = {hash(population[row].tobytes()) for row in rows}
    return sum(hash(image.tobytes()) in learned for image in kept)
