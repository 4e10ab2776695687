"""Where work is fanned out to: processes of this machine, or a Dask cluster of several.

Both are a `concurrent.futures.Executor`. Work on a cluster needs the project's folder under the
same path on every machine, which is checked before anything starts.
Source: Dask's futures, https://distributed.dask.org/en/stable/client.html.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import ohlora_lib
from ohlora_lib.study import machine

Item = TypeVar("Item")
ATTEMPTS = 3  # how often work is tried whose worker dies
CONNECT_SEC = 20
THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Pool:
    """Workers that take work.

    Attributes:
        executor: Runs it.
        slots: How many pieces of work run at a time.
        words: What it is, to be shown.
    """

    executor: Executor
    slots: Callable[[], int]
    words: str


def thread_share(workers: int) -> int:
    """Threads of each of several workers, so that together they have one a core."""
    return max(1, machine.usable_cores() // workers)


@contextmanager
def supervisors(workers: int) -> Iterator[Pool]:
    """Threads that each watch over a process at a time; those processes share the cores.

    An OMP_NUM_THREADS that is set already is left as it is.

    Raises:
        ValueError: If it is set to what is no number of threads.
    """
    before, threads = os.environ.get(THREADS), machine.number_of(THREADS, listed=True)
    if threads is None:
        threads = thread_share(workers)
        os.environ[THREADS] = str(threads)
    words = f"{counted(workers, 'worker')} of {counted(threads, 'thread')}"
    try:
        with ThreadPoolExecutor(workers) as executor:
            yield Pool(executor, lambda: workers, words)
    finally:
        os.environ.pop(THREADS, None)
        if before is not None:
            os.environ[THREADS] = before


@contextmanager
def cluster(address: str, root: Path) -> Iterator[Pool]:
    """A Dask cluster.

    Args:
        address: Of its scheduler, such as tcp://10.0.0.1:8786.
        root: The project; every worker must see it.

    Raises:
        ValueError: If Dask is not installed, nobody answers, or a worker lacks what it needs.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ValueError(
            "a scheduler needs Dask, which is not installed: pip install 'ohlora[distributed]'"
        ) from None
    _check_scheduler(address)
    with Client(address, timeout=CONNECT_SEC, set_as_default=False) as client:
        _check_workers(client, address, root)
        executor = client.get_executor(pure=False)
        words = f"{counted(len(client.nthreads()), 'worker')} of {address}"
        try:
            yield Pool(executor, lambda: sum(client.nthreads().values()), words)
        except BaseException:
            executor.shutdown(wait=False)  # cancels what has not begun
            raise


def _check_scheduler(address: str) -> None:
    """Raises unless a Dask scheduler answers in time; a `Client` would wait without end."""
    try:
        kind = within(CONNECT_SEC, lambda: asyncio.run(_kind_of_server(address)))
    except (OSError, ValueError) as error:
        if not isinstance(error, TimeoutError):
            raise ValueError(
                f"scheduler {address!r} does not answer ({' '.join(str(error).split())[:200]}). "
                f"Start it with `dask scheduler`, and workers with `dask worker {address}`."
            ) from None
        kind = ""
    except Exception:  # whatever comes of reading another protocol as Dask's: MemoryError, say
        kind = ""
    if kind != "Scheduler":
        answers = f"a Dask {kind}" if kind else "something else (the dashboard?)"
        raise ValueError(
            f"{address!r} is no Dask scheduler: {answers} answers there. "
            f"Give the address that `dask scheduler` prints."
        )


async def _kind_of_server(address: str) -> str:
    """What a Dask server says it is: Scheduler, Worker or Nanny."""
    from distributed import Security, rpc

    options = Security().get_connection_args("client")
    async with rpc(address, timeout=CONNECT_SEC / 2, connection_args=options) as server:
        return (await server.identity())["type"]


def within(seconds: float, call: Callable[[], Item]) -> Item:
    """Result of a call that may wait without end.

    Raises:
        TimeoutError: If it does not come in time.
    """
    answer: Future[Item] = Future()

    def work() -> None:
        try:
            answer.set_result(call())
        except Exception as error:  # the caller's to handle
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return answer.result(seconds)


def _check_workers(client: Any, address: str, root: Path) -> None:
    """Raises if there are no workers, or one has no project or another version."""
    try:
        client.wait_for_workers(1, timeout=CONNECT_SEC)
    except TimeoutError:
        raise ValueError(
            f"scheduler {address!r} has no workers. Start some with `dask worker {address}`."
        ) from None
    try:
        answers = within(CONNECT_SEC, lambda: client.run(site_facts, str(root)))
    except TimeoutError:
        raise ValueError(
            f"a worker of scheduler {address!r} is silent for {CONNECT_SEC} s. Start it again."
        ) from None
    for worker, found in answers.items():
        if not found["project"]:
            raise ValueError(
                f"worker {worker} does not see {root}; every machine needs the project's folder "
                f"under the same path, on a shared disk."
            )
        if found["version"] != ohlora_lib.__version__:
            raise ValueError(
                f"worker {worker} has ohlora {found['version']}, this machine has "
                f"{ohlora_lib.__version__}. Install the same on all."
            )


def site_facts(root: str) -> dict[str, Any]:
    """What a worker has: the package's version, and whether the project is there."""
    return {"project": Path(root).is_dir(), "version": ohlora_lib.__version__}


def counted(count: int, word: str) -> str:
    """A number and its noun: 1 worker, 2 workers."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
