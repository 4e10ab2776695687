"""Threads keep to their cores while others need these, and results stay the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os, threading, time, torch
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
from ohlora_lib.nets import cores
cores.EVERY_SEC, cores.CALM_SEC, waited = 0.02, 0.1, [0.0]
cores._longest = lambda _: waited[0]
torch.manual_seed(0)
a = torch.rand(400, 400)
cores.share()
cores.share()
print(sum("watch" in thread.name for thread in threading.enumerate()), "watching")

def placed():
    return sum(len(os.sched_getaffinity(int(t))) == 1 for t in os.listdir("/proc/self/task"))

def until(wanted):
    end = time.monotonic() + 30
    while time.monotonic() < end:
        sums.append(float((a @ a).sum()))
        if placed() == wanted:
            break
    return placed()

sums = []
print(placed(), "placed")
waited[0] = 1.0
print(until(2), "placed")
waited[0] = 0.0
print(until(0), "placed")
print(len(set(sums)), "result")
"""
TWO = {"OMP_NUM_THREADS": "2"}


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/schedstat").is_file() or len(os.sched_getaffinity(0)) < 2,
    reason="needs the scheduler statistics of Linux and two cores",
)
@pytest.mark.parametrize(
    ("env", "said"),
    [
        (TWO, "1 watching\n0 placed\n2 placed\n0 placed\n1 result\n"),
        ({"OMP_NUM_THREADS": "1"}, "0 watching\n0 placed\n"),
        (TWO | {"GOMP_SPINCOUNT": "10"}, "0 watching\n0 placed\n"),
        (TWO | {"OMP_WAIT_POLICY": "passive"}, "0 watching\n0 placed\n"),
    ],
)
def test_threads_are_placed_while_others_need_the_cores(env, said):
    code = CODE if said.startswith("1") else CODE.partition("waited[0] = 1.0")[0]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | env
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == said
