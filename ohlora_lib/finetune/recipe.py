"""Recipes v8 and v9 as data: which parts are trained, and when a network has caught up.

Layers are named by resolution (`layers@16px`), so a recipe applies to every image size.
Source: the published study; the tests hold its layer lists at 256 px.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from ohlora_lib.nets import Discriminator, stylegan2
from ohlora_lib.nets.style_generator import StyleGenerator

Network = StyleGenerator | Discriminator | stylegan2.Discriminator


@dataclass(frozen=True)
class StepRule:
    """When one network has caught up with the other within a batch."""

    max_updates: int = 1
    loss_ratio: float = math.inf

    def __str__(self) -> str:
        """Describes the rule in words."""
        if self.max_updates == 1:
            return "1"
        ratio = f"{self.loss_ratio:g} times the other's"
        return f"1 to {self.max_updates}, until its loss is under {ratio}"

    def caught_up(self, own_loss: float, other_loss: float | None, taken: int) -> bool:
        """Whether to stop after `taken` updates; one suffices while `other_loss` is None."""
        if taken >= self.max_updates or other_loss is None:
            return True
        return own_loss < self.loss_ratio * other_loss


@dataclass(frozen=True)
class Recipe:
    """Which layers are trained, and how often each network is updated."""

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
            "mapping", "layers@4px", "layers@8px", "layers@16px",
            "output@4px", "output@8px", "output@16px",
        ),
        discriminator_trainable=(
            "layers@16px", "layers@8px", "layers@4px", "input@8px", "input@4px",
        ),
        discriminator_rule=StepRule(max_updates=4, loss_ratio=2.5),
        generator_rule=StepRule(max_updates=4, loss_ratio=2.0),
    ),
}  # fmt: skip


def trainable_names(net: Network, places: Sequence[str]) -> list[str]:
    """Names of the parameters that the layer groups in `places` leave unfrozen.

    ValueError if the network lacks one of these groups.
    """
    known = net.groups()
    for place in places:
        if place not in known:
            raise ValueError(
                f"a {type(net).__name__} of {net.image_px} px has no layer group {place!r}; "
                f"it has {', '.join(known)}. Use recipe v8, which needs 4 px only."
            )
    prefixes = tuple(prefix for place in places for prefix in known[place])
    return [name for name, _ in net.named_parameters() if name.startswith(prefixes)]


@contextmanager
def only_trainable(net: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """Lets only the named parameters require gradients in the block; restores flags on exit."""
    before = [(p, p.requires_grad) for p in net.parameters()]
    try:
        for name, p in net.named_parameters():
            p.requires_grad_(name in names)
        yield
    finally:
        for p, flag in before:
            p.requires_grad_(flag)
