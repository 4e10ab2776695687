"""Progress on one line, with the time left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def track(items: Iterable[T], label: str, *, total: int | None = None) -> Iterator[T]:
    """Yields the items and shows on standard error how far it is; plain text everywhere."""
    from tqdm import tqdm  # here, so that the core imports without it

    yield from tqdm(items, desc=label, total=total, mininterval=1.0, ncols=88)
