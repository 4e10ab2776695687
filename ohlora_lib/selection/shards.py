"""Samples and scores candidates in shards, each by any worker; what is finished stays on the disk.

A shard is a whole number of batches, and each batch has a random state of its own, so the result
is that of one process, bit for bit where each computes on as many threads.
Axes: N candidates, P properties, H image height.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import ohlora_lib
from ohlora_lib.io.disk import atomic_path
from ohlora_lib.io.images import new_store, open_store
from ohlora_lib.io.weights import load_generator
from ohlora_lib.nets.compute import pick_device
from ohlora_lib.population.labels import read_table
from ohlora_lib.properties.ensemble import Ensemble, load_ensemble
from ohlora_lib.selection import fanout
from ohlora_lib.selection.candidates import (
    BATCH,
    EXAMPLES,
    Chosen,
    check_size,
    joined,
    score_part,
    stored,
)
from ohlora_lib.selection.select import sample_images, select
from ohlora_lib.study.conditions import Condition
from ohlora_lib.study.parameters import SelectImages
from ohlora_lib.study.run_folder import Run, project_root, sha256

SHARD = 10 * BATCH  # candidates


@dataclass(frozen=True)
class ShardJob:
    """What every worker has to know.

    Args:
        source: Run folder whose generator is sampled, or whose images are scored.
        fresh: Whether it is sampled.
        cnn_run: Run folder of the property CNNs.
        wanted: Conditions.
        properties: Whose CNNs score, in order.
        count: Number N of candidates.
        seed: Draws the latents.
        skip_first: Number of first candidates left out.
        device: Where to compute.
        precision: Number format.
        folder: Gets the shards, below a name made of all this.
    """

    source: Path
    fresh: bool
    cnn_run: Path
    wanted: tuple[Condition, ...]
    properties: tuple[str, ...]
    count: int
    seed: int
    skip_first: int
    device: str
    precision: str
    folder: Path

    @property
    def starts(self) -> range:
        """First candidate of each shard."""
        return range(0, self.count, SHARD)

    def size(self, start: int) -> int:
        """Candidates of a shard."""
        return min(SHARD, self.count - start)

    @functools.cached_property
    def home(self) -> Path:
        """Where the shards are; another place for anything that would make them different."""
        inputs = [sha256(run / "summary.json") for run in (self.source, self.cnn_run)]
        facts = repr((self, inputs, SHARD, ohlora_lib.__version__))
        return self.folder / hashlib.sha256(facts.encode()).hexdigest()[:16]

    def file(self, start: int, suffix: str) -> Path:
        """A file of a shard: `.npy` with what is kept; last, `.npz` with scores and examples."""
        return self.home / f"{start:08d}{suffix}"


def job_of(
    config: SelectImages,
    run: Run,
    wanted: Iterable[Condition],
    device: torch.device,
    precision: str,
) -> ShardJob:
    """The job of a run of `04_select_images`, its device and number format chosen."""
    fresh = config.candidates == "base"
    source = run.inputs["base_run" if fresh else "population_run"]
    count = config.samples if fresh else len(open_store(source / "images" / "images.npy"))
    return ShardJob(
        source=source,
        fresh=fresh,
        cnn_run=run.inputs["cnn_run"],
        wanted=tuple(wanted),
        properties=tuple(config.concept),
        count=count,
        seed=config.seed,
        skip_first=config.skip_first,
        device=str(device),
        precision=precision,
        folder=run.path / "shards",
    )


def score_all(job: ShardJob, *, workers: int = 1, scheduler: str = "") -> Iterator[int]:
    """Scores every shard that is not on the disk; shards of other jobs are removed.

    Args:
        job: What to do.
        workers: Processes of this machine.
        scheduler: Address of a Dask scheduler to use instead.

    Yields:
        The first candidate of each shard as it is done.
    """
    for left in job.folder.glob("*") if job.folder.is_dir() else []:
        if left != job.home:
            shutil.rmtree(left)
    job.home.mkdir(parents=True, exist_ok=True)
    done = [start for start in job.starts if job.file(start, ".npz").is_file()]
    yield from done

    left = [start for start in job.starts if start not in done]
    if workers == 1 and not scheduler:  # here, without another process
        yield from (score_shard(job, start) for start in left)
        return

    def pool() -> AbstractContextManager[fanout.Pool]:
        if scheduler:
            return fanout.cluster(scheduler, project_root())
        return fanout.processes(workers)

    yield from fanout.finish_all(pool, functools.partial(score_shard, job), left)


def score_shard(job: ShardJob, start: int) -> int:
    """Scores one shard and keeps it on the disk, unless it is there.

    Returns:
        Its first candidate.
    """
    if job.file(start, ".npz").is_file():
        return start
    selector = _selector(job.cnn_run, job.properties, job.device, job.precision)
    batches, image_px = _batches(job, start)
    check_size(selector, image_px)
    with new_store(job.file(start, ".npy"), image_px) as store:
        options = {"start": start, "skip_first": job.skip_first}
        part = score_part(batches, selector, job.wanted, store, **options)
    with atomic_path(job.file(start, ".npz")) as path, path.open("wb") as file:
        scores = part.scores.to_numpy()  # float32, (n, P)
        np.savez(file, scores=scores, thrown=part.thrown)
    return start


@functools.lru_cache(maxsize=1)
def _selector(run: Path, properties: tuple[str, ...], device: str, precision: str) -> Ensemble:
    """The CNNs, read once a worker."""
    place = pick_device(device)
    return load_ensemble(run / "selector", properties, device=place, precision=precision)


@functools.lru_cache(maxsize=1)
def _generator(run: Path, device: str) -> torch.nn.Module:
    """The generator, read once a worker."""
    return load_generator(run / "generator.safetensors").to(pick_device(device))


def _batches(job: ShardJob, start: int) -> tuple[Iterator[Tensor], int]:
    """The images of a shard, a batch at a time, and their side, pixels."""
    if job.fresh:
        generator = _generator(job.source, job.device)
        options = {"seed": job.seed, "precision": job.precision, "start": start}
        images = sample_images(generator, job.size(start), batch=BATCH, **options)
        return images, generator.image_px
    population = open_store(job.source / "images" / "images.npy")
    part = population[start : start + job.size(start)]
    return stored(part, torch.device(job.device)), population.shape[1]


def choose(job: ShardJob, done: Iterable[int], path: Path, *, foreign: str = "") -> Chosen:
    """Waits for all shards and joins them; a shard at a time is in memory.

    Args:
        job: The job.
        done: From `score_all`.
        path: Store to write.
        foreign: As of `selection.select`.

    Raises:
        ValueError: If nothing is kept (says what to do); nothing is written then.
    """
    for _ in done:
        pass
    columns = [f"{prop}_score" for prop in job.properties]
    scores, thrown = [], []
    image_px = open_store(job.file(0, ".npy")).shape[1]
    with new_store(path, image_px) as store:
        for start in job.starts:
            with np.load(job.file(start, ".npz"), allow_pickle=False) as part:
                scores.append(pd.DataFrame(part["scores"], columns=columns))
                if sum(map(len, thrown)) < EXAMPLES:
                    thrown.append(part["thrown"])
            for batch in stored(open_store(job.file(start, ".npy")), torch.device("cpu")):
                store.append(batch.numpy())
        table = pd.concat(scores, ignore_index=True)
        selection = select(table, job.wanted, skip_first=job.skip_first, foreign=foreign)
    shutil.rmtree(job.folder)
    shown = joined([part for part in thrown if len(part)])[:EXAMPLES]
    return Chosen(table, selection, open_store(path), shown)


def read_chosen(job: ShardJob, folder: Path) -> Chosen:
    """Reads what a finished run chose; only its first shard is scored again, for the examples.

    Args:
        job: The job it did.
        folder: Its run folder, with `scores.csv` and `images/selected.npy`.
    """
    columns = [f"{prop}_score" for prop in job.properties]
    scores = read_table(folder / "scores.csv", columns)[columns].astype(np.float32)
    selection = select(scores, job.wanted, skip_first=job.skip_first)
    with tempfile.TemporaryDirectory() as place:
        again = replace(job, folder=Path(place))
        score_shard(again, 0)
        with np.load(again.file(0, ".npz"), allow_pickle=False) as part:
            thrown = part["thrown"][:EXAMPLES]
    return Chosen(scores, selection, open_store(folder / "images" / "selected.npy"), thrown)
