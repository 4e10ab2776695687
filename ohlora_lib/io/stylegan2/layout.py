"""Recognises StyleGAN2's tensors under official names, and reads a network's sizes off them.

Source of the names: https://github.com/NVlabs/stylegan2-ada-pytorch.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ohlora_lib.nets.stylegan2 import Discriminator, Generator
from ohlora_lib.nets.stylegan2.layers import fixed_filter

Shapes = Mapping[str, Sequence[int]]  # by tensor name
MARKS = {  # a tensor that only this kind of network has: its official name and rosinality's
    "generator": ("synthesis.b4.const", "input.input"),
    "discriminator": ("b4.conv.weight", "final_linear.1.weight"),
}
FILTER = "resample_filter"
NO_DISCRIMINATOR = (
    "fine-tuning needs one: in stage 2, give another file as discriminator_file, or set `source: "
    "generator`, which trains one on the images of population_run"
)


def kind_of(names: Mapping[str, Any]) -> str:
    """Returns the kind of StyleGAN2 network that has these names; empty if none has."""
    return next((kind for kind, marks in MARKS.items() if set(marks) & names.keys()), "")


def make(shapes: Shapes, facts: Mapping[str, str]) -> nn.Module:
    """Builds the StyleGAN2 network that has these shapes; raises as `sizes`."""
    network = Generator if kind_of(shapes) == "generator" else Discriminator
    return network(**sizes(shapes, facts))


def sizes(shapes: Shapes, facts: Mapping[str, str]) -> dict[str, Any]:
    """Returns a network's constructor arguments: those that shapes do not show, from the facts.

    ValueError if a fact contradicts the shapes; KeyError or IndexError if a tensor is missing or
    has too few axes.
    """
    draws = kind_of(shapes) == "generator"
    found = (re.fullmatch(r"(?:synthesis\.)?b(\d+)\.conv0\.bias", name) for name in shapes)
    blocks = {int(match[1]): match[0] for match in found if match}
    blocks[4] = "synthesis.b4.conv1.bias" if draws else "b4.conv.bias"
    embed = shapes.get("mapping.embed.weight", (0, 0))
    own = {"image_px": max(blocks), "c_dim": embed[1]}
    if draws:
        first = shapes["mapping.fc0.weight"]
        own |= {"z_dim": first[1] - embed[0], "w_dim": shapes["mapping.w_avg"][0]}
        own["layer_features"] = 0 if first[0] == own["w_dim"] else first[0]
        own["wide_dim"] = shapes.get("mapping.fc_new0.weight", (0,))[0]
    if draws or own["c_dim"]:
        own["mapping_layers"] = sum(
            bool(re.fullmatch(r"mapping\.fc\d+\.weight", name)) for name in shapes
        )
    own |= channel_rule({px: shapes[name][0] for px, name in blocks.items()}, "channel")
    for name, value in {**own, "img_resolution": own["image_px"], "img_channels": 3}.items():
        if facts.get(name, str(value)) != str(value):
            raise ValueError(
                f"its {name} is {facts[name]} in the file, but its tensors say {value}"
            )
    own["conv_clamp"] = ast.literal_eval(facts.get("conv_clamp", "None"))
    if not draws:
        own["mbstd_group_size"] = int(facts.get("mbstd_group_size", "4"))
    return own


def channel_rule(channels: Mapping[int, int], prefix: str) -> dict[str, int]:
    """Finds base and max of the rule min(base / px, max) from the channels by resolution."""
    base = max((px * n for px, n in channels.items() if n > 1), default=1)  # 1 is the minimum
    return {f"{prefix}_base": base, f"{prefix}_max": max(channels.values())}


def with_filters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a network's tensors with all its filters, of which files may lack some."""
    kernels = (n for n, t in tensors.items() if t.dim() == 4 and "torgb" not in n)
    owners = {name.removesuffix(".weight") for name in kernels if name.endswith(".weight")}
    blocks = (re.match(r"synthesis\.b\d+|b(?!4\.)\d+", name) for name in tensors)
    owners |= {match[0] for match in blocks if match}
    form = tensors[MARKS[kind_of(tensors)][0]].dtype
    return {f"{name}.{FILTER}": fixed_filter().to(form) for name in sorted(owners)} | tensors
