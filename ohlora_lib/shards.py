"""What a long scoring has done so far, in shards, so that a stopped one need not begin again.

Axes: N candidates, K kept, H image height.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ohlora_lib.finetune.checkpoint import forget, load_newest, save_state


@dataclass(frozen=True)
class Shard:
    """Some candidates, one after the other: their scores, and the images that matter."""

    scores: pd.DataFrame  # (N, P)
    kept: np.ndarray  # uint8, (K, H, H, 3)
    thrown: np.ndarray  # uint8, (n, H, H, 3), for showing
    first: np.ndarray  # uint8, (n, H, H, 3), the first candidates of all


class Shards:
    """Shards in a folder, until the run has finished.

    Args:
        folder: Where they are.
        facts: What must be the same to go on: parameters and inputs.

    Attributes:
        done: Number of candidates in them; the next one is to be scored.

    Raises:
        ValueError: If there are shards of other parameters or inputs; names them.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder, self.facts = folder, dict(facts)
        self.count = self.done = 0
        for shard in self:
            self.count += 1
            self.done += len(shard.scores)

    def path(self, number: int) -> Path:
        """Where a shard is."""
        return self.folder / f"state-shard{number:05d}.pt"

    def __iter__(self) -> Iterator[Shard]:
        number = 0
        while (state := load_newest(self.path(number), self.facts)) is not None:
            scores = pd.DataFrame({k: v.numpy() for k, v in state.pop("scores").items()})
            yield Shard(scores, **{name: value.numpy() for name, value in state.items()})
            number += 1

    def add(self, shard: Shard) -> None:
        """Writes the next shard."""
        names = ("kept", "thrown", "first")
        state = {name: torch.tensor(getattr(shard, name)) for name in names}
        columns = {name: torch.tensor(shard.scores[name].to_numpy()) for name in shard.scores}
        save_state(self.path(self.count), {"scores": columns, **state}, self.facts)
        self.count, self.done = self.count + 1, self.done + len(shard.scores)

    def drop(self) -> None:
        """Removes them all."""
        for number in range(self.count):
            forget(self.path(number))
        self.count = self.done = 0
