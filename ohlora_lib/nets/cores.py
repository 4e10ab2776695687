"""Keeps parallel computation on a CPU fast while other processes run.

OpenMP threads (libgomp) spin for some milliseconds while they wait for each other. If another
process runs, a spinning thread occupies the core that the thread it waits for needs, which made
training ten times slower. With more threads than cores, libgomp spins for a thousandth of that
time; using fewer threads instead would change the rounding. So this module adds idle threads while
other processes need the cores, and keeps each computing thread on its own core.
Sources: `GOMP_SPINCOUNT` in https://gcc.gnu.org/onlinedocs/libgomp/, and run_delay in
https://docs.kernel.org/scheduler/sched-stats.html.
"""

import contextlib
import os
import threading
import time
from collections import Counter
from functools import cache
from pathlib import Path

import torch

THEIRS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_PROC_BIND")  # if set, `share` does nothing
EVERY_SEC = 0.25
BUSY_SHARE = 0.15  # of the time that a thread waits for a core; under 0.03 without others
CALM_SEC = 2.0  # without such waiting before threads may spin again
PARALLEL = 2**16  # elements per thread: enough for torch to use all threads


@cache
def share() -> None:
    """Starts a daemon thread that watches whether other processes need the cores.

    Does nothing with one thread, without Linux's schedstat, or if one of `THEIRS` is set.
    """
    given = any(name in os.environ for name in THEIRS)
    if Path("/proc/self/schedstat").is_file() and not given and torch.get_num_threads() > 1:
        threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    """While other processes need the cores, makes threads sleep, not spin, each pinned to one."""
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    teams = max(1, -(-(len(cores) + 1 - threads) // (threads - 1)))  # to exceed the cores
    end: threading.Event | None = None  # stops the idle threads
    now, busy_at = time.monotonic_ns(), float("-inf")
    ran, waited = _times()
    while True:
        time.sleep(EVERY_SEC)
        then, now, ran_then, waited_then = now, time.monotonic_ns(), ran, waited
        ran, waited = _times()
        longest = max((waited - waited_then).values(), default=0)
        if longest > BUSY_SHARE * (now - then):
            busy_at = now
        busy = now - busy_at < CALM_SEC * 1e9
        if busy and end is None:
            end = threading.Event()
            for _ in range(teams):
                threading.Thread(target=_stay_idle, args=(end,), daemon=True).start()
        if busy and threads >= len(cores):
            busiest = sorted(thread for thread, _ in (ran - ran_then).most_common(len(cores)))
            _place(dict(zip(busiest, cores, strict=False)), cores)
        if end is not None and not busy:
            end.set()
            end = None
            _place({}, cores)


def _times() -> tuple[Counter[int], Counter[int]]:
    """Returns the nanoseconds that each thread of this process has run and waited for a core."""
    ran, waited = Counter(), Counter()
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # the thread has just ended
            thread = int(path.parent.name)
            ran[thread], waited[thread], _ = map(int, path.read_text(encoding="ascii").split())
    return ran, waited


def _place(own: dict[int, int], cores: set[int]) -> None:
    """Binds threads to their own cores; the others may run on any."""
    for thread in map(int, os.listdir("/proc/self/task")):
        with contextlib.suppress(OSError):  # the thread has just ended
            os.sched_setaffinity(thread, {own[thread]} if thread in own else cores)


def _stay_idle(end: threading.Event) -> None:
    """Makes libgomp start a team of threads that stays idle until the event is set."""
    torch.zeros(PARALLEL * torch.get_num_threads()).add_(1)
    end.wait()
