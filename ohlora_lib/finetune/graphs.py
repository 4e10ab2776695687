"""Updates recorded once as CUDA graphs and then replayed: no launches, no Python in a step.

A small batch is bound by the time it takes to launch some hundred kernels, not by arithmetic.
Replayed updates work on the same memory every time, so a batch is copied in and results are
copied out. The first updates of a batch size run as they are, which also fills the optimizer's
state; all of them are real updates, so a training gives the same numbers either way.
Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

Work = Callable[[], tuple[Tensor, ...]]
Update = Callable[[Tensor], tuple[Tensor, ...]]

EAGER_FIRST = 3  # updates before the recording, as PyTorch asks for


@dataclass(frozen=True)
class Recording:
    """A recorded update: what replays it, and where its results then lie."""

    replay: Callable[[], None]
    results: tuple[Tensor, ...]


class Recorder(Protocol):
    """Does work as it is, and records work without doing it."""

    def run(self, work: Work) -> tuple[Tensor, ...]:
        """Does the work now, where a later recording of it may follow."""

    def record(self, work: Work) -> Recording:
        """Records the work; its results hold nothing until the first replay."""


@dataclass
class _Size:
    """What is known of one batch size."""

    batch: Tensor  # the memory that every replay reads, (B, ...)
    eager: int = 0  # updates done so far
    recording: Recording | None = None


@dataclass
class ReplayedUpdate:
    """An update that is recorded once for each batch size.

    Args:
        update: Takes a batch and gives tensors, all on the device. It may neither wait for the
            device nor look at a value.
        recorder: `CudaRecorder` on a GPU.
        eager_first: Updates of a batch size before its recording.
    """

    update: Update
    recorder: Recorder
    eager_first: int = EAGER_FIRST
    _sizes: dict[torch.Size, _Size] = field(default_factory=dict)

    def __call__(self, batch: Tensor) -> tuple[Tensor, ...]:
        """Does one update; the results are the caller's own."""
        size = self._sizes.setdefault(batch.shape, _Size(torch.empty_like(batch)))
        size.batch.copy_(batch)
        if size.eager < self.eager_first:
            size.eager += 1
            return self.recorder.run(lambda: self.update(size.batch))
        if size.recording is None:
            size.recording = self.recorder.record(lambda: self.update(size.batch))
        size.recording.replay()
        return tuple(result.clone() for result in size.recording.results)


class CudaRecorder:
    """Records into CUDA graphs that share one pool of memory.

    Args:
        device: A CUDA device.
        random_states: Generators that the work draws from, beside the device's own.
    """

    def __init__(self, device: torch.device, random_states: Sequence[torch.Generator]) -> None:
        self.device, self.random_states = device, random_states
        self.pool = torch.cuda.graph_pool_handle()
        self.aside = torch.cuda.Stream(device)

    def run(self, work: Work) -> tuple[Tensor, ...]:
        """Does the work on a stream of its own, which keeps autograd's off the recording's."""
        present = torch.cuda.current_stream(self.device)
        self.aside.wait_stream(present)
        with torch.cuda.stream(self.aside):
            results = work()
        present.wait_stream(self.aside)
        for result in results:
            result.record_stream(present)
        return results

    def record(self, work: Work) -> Recording:
        """Records the work as one graph."""
        graph = torch.cuda.CUDAGraph()
        for state in self.random_states:
            graph.register_generator_state(state)
        torch.cuda.synchronize(self.device)
        with torch.cuda.graph(graph, pool=self.pool, stream=self.aside):
            results = work()
        return Recording(graph.replay, results)
