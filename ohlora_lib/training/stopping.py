"""Stop requests from outside: Ctrl-C, a kernel's interrupt, or a scheduler's SIGTERM."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

STOPS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_interrupt(*, pass_on: bool = True) -> Iterator[list[int]]:
    """Turns Ctrl-C, a kernel's interrupt and SIGTERM into entries of the list that it yields.

    Args:
        pass_on: Whether to raise a SIGTERM again at the end of the block, which has saved by then.
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
