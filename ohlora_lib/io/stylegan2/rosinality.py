"""Converts StyleGAN2's tensors between rosinality's layout and official names, bit for bit.

Source of the names: https://github.com/rosinality/stylegan2-pytorch, a layout without labels and
without clamps.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ohlora_lib.io.stylegan2.layout import FILTER, MARKS, kind_of, sizes, with_filters
from ohlora_lib.nets.stylegan2.generator import Mapping as MappingNetwork

UP_GAIN = 4  # of the filters in rosinality's generator, which has them scaled for doubling
MAPPING_SEED, MAPPING_SAMPLES = 0, 4096  # for the average of w where a file has none
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


def _names(kind: str, image_px: int, mapping_layers: int) -> dict[str, str]:
    """Returns rosinality's name by official name."""
    pixels = [2**k for k in range(3, image_px.bit_length())]
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


def official(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a StyleGAN2's tensors under official names, others unchanged; copies no kernel.

    ValueError if a name is unknown. Missing filters and a missing average of w are added.
    """
    kind = kind_of(tensors)
    if not kind:
        return dict(tensors)
    if MARKS[kind][0] in tensors:
        return with_filters(tensors)
    draws = kind == "generator"
    pattern = r"to_rgbs\.\d+\.bias" if draws else r"convs\.\d+\.skip\.1\.weight"
    doublings = sum(bool(re.fullmatch(pattern, name)) for name in tensors)
    layers = sum(bool(re.fullmatch(r"style\.\d+\.weight", name)) for name in tensors)
    names = _names(kind, 4 << doublings, layers)
    if unknown := sorted(tensors.keys() - set(names.values())):
        raise ValueError(f"tensor {unknown[0]!r} is unknown in rosinality's {kind}")
    found = {}
    for ours, theirs in names.items():
        if theirs in tensors:
            value, (before, behind) = tensors[theirs], _axes(ours)
            value = value.reshape(value.shape[before : value.dim() - behind])
            found[ours] = value / UP_GAIN if draws and ours.endswith(FILTER) else value
    if draws and "mapping.w_avg" not in found:
        found["mapping.w_avg"] = _average_w(found)
    return with_filters(found)


def _average_w(tensors: Mapping[str, Tensor]) -> Tensor:
    """Returns the mean style vector of random latents, shape (W)."""
    named = {n.removeprefix("mapping."): t for n, t in tensors.items() if n.startswith("mapping")}
    (width, z_dim), form = named["fc0.weight"].shape, named["fc0.weight"].dtype
    with torch.device("meta"):  # draws no random numbers
        net = MappingNetwork(z_dim, 0, width, len(named) // 2, keeps_mean=False)
    net.load_state_dict({name: tensor.float() for name, tensor in named.items()}, assign=True)
    draw = torch.Generator().manual_seed(MAPPING_SEED)
    with torch.no_grad():
        return net(torch.randn(MAPPING_SAMPLES, z_dim, generator=draw)).w.mean(0).to(form)


def rosinality(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of `official` in rosinality's layout, the average of w as `latent_avg`.

    ValueError if the network is class-conditional, or its mapping has two branches or layers of
    another width than w: that layout cannot store them.
    """
    own = sizes({name: tensor.shape for name, tensor in tensors.items()}, {})
    if own.get("wide_dim") or own.get("layer_features"):
        raise ValueError(
            "its mapping has two branches (recipe v9) or several widths, which rosinality's "
            "layout cannot store. Write .safetensors; --plain suits the official code"
        )
    if own["c_dim"]:
        raise ValueError(
            f"it has {own['c_dim']} classes, which rosinality's layout cannot store. Write "
            f".safetensors"
        )
    found, kind = {}, kind_of(tensors)
    for ours, theirs in _names(kind, own["image_px"], own.get("mapping_layers", 0)).items():
        value, (before, behind) = tensors[ours], _axes(ours)
        if kind == "generator" and ours.endswith(FILTER):
            value = value * UP_GAIN
        found[theirs] = value.reshape((1,) * before + tuple(value.shape) + (1,) * behind)
    return found
