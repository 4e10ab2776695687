"""Several processes that train one network: each has its share of every batch, all stay alike.

A rank draws the latents and the noise of the whole batch and keeps its own rows, so that the
ranks together draw what one process would. Gradients and losses are averaged over ranks before
anything is done with them. With one process nothing is sent, copied or computed twice.
Axes: B rows of the whole batch, b rows of this rank's share, R ranks.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; alone by itself.

    Where `size` is not 1, `torch.distributed` must have been set up, and every method but
    `share` must be called by all ranks, in the same order.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the files and reports."""
        return self.rank == 0

    def check_batch(self, batch: int) -> None:
        """Raises ValueError unless a batch divides by the number of ranks."""
        if batch % self.size:
            raise ValueError(
                f"batch is {batch}, which {self.size} processes cannot share; "
                f"it must be a multiple of {self.size}"
            )

    def divides(self, batch: int) -> bool:
        """Whether each rank gets rows of its own; else each has the whole batch, the same."""
        return self.size > 1 and batch % self.size == 0

    def share(self, whole: Tensor) -> Tensor:
        """This rank's rows of a batch, (B, ...) to (b, ...), or all where it does not divide."""
        return whole.chunk(self.size)[self.rank] if self.divides(len(whole)) else whole

    def gather(self, part: Tensor, batch: int) -> Tensor:
        """The whole batch of `batch` rows from the shares, (b, ...) to (B, ...); no gradient."""
        return _gather(part.detach(), self.size) if self.divides(batch) else part

    def deal(self, whole: Tensor) -> Tensor:
        """This rank's rows of any number, (N, ...) to (ceil(N / R), ...): some may be twice."""
        if self.size == 1:
            return whole
        count = -(-len(whole) // self.size) * self.size
        return self.share(whole[torch.arange(count, device=whole.device) % len(whole)])

    def collect(self, part: Tensor, count: int) -> Tensor:
        """All rows again from what was dealt, (ceil(N / R), ...) to (N, ...); no gradient."""
        return part if self.size == 1 else _gather(part, self.size)[:count]

    def noise(self, batch: int) -> str | Callable[[Tensor], Tensor]:
        """The generator's `noise`: random planes, of which this rank uses its share."""
        return partial(self._planes, batch=batch) if self.divides(batch) else "random"

    def _planes(self, x: Tensor, batch: int) -> Tensor:
        planes = torch.randn(batch, 1, *x.shape[2:], device=x.device, dtype=x.dtype)
        return self.share(planes)  # (b, 1, H, W)

    def over_batch(self, batch: int) -> Callable[..., Tensor] | None:
        """The discriminator's `over`: a statistic of the whole batch; None if it is all here."""
        return self._over if self.divides(batch) else None

    def _over(self, statistic: Callable[[Tensor], Tensor], part: Tensor) -> Tensor:
        return self.share(statistic(_Gather.apply(part, self.rank, self.size)))

    def mean(self, value: Tensor) -> Tensor:
        """Mean over ranks, in place; the same bits on every rank."""
        if self.size > 1:
            dist.all_reduce(value)
            value /= self.size
        return value

    def mean_gradients(self, loss: Tensor, parameters: Iterable[Tensor]) -> Tensor:
        """Averages gradients and the loss over ranks, in one message.

        Args:
            loss: Of this rank's share, shape ().
            parameters: Those whose gradients are averaged; one without a gradient has none on
                any rank.

        Returns:
            Loss of the whole batch, shape (), without a graph.
        """
        loss = loss.detach()
        if self.size == 1:
            return loss
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = self.mean(torch.cat([loss.reshape(1), *(g.flatten() for g in gradients)]))
        sizes = [g.numel() for g in gradients]
        for gradient, part in zip(gradients, flat[1:].split(sizes), strict=True):
            gradient.copy_(part.view(gradient.shape))
        return flat[0]

    def any(self, asked: bool) -> bool:
        """Whether any rank says yes."""
        if self.size == 1:
            return asked
        answer = torch.tensor(float(asked))
        dist.all_reduce(answer, op=dist.ReduceOp.MAX)
        return bool(answer)

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first rank makes, tensors and plain values only, on every rank.

        Raises:
            Exception: What `make` raised, on the first rank.
            SystemExit: The same on the others, which leave the word to the first.
        """
        if self.size == 1:
            return make()
        if not self.first:
            return self._receive()
        try:
            value = make()
        except Exception:
            self._send(False, None)
            raise
        self._send(True, value)
        return value

    @staticmethod
    def _send(made: bool, value: Any) -> None:
        buffer = io.BytesIO()
        torch.save((made, value), buffer)
        data = torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8)
        dist.broadcast(torch.tensor(len(data)), src=0)
        dist.broadcast(data, src=0)

    @staticmethod
    def _receive() -> Any:
        length = torch.tensor(0)
        dist.broadcast(length, src=0)
        data = torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(data, src=0)
        made, value = torch.load(io.BytesIO(data.numpy().tobytes()), weights_only=True)
        if not made:
            raise SystemExit(1)
        return value


ALONE = Ranks()


def _gather(part: Tensor, size: int) -> Tensor:
    parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(size)]
    dist.all_gather(parts, part.contiguous())
    return torch.cat(parts)


class _Gather(torch.autograd.Function):
    """All ranks' rows, (b, ...) to (B, ...); any order of derivative, which R1 needs."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, rank: int, size: int) -> Tensor:
        ctx.ranks = (rank, size)
        return _gather(part, size)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Scatter.apply(gradient, *ctx.ranks), None, None


class _Scatter(torch.autograd.Function):
    """The adjoint of `_Gather`: sums over ranks, keeps this rank's rows, (B, ...) to (b, ...)."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, rank: int, size: int) -> Tensor:
        ctx.ranks = (rank, size)
        total = whole.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(size)[rank]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Gather.apply(gradient, *ctx.ranks), None, None
