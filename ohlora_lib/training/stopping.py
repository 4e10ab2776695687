"""Stops asked for from outside: Ctrl-C, a kernel's interrupt, and SIGTERM of a scheduler."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

STOPS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_interrupt(*, pass_on: bool = True) -> Iterator[list[int]]:
    """Turns Ctrl-C, a kernel's interrupt and SIGTERM into a request: the list is no longer empty.

    Args:
        pass_on: Whether a SIGTERM is only put off, and arrives when the block has saved and ended.
    """
    asked: list[int] = []
    before = {number: signal.signal(number, lambda n, _: asked.append(n)) for number in STOPS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if pass_on and signal.SIGTERM in asked:
        signal.raise_signal(signal.SIGTERM)
