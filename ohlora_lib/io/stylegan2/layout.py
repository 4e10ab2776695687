"""Sizes and shapes of StyleGAN2's tensors under official names.

Everything works on names and tensors alone; no network is built.
Source of the names: https://github.com/NVlabs/stylegan2-ada-pytorch.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Shapes = Mapping[str, Sequence[int]]  # by tensor name
MARKS = {  # a tensor that only this kind of network has: its official name and rosinality's
    "generator": ("synthesis.b4.const", "input.input"),
    "discriminator": ("b4.conv.weight", "final_linear.1.weight"),
}
FILTER = "resample_filter"
MOST_PX = 1024
NO_DISCRIMINATOR = (
    "fine-tuning needs one: in stage 2, give another file as discriminator_file, or set `source: "
    "generator`, which trains one on the images of population_run"
)


def kind_of(names: Mapping[str, Any]) -> str:
    """Returns the kind of StyleGAN2 network that has these names; empty if none has."""
    return next((kind for kind, marks in MARKS.items() if set(marks) & names.keys()), "")


def resolutions(image_px: int) -> list[int]:
    """Returns the resolutions of a network's blocks, from 4 px up."""
    return [2**k for k in range(2, image_px.bit_length())]


def sizes(shapes: Shapes, facts: Mapping[str, str]) -> dict[str, Any]:
    """Returns a network's constructor arguments; takes no memory.

    They come from the shapes; `conv_clamp` comes from the facts. ValueError if a tensor is
    missing, unknown or has another shape than a StyleGAN2 of these sizes, or contradicts a fact.
    """
    try:
        own = _sizes(shapes, facts)
    except KeyError as error:
        raise ValueError(f"tensor {error} is missing") from error
    except IndexError as error:
        raise ValueError("a tensor has too few axes") from error
    wanted = expected_shapes(kind_of(shapes), own)
    for name in [*wanted, *shapes]:
        found, right = (tuple(at[name]) if name in at else None for at in (shapes, wanted))
        fixed = name.endswith(FILTER) and found in (None, (4, 4))  # some files lack filters
        if found != right and not fixed:
            wrong = f"has the shape {found}; it should be {right}"
            wrong = "is missing" if found is None else "is unknown" if right is None else wrong
            raise ValueError(f"tensor {name!r} {wrong}")
    return own


def measure(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> dict[str, Any]:
    """Returns `sizes` of a network; ValueError also if a filter is not StyleGAN2's."""
    own = sizes({name: tensor.shape for name, tensor in tensors.items()}, facts)
    for name, tensor in tensors.items():
        if name.endswith(FILTER) and not torch.equal(tensor.float(), fixed_filter()):
            raise ValueError(f"the filter {name!r} is not [1, 3, 3, 1], the only supported one")
    return own


def count_parameters(tensors: Mapping[str, Tensor]) -> int:
    """Counts the parameters: all elements but those of buffers."""
    buffers = (FILTER, "noise_const", "w_avg")
    return sum(t.numel() for name, t in tensors.items() if not name.endswith(buffers))


def _sizes(shapes: Shapes, facts: Mapping[str, str]) -> dict[str, Any]:
    draws = kind_of(shapes) == "generator"
    found = (re.fullmatch(r"(?:synthesis\.)?b(\d{1,4})\.conv0\.bias", name) for name in shapes)
    image_px = max((int(match[1]) for match in found if match), default=4)
    if image_px not in resolutions(MOST_PX)[1:]:
        raise ValueError(f"its images have {image_px} px, not a power of 2 from 8 to {MOST_PX}")
    low, rest = ("synthesis.b4.conv1.bias", "synthesis.") if draws else ("b4.conv.bias", "")
    names = {px: f"{rest}b{px}.conv0.bias" for px in resolutions(image_px)} | {4: low}
    channels = {px: shapes[name][0] for px, name in names.items()}
    embed = shapes.get("mapping.embed.weight", (0, 0))
    wide, c_dim = embed[0], embed[1]
    own: dict[str, Any] = {"image_px": image_px, "c_dim": c_dim}
    layers = sum(bool(re.fullmatch(r"mapping\.fc\d+\.weight", name)) for name in shapes)
    if draws:
        first, w_dim = shapes["mapping.fc0.weight"], shapes["mapping.w_avg"][0]
        features, inputs = first[0], first[1]
        own |= {"z_dim": inputs - wide, "w_dim": w_dim}
        if layers > 1 and features != w_dim:
            own["layer_features"] = features
        if branch := shapes.get("mapping.fc_new0.weight"):
            own["wide_dim"] = branch[0]
    if draws or c_dim:
        own["mapping_layers"] = layers
    base = max(px * width for px, width in channels.items())
    own |= {"channel_base": base, "channel_max": max(channels.values())}
    for name, value in {**own, "img_resolution": image_px, "img_channels": 3}.items():
        if facts.get(name, str(value)) != str(value):
            raise ValueError(
                f"its {name} is {facts[name]} in the file, but its tensors say {value}"
            )
    own["conv_clamp"] = _clamp(facts.get("conv_clamp", "None"))
    if not draws:
        own["mbstd_group_size"] = int(facts.get("mbstd_group_size", "4"))
        if own["mbstd_group_size"] < 1:
            raise ValueError("its mbstd_group_size is below 1")
    return own


def _clamp(text: str) -> float | int | None:
    value = None if text == "None" else float(text)
    if value is not None and not 0 < value < math.inf:
        raise ValueError(f"its conv_clamp is {text}; it must be a positive number or None")
    return int(value) if value is not None and value.is_integer() else value


def _dense(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def expected_shapes(kind: str, own: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes by official name, filters included, of a network of these sizes."""
    image_px, c_dim = own["image_px"], own["c_dim"]
    top, base = own["channel_max"], own["channel_base"]
    channels = {px: min(base // px, top) for px in resolutions(image_px)}
    width = own.get("w_dim", channels[4])
    shapes = _dense("mapping.embed", width, c_dim) if c_dim else {}
    hidden = own.get("layer_features") or width
    for k in range(layers := own.get("mapping_layers", 0)):
        inputs = own.get("z_dim", 0) + (width if c_dim else 0) if k == 0 else hidden
        shapes |= _dense(f"mapping.fc{k}", width if k == layers - 1 else hidden, inputs)
        if "wide_dim" in own and k == layers - 2:
            shapes |= _dense("mapping.fc_new0", own["wide_dim"], inputs)
            shapes |= _dense("mapping.fc_new1", width, own["wide_dim"])
    filters = list[str]()
    if kind == "generator":
        shapes |= {"mapping.w_avg": (width,), "synthesis.b4.const": (channels[4], 4, 4)}
        for px, outputs in channels.items():
            block, inputs = f"synthesis.b{px}", channels.get(px // 2, 0)
            layers = {"conv1": (outputs, outputs, 3, 3), "torgb": (3, outputs, 1, 1)}
            layers |= {"conv0": (outputs, inputs, 3, 3)} if inputs else {}
            for layer, shape in layers.items():
                name = f"{block}.{layer}"
                shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
                shapes |= _dense(f"{name}.affine", shape[1], width)
                if layer != "torgb":
                    shapes |= {f"{name}.noise_strength": (), f"{name}.noise_const": (px, px)}
                    filters.append(name)
            filters.append(block)
    else:
        for px, inputs in channels.items():
            block, outputs = f"b{px}", channels.get(px // 2, 0)
            layers = {"fromrgb": (inputs, 3, 1, 1)} if px == image_px else {}
            if outputs:
                layers |= {"conv0": (inputs, inputs, 3, 3), "conv1": (outputs, inputs, 3, 3)}
                layers |= {"skip": (outputs, inputs, 1, 1)}
                filters.append(block)
            else:
                layers |= {"conv": (inputs, inputs + 1, 3, 3)}
            for layer, shape in layers.items():
                biases = {} if layer == "skip" else {f"{block}.{layer}.bias": shape[:1]}
                shapes |= {f"{block}.{layer}.weight": shape, **biases}
                filters.append(f"{block}.{layer}")
        shapes |= _dense("b4.fc", channels[4], channels[4] * 16)
        shapes |= _dense("b4.out", channels[4] if c_dim else 1, channels[4])
    return shapes | {f"{name}.{FILTER}": (4, 4) for name in filters}


def fixed_filter() -> Tensor:
    """Returns the filter of all doublings and halvings, shape (4, 4)."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / 64


def with_filters(
    kind: str, tensors: Mapping[str, Tensor], own: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Returns a network's tensors with all its filters, some of which files may lack."""
    form = tensors[MARKS[kind][0]].dtype
    filters = {name for name in expected_shapes(kind, own) if name.endswith(FILTER)}
    kept = {n: t for n, t in tensors.items() if n in filters or not n.endswith(FILTER)}
    return {name: fixed_filter().to(form) for name in sorted(filters)} | kept
