"""Says what a weight file holds, and writes it in another form."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ohlora_lib.io.disk import atomic_path, complaint
from ohlora_lib.io.stylegan2 import layout as stylegan2
from ohlora_lib.io.stylegan2.plain import plain
from ohlora_lib.io.stylegan2.rosinality import official, rosinality
from ohlora_lib.io.tensors import read_networks
from ohlora_lib.io.weights import (
    ARCHITECTURES,
    DOES_NOT_FIT,
    build_network,
    choose_network,
    count_not_finite,
    kind_of,
    read_tensors,
    write_network,
)
from ohlora_lib.nets import CompactCNN
from ohlora_lib.nets.style_generator import StyleGenerator, arguments

DOUBLE = {"img_resolution", "img_channels"}  # facts that repeat a size or never vary
HIDDEN_IF_0 = {"layer_features", "wide_dim"}


def describe(path: Path | str) -> dict[str, Any]:
    """Returns a weight file's kind, sizes, parameters, metadata; raises as `load_generator`."""
    tables, facts = read_networks(path)
    taken = choose_network(tables, path)
    with complaint(path, DOES_NOT_FIT):
        tensors = official(tables[taken])
    kinds = [kind_of(table) for table in tables.values()]
    own = facts.get(taken, {})
    net = build_network(tensors, own, source=path)
    own = {name: text for name, text in own.items() if name not in DOUBLE}
    megabytes = math.ceil(Path(path).stat().st_size / 1e4) / 100
    found = {**own, "kind": kind_of(tensors), **_sizes(net), "megabytes": megabytes}
    if len(tables) > 1:
        found |= {"network": taken, "networks": list(tables)}
    if taken and stylegan2.kind_of(tensors) and "discriminator" not in kinds:
        found["discriminator"] = f"none in this file; {stylegan2.NO_DISCRIMINATOR}"
    if bad := count_not_finite(tensors):
        found["numbers that are not finite"] = bad
    return found


def _sizes(net: nn.Module) -> dict[str, Any]:
    """Returns a network's architecture, constructor arguments and number of parameters."""
    sizes = {k: v for k, v in arguments(net).items() if v or k not in HIDDEN_IF_0}
    parameters = sum(p.numel() for p in net.parameters())
    return {"architecture": ARCHITECTURES[type(net)], **sizes, "parameters": parameters}


def convert(
    source: Path,
    target: Path,
    *,
    network: str = "",
    wide_dim: int = 0,
    seed: int = 0,
    layout: str = "",
    plain_mapping: bool = False,
) -> dict[str, Any]:
    """Writes one network to another file; except with `plain_mapping`, tensors stay bit-identical.

    Args:
        source: Weight file.
        target: File to write; its suffix, `.pth` or `.safetensors`, sets the format.
        network: Name of one of several networks in a file; empty takes the averaged generator.
        wide_dim: Width of the new branch that splits a plain mapping; 0 leaves it plain.
        seed: Seed of the new branch.
        layout: `rosinality` writes a StyleGAN2, with its discriminator, as `.pt` of that layout.
        plain_mapping: Whether to write a StyleGAN2's split mapping as a plain one of wider layers.
    """
    if target.exists() and source.exists() and source.samefile(target):
        raise ValueError(f"{target}: is the source file. Give another name.")
    if (wide_dim > 0) + bool(layout) + plain_mapping > 1:
        raise ValueError(f"{source}: --split, --to and --plain exclude each other. Give one.")
    if layout:
        return _convert_to_rosinality(source, target, layout, network)
    if target.suffix not in {".safetensors", ".pth"}:
        hint = " (or .pt with --to rosinality)" if target.suffix == ".pt" else ""
        raise ValueError(f"{target}: the suffix must be .safetensors or .pth{hint}")
    _check_new(target)
    tensors, facts = read_tensors(source, network=network)
    if wide_dim:
        tensors = _split(tensors, facts, source, wide_dim, seed)
    if plain_mapping:
        with complaint(source, "not converted"):
            tensors, facts = plain(tensors), {k: v for k, v in facts.items() if k != "w_dim"}
    net = build_network(tensors, facts, source=source)
    if target.suffix == ".pth" and (lost := _lost(net, tensors, target)):
        raise ValueError(f"{target}: cannot store {lost}. Write .safetensors.")
    write_network(net, tensors, target, facts)
    return _sizes(net)


def _check_new(target: Path) -> None:
    """Raises ValueError if a file to write exists."""
    if target.exists():
        raise ValueError(f"{target}: exists. Give a new name.")


def _split(
    tensors: dict[str, Tensor], facts: Mapping[str, str], source: Path, wide_dim: int, seed: int
) -> dict[str, Tensor]:
    """Adds the new branch to a generator's tensors, in their number format."""
    net = build_network(tensors, facts, source=source)
    if not isinstance(net, StyleGenerator) or net.wide_dim:
        raise ValueError(
            f"{source}: only a generator with a plain mapping can be split. Remove --split."
        )
    with complaint(source, "not split"):
        net = net.split(wide_dim, torch.Generator().manual_seed(seed))
    form = tensors[min(tensors)].dtype
    new = {k: v.to(form) for k, v in net.state_dict().items() if k not in tensors}
    return {**tensors, **new}


def _lost(net: nn.Module, tensors: dict[str, Tensor], target: Path) -> str:
    """Names the sizes of a network that a file without metadata cannot store."""
    if isinstance(net, CompactCNN):
        return "the names of properties"
    bare = _sizes(build_network(tensors, {}, source=target))
    return ", ".join(name for name, value in _sizes(net).items() if bare.get(name) != value)


def _convert_to_rosinality(
    source: Path, target: Path, layout: str, network: str
) -> dict[str, Any]:
    """Writes a StyleGAN2 generator, and the discriminator of the same file, as `.pt`."""
    if layout != "rosinality":
        raise ValueError(f"--to is {layout!r}; it must be rosinality")
    if target.suffix != ".pt":
        raise ValueError(f"{target}: with --to rosinality, the suffix must be .pt")
    _check_new(target)
    tables, facts = read_networks(source)
    taken = choose_network(tables, source, "generator", network)
    if stylegan2.kind_of(tables[taken]) != "generator":
        found = kind_of(tables[taken]) or "network"
        raise ValueError(
            f"{source}: --to rosinality needs a StyleGAN2 generator; the file holds "
            f"a {'stylegan1 ' * (found == 'generator')}{found}"
        )
    kept = {"g_ema": taken, "d": choose_network(tables, source, "discriminator")}
    if stylegan2.kind_of(tables[kept["d"]]) != "discriminator":
        del kept["d"]
    content, sizes, lost = {}, {}, {}
    for theirs, name in kept.items():
        with complaint(source, DOES_NOT_FIT):
            tensors = official(tables[name])
        net = build_network(tensors, facts.get(name, {}), source=source)
        with complaint(source, "not converted"):
            content[theirs] = rosinality(tensors)
        sizes[theirs], lost[theirs] = _sizes(net), _lost(net, tensors, source)
    content["latent_avg"] = content["g_ema"].pop("latent_avg")
    with atomic_path(target) as temporary:
        torch.save(content, temporary)
    told = {"networks": list(content), **sizes["g_ema"]}
    return told | ({"not stored": lost} if any(lost.values()) else {})
