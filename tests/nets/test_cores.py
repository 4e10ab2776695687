"""Threads stay on their own cores while other processes compute; results stay the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import contextlib, os, threading, time, torch
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
from ohlora_lib.nets import cores
cores.EVERY_SEC, cores.CALM_SEC, cores.BUSY_SHARE = 0.02, 0.1, 1e9
torch.manual_seed(0)
a, sums = torch.rand(400, 400), []
for _ in range(2):
    cores.share()
print(sum("watch" in thread.name for thread in threading.enumerate()), "watching")

def placed(wanted):
    end = time.monotonic() + 30
    while True:
        sums.append(float((a @ a).sum()))
        found = 0
        for task in os.listdir("/proc/self/task"):
            with contextlib.suppress(ProcessLookupError):  # the thread has just ended
                found += len(os.sched_getaffinity(int(task))) == 1
        if found == wanted or time.monotonic() > end:
            return found

for cores.BUSY_SHARE, wanted in ((1e9, 0), (-1.0, BUSY), (1e9, 0)):
    print(placed(wanted), "placed")
print(len(set(sums)), "result")
"""
TWO = {"OMP_NUM_THREADS": "2"}


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/schedstat").is_file() or len(os.sched_getaffinity(0)) < 2,
    reason="needs Linux's scheduler statistics and two cores",
)
@pytest.mark.parametrize(
    ("env", "busy"),
    [
        *((TWO, 2), ({"OMP_NUM_THREADS": "1"}, 0), (TWO | {"GOMP_SPINCOUNT": "10"}, 0)),
        (TWO | {"OMP_WAIT_POLICY": "passive"}, 0),
    ],
)
def test_threads_are_placed_while_others_need_the_cores(env, busy):
    done = subprocess.run(
        [sys.executable, "-c", CODE.replace("BUSY)", f"{busy})")],
        capture_output=True, text=True, env=os.environ | env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    watching = int(busy > 0)
    assert done.stdout == f"{watching} watching\n0 placed\n{busy} placed\n0 placed\n1 result\n"
