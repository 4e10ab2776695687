"""Training speed alone, alongside a busy process, and alongside a second training run.

`python -m benchmarks.busy` runs each case in its own process, in turn with ohlora's number of
turns that OpenMP threads spin and with libgomp's, and prints steps per second and their ratios.
Nothing else should run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pandas as pd
import torch
from torch import nn

from benchmarks.cases import SMALL, cnn_cases, training_cases
from ohlora_lib.nets.compute import pick_device, pick_precision

SPIN = "while True: pass"
SITUATIONS = ("alone", "alongside a busy process", "two of them")
WARM_UP_SEC = 3.0
SPINS = {False: "1000", True: "300000"}  # ohlora's and libgomp's


def convolutions() -> Callable[[], object]:
    """Forward and backward pass of small convolutions in bfloat16."""
    layers = [nn.Conv2d(32, 32, 3, padding=1) for _ in range(8)]
    net = nn.Sequential(*layers).to(memory_format=torch.channels_last)
    x = torch.randn(8, 32, 64, 64).to(memory_format=torch.channels_last)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = net(x).float().square().mean()
        loss.backward()

    return step


def works(folder: Path) -> dict[str, Callable[[], Callable[[], object]]]:
    """Factories by name; each returns the step to repeat."""
    device = pick_device("cpu")
    precision = pick_precision("auto", device)
    return {
        "v9 step": lambda: next(training_cases(SMALL, device, precision)).ours,
        "small convolutions": convolutions,
        "epoch of a CNN": lambda: next(cnn_cases(SMALL, device, precision, folder)).ours,
    }


def repeat(name: str, seconds: float) -> None:
    """Repeats a piece of work and prints its steps per second."""
    with tempfile.TemporaryDirectory() as folder:
        work = works(Path(folder))[name]()
        for limit in (WARM_UP_SEC, seconds):
            began, count = time.perf_counter(), 0
            while time.perf_counter() - began < limit:
                work()
                count += 1
            rate = count / (time.perf_counter() - began)
    print(rate)


def rates(name: str, seconds: float, situation: str, off: bool) -> list[float]:
    """Steps per second of each measured process: one, or two in the last situation."""
    count = 2 if situation == SITUATIONS[2] else 1
    others = 1 if situation == SITUATIONS[1] else 0
    beside = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(others)]
    command = [
        sys.executable,
        "-m",
        "benchmarks.busy",
        "--repeat",
        name,
        "--seconds",
        str(seconds),
    ]
    env = os.environ | {"GOMP_SPINCOUNT": SPINS[off]}
    jobs = [
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(count)
    ]
    try:
        return [float(job.communicate()[0]) for job in jobs]
    finally:
        for other in beside:
            other.kill()


def main() -> None:
    """Measures all cases and prints them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.busy", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="run only cases whose name contains this")
    parser.add_argument("--repeat", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.repeat:
        repeat(given.repeat, given.seconds)
        return
    names = [n for n in ("v9 step", "small convolutions", "epoch of a CNN") if given.only in n]
    rows = []
    for name in names:
        for _ in range(given.rounds):
            for situation in SITUATIONS:
                for off in (False, True):
                    rate = min(rates(name, given.seconds, situation, off))
                    kind = "off" if off else "on"
                    rows.append({"case": name, "situation": situation, "kind": kind, "rate": rate})
                    print(*rows[-1].values(), flush=True)
    table = pd.DataFrame(rows).groupby(["case", "situation", "kind"])["rate"].agg(median).unstack()
    alone = table["off"].xs("alone", level="situation")
    share = table.div(alone, axis="index", level="case").add_suffix(", share of alone off")
    print(pd.concat([table, share], axis=1).round(2).to_string())


if __name__ == "__main__":
    main()
