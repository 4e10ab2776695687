"""Several processes that train one network, one GPU each, started by `accelerate launch`.

Every rank draws its own latents and noise for its own images and computes the minibatch deviation
over them. Losses and gradients are averaged over ranks before they are used, so all ranks take the
same decisions and hold the same weights. Only rank 0 evaluates and writes.
Source: Karras et al., "Training Generative Adversarial Networks with Limited Data", 2020,
https://arxiv.org/abs/2006.06676, which splits a batch among ranks in the same way.
Axes: B rows of the whole batch, b = ceil(B / R) rows of one rank, R ranks.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ohlora_lib.nets.compute import pick_device

T = TypeVar("T")
LONGEST_WAIT = timedelta(minutes=30)  # for the other ranks, including an evaluation on rank 0


@dataclass(frozen=True)
class Ranks:
    """The rank of this process among the processes that train together; by default, one.

    All ranks must call `gather`, `mean`, `mean_gradients`, `any`, `from_first` in the same order.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the files and reports."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """Returns the named device or, with several GPUs, this rank's; ValueError if absent."""
        if self.size == 1 or name == "cpu" or not torch.cuda.is_available():
            return pick_device(name)
        own = pick_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(own)
        return own

    def deal(self, whole: Tensor) -> Tensor:
        """Returns this rank's rows, (B, ...) to (b, ...); some repeat if R does not divide B."""
        count = -(-len(whole) // self.size)
        return whole[torch.arange(self.rank * count, (self.rank + 1) * count) % len(whole)]

    def gather(self, part: Tensor) -> Tensor:
        """Collects the rows of all ranks, (b, ...) to (R b, ...), without a gradient."""
        if self.size == 1:
            return part
        parts = [torch.empty_like(part) for _ in range(self.size)]
        dist.all_gather(parts, part)
        return torch.cat(parts)

    def mean(self, value: Tensor) -> Tensor:
        """Averages over ranks, in place, to the same bits on every rank."""
        if self.size > 1:
            dist.all_reduce(value)
            value /= self.size
        return value

    def mean_gradients(self, loss: Tensor, parameters: Iterable[Tensor]) -> Tensor:
        """Averages gradients in place, None on all ranks or on none; returns the mean loss ()."""
        for parameter in parameters:
            if parameter.grad is not None:
                self.mean(parameter.grad)
        return self.mean(loss.detach().clone())

    def any(self, asked: bool) -> bool:
        """Returns whether `asked` is true on any rank; every rank waits for the others."""
        return bool(self.mean(torch.tensor(float(asked))))

    def from_first(self, make: Callable[[], T]) -> T:
        """Returns on every rank what rank 0 makes; if that fails, the others exit (status 1)."""
        if self.size == 1:
            return make()
        made: list[T | None] = [None]
        try:
            if self.first:
                made = [make()]
        finally:
            dist.broadcast_object_list(made)
        if made[0] is None:
            raise SystemExit(1)
        return made[0]


ALONE = Ranks()


def join() -> Ranks:
    """Joins the processes that a launcher started with this one; otherwise returns `ALONE`."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=LONGEST_WAIT)
    return Ranks(dist.get_rank(), dist.get_world_size())


def leave(ranks: Ranks) -> None:
    """Leaves the group once all ranks are here, so that none is cut off while it receives.

    A barrier, unlike a sum, also waits for earlier work and gives the group's threads no tensor,
    which they might free while the interpreter shuts down.
    """
    if ranks.size > 1:
        dist.barrier()
        dist.destroy_process_group()
