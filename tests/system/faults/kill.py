"""Kills training runs at random moments, resumes them, and compares with an uninterrupted one.

`python -m tests.system.faults.kill --times 20 --seed 0` prints a table; `--what base` and
`--what cnn` kill training runs of a base and of property CNNs, `--what stylegan2` fine-tuning of
a StyleGAN2. Exit status 1 if a result differs.
"""

import argparse
import csv
import hashlib
import json
import multiprocessing
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ohlora_lib.io.weights import read_tensors
from ohlora_lib.study.records import read_summary
from ohlora_lib.training.checkpoint import tensors_sha256
from tests.system.faults import small_runs
from tests.system.faults.small_runs import NOTEBOOKS, PLACES

CLOCK = {"elapsed_sec"}  # columns that differ from run to run
PATIENCE_SEC = 600
OFTEN = 0.3  # share of the time that checkpoints may take in the killed runs
TRIES = 8  # attempts per kill, because a run may end before its moment


@dataclass(frozen=True)
class Kill:
    """One kill and its outcome."""

    moment_sec: float
    where: str
    log_rows: int
    resumed: str
    differs: list[str]  # names of differing results; the log at the kill, if it differed


class Harness:
    """Runs one kind of training (see `--what`) repeatedly; the seed draws the moments."""

    def __init__(self, what: str, folder: Path, seed: int) -> None:
        self.what, self.folder, self.random = what, folder, random.Random(seed)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([small_runs.__name__])
        self.places = [place for *_, place in PLACES[what]]
        self.started = 0

    def start(self, root: Path, **options):
        """Starts a run; returns its process, and shared memory: its place, where it resumed."""
        self.started += 1
        marks = [self.context.Array("c", 64, lock=False) for _ in range(2)]
        process = self.context.Process(
            target=small_runs.run, args=(self.what, root, *marks), kwargs=options
        )
        process.start()
        while not marks[0].value and process.is_alive():
            time.sleep(0.001)
        return process, *marks

    def finish(self, root: Path, **options) -> str:
        """Runs to the end; returns where it resumed."""
        process, _, resumed = self.start(root, **options)
        process.join(PATIENCE_SEC)
        assert process.exitcode == 0, f"a run ended with {process.exitcode}"
        return resumed.value.decode()

    def reference(self) -> None:
        """Runs once without a kill."""
        began = time.monotonic()
        self.finish(self.folder / "whole")
        self.long_sec = time.monotonic() - began
        whole = self.run_folder("whole")
        self.log, self.wanted = log_of(whole), results(whole)
        self.share = read_summary(whole)["results"].get("checkpoint_share")

    def run_folder(self, name: str) -> Path:
        """Run folder of a project."""
        return self.folder / name / "outputs/tiny" / NOTEBOOKS[self.what]

    def kill(self, number: int) -> Kill:
        """Starts a run, kills it, reads its log, resumes it and compares the results.

        Every other kill is aimed: it waits until the run reaches one of the places, in turn.
        """
        aim = self.places[number // 2 % len(self.places)] if number % 2 else None
        for attempt in range(TRIES):
            root = self.folder / f"killed{self.started:04d}"
            moment, where = self.start_and_kill(root, aim, 1 - attempt / TRIES)
            if where is not None:
                break
        else:
            raise RuntimeError(f"the run ended {TRIES} times before it could be killed in {aim}")
        run = self.run_folder(root.name)
        rows = log_of(run)
        differs = [] if rows == self.log[: len(rows)] else ["the log at the kill"]
        resumed = self.finish(root, most_share=OFTEN)
        there = results(run)
        names = sorted(self.wanted.keys() | there.keys())
        differs += [name for name in names if self.wanted.get(name) != there.get(name)]
        return Kill(moment, where, len(rows), resumed, differs)

    def start_and_kill(self, root: Path, aim: str | None, late: float) -> tuple[float, str | None]:
        """Kills a run at a random moment, or when it next reaches the place `aim`.

        The moment is drawn from the first `late` of the usual time. Returns it in seconds, and
        the place, or None if the run had already ended.
        """
        process, mark, _ = self.start(root, most_share=OFTEN)
        began = time.monotonic()
        share = {"opening": 0, "finishing": 0, None: 0.95}.get(aim, 0.6)
        wait = self.random.uniform(0, share) * late * self.long_sec
        while time.monotonic() - began < wait and process.is_alive():
            time.sleep(0.0005)
        while aim and mark.value != aim.encode() and process.is_alive():
            time.sleep(0.0001)
        time.sleep(self.random.uniform(0, 0.003))
        process.kill()
        process.join()
        where = mark.value.decode() if process.exitcode == -9 else None
        return time.monotonic() - began, where


def log_of(run: Path) -> list[list[str]]:
    """Rows of the log, with the header, without wall-clock columns; fails if it is truncated."""
    path = next(run.glob("*_log.csv"), None)  # of a base or of a fine-tuning
    if path is None:
        return []
    text = path.read_text()
    rows = list(csv.reader(text.splitlines()))
    assert text.endswith("\n"), f"{path} is torn"
    assert len({len(row) for row in rows}) == 1, f"{path} is torn"
    keep = [k for k, name in enumerate(rows[0]) if name not in CLOCK]
    return [[row[k] for k in keep] for row in rows]


def results(run: Path) -> dict[str, str]:
    """A run's results by name: hashes of tensors and files, and the log without wall clock."""
    found = {}
    for fact in read_summary(run)["artefacts"]:
        path = run / fact["path"]
        if path.suffix == ".safetensors":
            tensors, facts = read_tensors(path)
            hashed = tensors_sha256(dict(sorted(tensors.items())))
            found[fact["path"]] = f"{hashed} {sorted(facts.items())}"
        elif path.name == "train_log.csv":
            found[fact["path"]] = json.dumps(log_of(run))
        else:
            found[fact["path"]] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def main() -> int:
    """Runs the harness and prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.system.faults.kill", description=__doc__
    )
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--what", choices=sorted(NOTEBOOKS), default="finetune")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ohlora-kill-") as folder:
        harness = Harness(given.what, Path(folder), given.seed)
        harness.reference()
        kills = [harness.kill(number) for number in range(given.times)]
    print(pd.DataFrame(map(vars, kills), index=range(1, len(kills) + 1)).round(2).to_string())
    same = sum(not kill.differs for kill in kills)
    print(f"{same} of {len(kills)} identical")
    if harness.share is not None:
        print(f"checkpoints took {harness.share:.2%} of the time of the run that was not killed")
    return 0 if same == len(kills) else 1


if __name__ == "__main__":
    sys.exit(main())
