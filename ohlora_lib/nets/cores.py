"""Keeps parallel computation on a CPU fast beside other processes.

OpenMP threads (libgomp) spin for some milliseconds while they wait for each other. With a core for
each thread that is the fastest way. Beside another process, a spinning thread occupies the core
that the thread it waits for needs, and a training ran ten times slower. libgomp spins a
thousandth of that time once it has more threads than cores. Using fewer threads would change the
rounding, so no result could be repeated. This module therefore adds idle threads while other
processes need the cores, and keeps each computing thread on a core of its own.

Sources: `GOMP_SPINCOUNT` in https://gcc.gnu.org/onlinedocs/libgomp/, and run_delay in
https://docs.kernel.org/scheduler/sched-stats.html.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from pathlib import Path

import torch

THEIRS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_PROC_BIND")  # set by the user: left alone
EVERY_SEC = 0.25
BUSY_SHARE = 0.15  # of the time that one thread waits for a core; alone it is under 0.03
CALM_SEC = 2.0  # without such waiting, before threads spin again
PARALLEL = 2**16  # elements a thread: enough for torch to use all threads


def share() -> None:
    """Starts to watch, for the rest of the process, whether other processes need the cores.

    Does nothing without Linux's scheduler statistics, with one thread, or where the user has set
    one of `THEIRS`.
    """
    given = any(name in os.environ for name in THEIRS)
    known = sys.platform == "linux" and Path("/proc/self/schedstat").is_file()
    names = {thread.name for thread in threading.enumerate()}
    if known and not given and torch.get_num_threads() > 1 and _watch.__name__ not in names:
        threading.Thread(target=_watch, name=_watch.__name__, daemon=True).start()


class Times:
    """Seconds that each thread of this process has run so far, and has waited for a core."""

    def __init__(self) -> None:
        self.ran: dict[int, float] = {}
        self.waited: dict[int, float] = {}
        for path in Path("/proc/self/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # a thread that has just ended
                ran, waited = path.read_text(encoding="ascii").split()[:2]  # ns
                self.ran[int(path.parent.name)] = int(ran) / 1e9
                self.waited[int(path.parent.name)] = int(waited) / 1e9

    def waited_since(self, earlier: Times) -> float:
        """The longest time that one thread has waited since then, seconds."""
        waits = (sec - earlier.waited.get(thread, 0.0) for thread, sec in self.waited.items())
        return max(waits, default=0.0)

    def busiest_since(self, earlier: Times, count: int) -> list[int]:
        """The threads that ran most since then, oldest first."""
        ran = {thread: sec - earlier.ran.get(thread, 0.0) for thread, sec in self.ran.items()}
        return sorted(sorted(ran, key=ran.__getitem__)[-count:])


def _watch() -> None:
    """While others need the cores, makes threads sleep instead of spin, each on its own core."""
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    added: list[threading.Event] = []
    then, before, busy_at = time.monotonic(), Times(), float("-inf")
    while True:
        time.sleep(EVERY_SEC)
        now, times = time.monotonic(), Times()
        if times.waited_since(before) > BUSY_SHARE * (now - then):
            busy_at = now
        busy = now - busy_at < CALM_SEC
        if busy and not added:
            added = [_add() for _ in range(_missing(threads, len(cores)))]
        if busy and threads >= len(cores):
            _place(dict(zip(times.busiest_since(before, len(cores)), cores, strict=False)), cores)
        if added and not busy:
            for end in added:
                end.set()
            added = []
            _place({}, cores)
        then, before = now, times


def _place(own: dict[int, int], cores: set[int]) -> None:
    """Binds threads to their own cores; the others may run on any."""
    for name in os.listdir("/proc/self/task"):
        thread = int(name)
        with contextlib.suppress(OSError):  # it has just ended
            os.sched_setaffinity(thread, {own[thread]} if thread in own else cores)


def _missing(threads: int, cores: int) -> int:
    """How many idle teams libgomp needs in order to have more threads than cores."""
    return max(1, -(-(cores + 1 - threads) // (threads - 1)))


def _add() -> threading.Event:
    """Starts a team of threads that stays idle until the event is set."""
    end = threading.Event()

    def stay() -> None:
        torch.zeros(PARALLEL * torch.get_num_threads()).add_(1)
        end.wait()

    threading.Thread(target=stay, daemon=True).start()
    return end
