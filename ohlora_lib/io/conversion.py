"""Says what a weight file holds, and writes it in another form."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ohlora_lib.io.disk import atomic_path
from ohlora_lib.io.stylegan2 import layout as stylegan2
from ohlora_lib.io.stylegan2.plain import plain
from ohlora_lib.io.stylegan2.rosinality import official, rosinality
from ohlora_lib.io.tensors import read_networks
from ohlora_lib.io.weights import (
    ARCHITECTURES,
    build_network,
    choose_network,
    count_not_finite,
    kind_of,
    naming,
    read_tensors,
    write_network,
)
from ohlora_lib.nets import CompactCNN, Generator, PropertyCNN
from ohlora_lib.nets.style_generator import StyleGenerator

DOUBLE = {"img_resolution", "img_channels"}  # facts that repeat a size or never vary
LOST = {"conv_clamp": None, "mbstd_group_size": 4}  # assumed for a file without metadata


def describe(path: Path | str) -> dict[str, Any]:
    """Returns a weight file's kind, sizes, parameters, metadata; raises as `load_generator`."""
    tables, facts = read_networks(path)
    taken = choose_network(tables, path)
    own = facts.get(taken, {})
    with naming(path):
        tables[taken] = official(tables[taken])
    sizes = _measure(tables[taken], own, path)
    megabytes = math.ceil(Path(path).stat().st_size / 1e4) / 100
    own = {name: text for name, text in own.items() if name not in DOUBLE}
    found = {**own, "kind": kind_of(tables[taken]), **sizes, "megabytes": megabytes}
    if len(tables) > 1:
        found |= {"network": taken, "networks": list(tables)}
    if (
        taken
        and stylegan2.kind_of(tables[taken])
        and "discriminator" not in map(kind_of, tables.values())
    ):
        found["discriminator"] = f"none in this file; {stylegan2.NO_DISCRIMINATOR}"
    if bad := count_not_finite(tables[taken]):
        found["numbers that are not finite"] = bad
    return found


def _measure(
    tensors: dict[str, Tensor], facts: Mapping[str, str], source: Path | str
) -> dict[str, Any]:
    """Returns the sizes of a network; a StyleGAN2, under official names, is not built."""
    if not stylegan2.kind_of(tensors):
        return _sizes(build_network(tensors, facts, source=source))
    with naming(source):
        sizes = stylegan2.measure(tensors, facts)
    sizes = {"architecture": "stylegan2", **sizes}
    return sizes | {"parameters": stylegan2.count_parameters(tensors)}


def _sizes(net: nn.Module) -> dict[str, Any]:
    """Returns a network's architecture, constructor arguments and number of parameters."""
    names = [*Generator.SIZES, "wide_dim", "properties", "width", "crop"]
    found: dict[str, Any] = {"architecture": ARCHITECTURES[type(net)]}
    found |= {name: getattr(net, name) for name in names if hasattr(net, name)}
    return found | {"parameters": sum(p.numel() for p in net.parameters())}


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
    tensors, facts = read_tensors(source, network=network)
    if wide_dim:
        tensors = _split(tensors, facts, source, wide_dim, seed)
    if plain_mapping:
        with naming(source, "not converted"):
            tensors, facts = plain(tensors), {k: v for k, v in facts.items() if k != "w_dim"}
    if stylegan2.kind_of(tensors):
        return _convert_stylegan2(source, target, tensors, facts)
    net = build_network(tensors, facts, source=source)
    if target.suffix == ".pth" and isinstance(net, CompactCNN):
        raise ValueError(f"{target}: cannot store the names of properties. Write .safetensors.")
    if target.suffix == ".pth" and isinstance(net, PropertyCNN):
        published = build_network(tensors, {}, source=target)  # what a reader will take it for
        if _sizes(published) != _sizes(net):
            raise ValueError(f"{target}: cannot store this CNN's crop. Write .safetensors.")
    write_network(net, tensors, target, facts)
    return _sizes(net)


def _split(
    tensors: dict[str, Tensor], facts: Mapping[str, str], source: Path, wide_dim: int, seed: int
) -> dict[str, Tensor]:
    """Adds the new branch to a generator's tensors, in their number format."""
    net = build_network(tensors, facts, source=source)
    if not isinstance(net, StyleGenerator) or net.wide_dim:
        raise ValueError(
            f"{source}: only a generator with a plain mapping can be split. Remove --split."
        )
    with naming(source, "not split"):
        net = net.split(wide_dim, torch.Generator().manual_seed(seed))
    form = tensors[min(tensors)].dtype
    new = {k: v.to(form) for k, v in net.state_dict().items() if k not in tensors}
    return {**tensors, **new}


def _convert_stylegan2(
    source: Path, target: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]
) -> dict[str, Any]:
    """Writes one StyleGAN2 network under official names."""
    sizes = _measure(dict(tensors), facts, source)
    if target.suffix == ".pth" and (lost := _lost(sizes)):
        raise ValueError(f"{target}: cannot store {lost}. Write .safetensors.")
    own = {name: str(sizes[name]) for name in (*LOST, "architecture") if name in sizes}
    write_network(None, tensors, target, {**facts, **own})
    return sizes


def _lost(sizes: Mapping[str, Any]) -> str:
    """Names the sizes of a StyleGAN2 that files without metadata cannot store."""
    return ", ".join(name for name, value in LOST.items() if sizes.get(name, value) != value)


def _convert_to_rosinality(
    source: Path, target: Path, layout: str, network: str
) -> dict[str, Any]:
    """Writes a StyleGAN2 generator, and the discriminator of the same file, as `.pt`."""
    if layout != "rosinality" or target.suffix != ".pt":
        raise ValueError(
            f"{target}: --to is {layout!r}; it must be rosinality, and the suffix must be .pt"
        )
    tables, facts = read_networks(source)
    taken = choose_network(tables, source, "generator", network)
    if stylegan2.kind_of(tables[taken]) != "generator":
        raise ValueError(
            f"{source}: --to rosinality needs a StyleGAN2 generator; the file holds "
            f"{kind_of(tables[taken]) or 'another network'}"
        )
    other = choose_network(tables, source, "discriminator")
    kept = {"g_ema": taken}
    if stylegan2.kind_of(tables[other]) == "discriminator":
        kept["d"] = other
    content, sizes = dict[str, Any](), dict[str, dict[str, Any]]()
    for theirs, name in kept.items():
        with naming(source):
            tensors = official(tables[name])
        sizes[theirs] = _measure(tensors, facts.get(name, {}), source)
        with naming(source, "not converted"):
            content[theirs] = rosinality(tensors)
    content["latent_avg"] = content["g_ema"].pop("latent_avg")
    with atomic_path(target) as temporary:
        torch.save(content, temporary)
    told = {"networks": list(content), **sizes["g_ema"]}
    lost = {name: text for name, own in sizes.items() if (text := _lost(own))}
    return told | ({"not stored": lost} if lost else {})
