"""StyleGAN2's tensors under official names: sizes, shapes, and rosinality's layout and back.

Everything works on tensors alone. Official names: https://github.com/NVlabs/stylegan2-ada-pytorch;
rosinality's: https://github.com/rosinality/stylegan2-pytorch, a layout without labels and clamps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Shapes = Mapping[str, Sequence[int]]  # by tensor name
MARKS = {"generator": "synthesis.b4.const", "discriminator": "b4.conv.weight"}
THEIR_MARKS = {"generator": "input.input", "discriminator": "final_linear.1.weight"}
FILTER = "resample_filter"
UP_GAIN = 4  # of the filters in rosinality's generator, which has them scaled for doubling
MOST_PX = 1024
MAPPING_SEED, MAPPING_SAMPLES = 0, 4096  # for the average of w where a file has none
NO_DISCRIMINATOR = (
    "none in this file; fine-tuning needs one, so give another file as discriminator_file"
)
LAYER = {
    "weight": "conv.weight",
    "affine.weight": "conv.modulation.weight",
    "affine.bias": "conv.modulation.bias",
    "noise_strength": "noise.weight",
    "bias": "activate.bias",
}
TORGB = {
    "weight": "conv.weight",
    "affine.weight": "conv.modulation.weight",
    "affine.bias": "conv.modulation.bias",
    "bias": "bias",
}
ENDS = ((0, "weight"), (1, "bias"))
BLOCK = {  # of the discriminator
    "conv0.weight": "conv1.0.weight",
    "conv0.bias": "conv1.1.bias",
    "conv1.weight": "conv2.1.weight",
    "conv1.bias": "conv2.2.bias",
    "skip.weight": "skip.1.weight",
    f"conv1.{FILTER}": "conv2.0.kernel",
    f"skip.{FILTER}": "skip.0.kernel",
}
TOP = {
    "b4.conv.weight": "final_conv.0.weight",
    "b4.conv.bias": "final_conv.1.bias",
    "b4.fc.weight": "final_linear.0.weight",
    "b4.fc.bias": "final_linear.0.bias",
    "b4.out.weight": "final_linear.1.weight",
    "b4.out.bias": "final_linear.1.bias",
}


def kind_of(names: Mapping[str, Any]) -> str:
    """Returns the kind of StyleGAN2 network whose official names these are; empty if none."""
    return next((kind for kind, mark in MARKS.items() if mark in names), "")


def _resolutions(image_px: int) -> list[int]:
    """Returns the resolutions of a network's blocks, from 4 px up."""
    return [2**k for k in range(2, image_px.bit_length())]


def sizes(shapes: Shapes, facts: Mapping[str, str]) -> dict[str, Any]:
    """Returns a network's constructor arguments; takes no memory.

    They come from the shapes; `conv_clamp` comes from the facts. ValueError if a tensor is
    missing, unknown or has another shape than a StyleGAN2 of these sizes, or a fact contradicts.
    """
    try:
        own = _sizes(shapes, facts)
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"tensor {error} is missing or has too few axes") from error
    wanted = expected_shapes(kind_of(shapes), own)
    for name in [*wanted, *shapes]:
        found, right = (tuple(at[name]) if name in at else None for at in (shapes, wanted))
        fixed = name.endswith(FILTER) and found in (None, (4, 4))  # some files lack filters
        if found != right and not fixed:
            raise ValueError(f"tensor {name!r} has the shape {found}; it should be {right}")
    return own


def measure(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> dict[str, Any]:
    """Returns `sizes` of a network; ValueError also if a filter is not StyleGAN2's."""
    own = sizes({name: tensor.shape for name, tensor in tensors.items()}, facts)
    for name, tensor in tensors.items():
        if name.endswith(FILTER) and not torch.equal(tensor.float(), fixed_filter()):
            raise ValueError(f"the filter {name!r} is not [1, 3, 3, 1]")
    return own


def count_parameters(tensors: Mapping[str, Tensor]) -> int:
    """Counts the numbers that training moves: all but the buffers."""
    buffers = (FILTER, "noise_const", "w_avg")
    return sum(t.numel() for name, t in tensors.items() if not name.endswith(buffers))


def _sizes(shapes: Shapes, facts: Mapping[str, str]) -> dict[str, Any]:
    draws = kind_of(shapes) == "generator"
    found = (re.fullmatch(r"(?:synthesis\.)?b(\d{1,4})\.conv0\.bias", name) for name in shapes)
    image_px = max((int(match[1]) for match in found if match), default=4)
    if image_px not in _resolutions(MOST_PX)[1:]:
        raise ValueError(f"its images have {image_px} px; it must be a power of 2 from 8 on")
    low, rest = ("synthesis.b4.conv1.bias", "synthesis.") if draws else ("b4.conv.bias", "")
    names = {px: f"{rest}b{px}.conv0.bias" for px in _resolutions(image_px)} | {4: low}
    channels = {px: shapes[name][0] for px, name in names.items()}
    wide, c_dim = shapes.get("mapping.embed.weight", (0, 0))
    own: dict[str, Any] = {"image_px": image_px, "c_dim": c_dim}
    layers = sum(bool(re.fullmatch(r"mapping\.fc\d+\.weight", name)) for name in shapes)
    if draws:
        w_dim, inputs = shapes["mapping.fc0.weight"]
        own |= {"z_dim": inputs - wide, "w_dim": w_dim}
    if draws or c_dim:
        own["mapping_layers"] = layers
    base = max(px * width for px, width in channels.items())
    own |= {"channel_base": base, "channel_max": max(channels.values())}
    for name, value in {**own, "img_resolution": image_px, "img_channels": 3}.items():
        if facts.get(name, str(value)) != str(value):
            raise ValueError(f"its {name} is {facts[name]} in the file, but {value} is expected")
    return own | {"conv_clamp": _clamp(facts.get("conv_clamp", "None"))}


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
    channels = {px: min(base // px, top) for px in _resolutions(image_px)}
    width = own.get("w_dim", channels[4])
    shapes = _dense("mapping.embed", width, c_dim) if c_dim else {}
    for k in range(own.get("mapping_layers", 0)):
        inputs = own.get("z_dim", 0) + (width if c_dim else 0) if k == 0 else width
        shapes |= _dense(f"mapping.fc{k}", width, inputs)
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


def _names(kind: str, image_px: int, mapping_layers: int) -> dict[str, str]:
    """Returns rosinality's name by official name."""
    pixels = _resolutions(image_px)[1:]
    if kind == "discriminator":
        names = {f"b{image_px}.fromrgb.{end}": f"convs.0.{k}.{end}" for k, end in ENDS}
        for i, px in enumerate(reversed(pixels), 1):
            names |= {f"b{px}.{ours}": f"convs.{i}.{theirs}" for ours, theirs in BLOCK.items()}
        return names | TOP
    names = {"mapping.w_avg": "latent_avg", "synthesis.b4.const": "input.input"}
    for k in range(mapping_layers):
        names |= {f"mapping.fc{k}.{end}": f"style.{k + 1}.{end}" for _, end in ENDS}
    layers = {"b4.conv1": "conv1"}
    images = {"b4.torgb": "to_rgb1"}
    for i, px in enumerate(pixels):
        layers |= {f"b{px}.conv0": f"convs.{2 * i}", f"b{px}.conv1": f"convs.{2 * i + 1}"}
        images |= {f"b{px}.torgb": f"to_rgbs.{i}"}
        names[f"synthesis.b{px}.conv0.{FILTER}"] = f"convs.{2 * i}.conv.blur.kernel"
        names[f"synthesis.b{px}.{FILTER}"] = f"to_rgbs.{i}.upsample.kernel"
    for k, (ours, theirs) in enumerate(layers.items()):
        names |= {f"synthesis.{ours}.{end}": f"{theirs}.{LAYER[end]}" for end in LAYER}
        names[f"synthesis.{ours}.noise_const"] = f"noises.noise_{k}"
    for ours, theirs in images.items():
        names |= {f"synthesis.{ours}.{end}": f"{theirs}.{TORGB[end]}" for end in TORGB}
    return names


def _axes(name: str) -> tuple[int, int]:
    """Returns how many axes of length 1 rosinality puts before and behind an official tensor."""
    if name.endswith("torgb.bias"):
        return 1, 2
    if name.endswith("noise_const"):
        return 2, 0
    styled = re.fullmatch(
        r"synthesis\.b\d+\.(const|(conv[01]|torgb)\.weight|.*noise_strength)", name
    )
    return int(bool(styled)), 0


def fixed_filter() -> Tensor:
    """Returns the filter of all doublings and halvings, shape (4, 4)."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / 64


def official(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns rosinality's tensors under official names, others unchanged; copies no kernel.

    ValueError if one is unknown or does not fit. A missing average of w is computed.
    """
    kind = next((kind for kind, mark in THEIR_MARKS.items() if mark in tensors), "")
    if not kind:
        return dict(tensors)
    draws = kind == "generator"
    pattern = r"to_rgbs\.\d+\.bias" if draws else r"convs\.\d+\.skip\.1\.weight"
    doublings = sum(bool(re.fullmatch(pattern, name)) for name in tensors)
    layers = sum(bool(re.fullmatch(r"style\.\d+\.weight", name)) for name in tensors)
    if doublings > len(_resolutions(MOST_PX)) - 1:
        raise ValueError(f"it has {doublings} doublings, more than those to {MOST_PX} px")
    names = _names(kind, 4 * 2**doublings, layers)
    if unknown := sorted(tensors.keys() - set(names.values())):
        raise ValueError(f"tensor {unknown[0]!r} is unknown in rosinality's {kind}")
    found = {}
    for ours, theirs in names.items():
        if theirs in tensors:
            value, (before, behind) = tensors[theirs], _axes(ours)
            shape = value.shape[before : value.dim() - behind]
            value = value.reshape(shape)
            found[ours] = value / UP_GAIN if draws and ours.endswith(FILTER) else value
    averaged = not draws or "mapping.w_avg" in found
    if not averaged:
        found["mapping.w_avg"] = torch.zeros(found["mapping.fc0.bias"].shape)  # until checked
    own = measure(found, {})
    if not averaged:
        found["mapping.w_avg"] = _average_w(found, own)
    filters = (n for n in expected_shapes(kind, own) if n.endswith(FILTER) and n not in found)
    form = next(iter(found.values())).dtype
    return found | {name: fixed_filter().to(form) for name in filters}


def _average_w(tensors: Mapping[str, Tensor], own: Mapping[str, Any]) -> Tensor:
    """Returns the mean style vector of random latents, shape (W)."""
    draw = torch.Generator().manual_seed(MAPPING_SEED)
    x = torch.randn(MAPPING_SAMPLES, own["z_dim"], generator=draw)  # (B, Z)
    x = x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for k in range(own["mapping_layers"]):
        weight, bias = (
            tensors[f"mapping.fc{k}.{end}"].float() * 0.01 for end in ("weight", "bias")
        )
        x = nn.functional.linear(x, weight / weight.shape[1] ** 0.5, bias)  # (B, W)
        x = nn.functional.leaky_relu(x, 0.2) * 2**0.5
    return x.mean(0).to(tensors["mapping.fc0.weight"].dtype)


def rosinality(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns official tensors in rosinality's layout, the average of w as `latent_avg`.

    ValueError if the network has labels, for which that layout has no place.
    """
    own, kind = measure(tensors, {}), kind_of(tensors)
    if own["c_dim"]:
        raise ValueError(
            f"it has {own['c_dim']} labels, for which rosinality's layout has no place. Write "
            f".safetensors"
        )
    found = {}
    for ours, theirs in _names(kind, own["image_px"], own.get("mapping_layers", 0)).items():
        value, (before, behind) = tensors.get(ours, fixed_filter()), _axes(ours)
        if kind == "generator" and ours.endswith(FILTER):
            value = value * UP_GAIN
        found[theirs] = value.reshape((1,) * before + tuple(value.shape) + (1,) * behind)
    return found
