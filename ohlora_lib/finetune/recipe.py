"""Recipes v8 and v9 as data: what is trainable, and when a network has caught up.

Layers are named by resolution (`layers@16px`), so a recipe means the same at every image size.
Source: the published study; its counts at 256 px are in the tests.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from ohlora_lib.nets import Discriminator, Generator

PLACE = re.compile(r"^(layers|output|input)@(\d+)px$")


@dataclass(frozen=True)
class StepRule:
    """When one network has caught up with the other, within one batch."""

    max_updates: int = 1
    loss_ratio: float = math.inf

    def caught_up(self, own_loss: float, other_loss: float | None, taken: int) -> bool:
        """Whether to stop after `taken` updates; without another loss yet, one is enough."""
        if taken >= self.max_updates or other_loss is None:
            return True
        return own_loss < self.loss_ratio * other_loss


@dataclass(frozen=True)
class Recipe:
    """One way to fine-tune."""

    split_mapping: bool
    generator_trainable: tuple[str, ...]
    discriminator_trainable: tuple[str, ...]
    discriminator_rule: StepRule
    generator_rule: StepRule


RECIPES = {
    "v8": Recipe(
        split_mapping=False,
        generator_trainable=("mapping", "layers@4px", "output@4px"),
        discriminator_trainable=("layers@4px",),
        discriminator_rule=StepRule(),
        generator_rule=StepRule(max_updates=4, loss_ratio=2.0),
    ),
    "v9": Recipe(
        split_mapping=True,
        generator_trainable=(
            *("mapping", "layers@4px", "layers@8px", "layers@16px"),
            *("output@4px", "output@8px", "output@16px"),
        ),
        discriminator_trainable=(
            *("layers@16px", "layers@8px", "layers@4px", "input@8px", "input@4px"),
        ),
        discriminator_rule=StepRule(max_updates=4, loss_ratio=2.5),
        generator_rule=StepRule(max_updates=4, loss_ratio=2.0),
    ),
}


def trainable_prefixes(net: Generator | Discriminator, places: Sequence[str]) -> tuple[str, ...]:
    """Turns places such as `mapping` or `layers@16px` into parameter name prefixes.

    Raises:
        ValueError: If the network has no such resolution, or no such layers.
    """
    return tuple(prefix for place in places for prefix in _prefixes(net, place))


def _prefixes(net: Generator | Discriminator, place: str) -> list[str]:
    match = PLACE.match(place)
    if not match:
        return [f"{place}."]
    kind, px = match[1], int(match[2])
    if px not in {
        4 * 2**k for k in range(net.synthesis.num_blocks if _is_g(net) else net.num_blocks)
    }:
        raise ValueError(f"place {place!r} is outside a network of 4 to {net.image_px} px")
    if kind == ("input" if _is_g(net) else "output"):
        raise ValueError(f"place {place!r}: a {type(net).__name__.lower()} has no {kind} layers")
    if _is_g(net):
        k = int(math.log2(px)) - 2
        names = [f"layer{2 * k}", f"layer{2 * k + 1}"] if kind == "layers" else [f"output{k}"]
        return [f"synthesis.{name}." for name in names]
    k = int(math.log2(net.image_px // px))
    if kind == "input":
        return [f"input{k}."]
    count = 3 if px == 4 else 2  # at 4 px: convolution, dense, last dense
    return [f"layer{2 * k + i}." for i in range(count)]


def _is_g(net: nn.Module) -> bool:
    return hasattr(net, "synthesis")


def trainable_names(net: Generator | Discriminator, places: Sequence[str]) -> list[str]:
    """Names of the parameters that the places leave unfrozen.

    Raises:
        ValueError: If a place matches no parameter.
    """
    names = [name for name, _ in net.named_parameters()]
    for prefix in trainable_prefixes(net, places):
        if not any(name.startswith(prefix) for name in names):
            top = sorted({name.rsplit(".", 1)[0] for name in names})
            raise ValueError(
                f"trainable place {prefix!r} matches no parameter; the network has {top}. "
                f"Check the recipe."
            )
    prefixes = trainable_prefixes(net, places)
    return [name for name in names if name.startswith(prefixes)]


@contextmanager
def only_trainable(net: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """Lets gradients reach the named parameters inside the block only; restores flags on exit."""
    before = {name: p.requires_grad for name, p in net.named_parameters()}
    wanted = set(names)
    try:
        for name, p in net.named_parameters():
            p.requires_grad_(name in wanted)
        yield
    finally:
        for name, p in net.named_parameters():
            p.requires_grad_(before[name])
