"""Turns weight files into others: `.pth` and `.safetensors`, plain and split mapping."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ohlora_lib.io.disk import write_atomic
from ohlora_lib.io.weights import build, one_line, read_tensors, save_tensors, sizes, split_mapping
from ohlora_lib.nets import Generator, PropertyCNN

SUFFIXES = (".safetensors", ".pth")


def convert(
    source: Path | str, target: Path | str, *, network: str = "", wide_dim: int = 0, seed: int = 0
) -> dict[str, Any]:
    """Writes the weights of one network to another file; the tensors stay bit for bit the same.

    Args:
        source: A `.pth` or `.safetensors` file.
        target: File to write; its suffix says in which form.
        network: Which network of a `.pth` that holds several; empty takes the averaged generator.
        wide_dim: Gives a plain generator a split mapping whose new branch has this width.
        seed: Draws the new branch, as published.

    Returns:
        Facts of what was written.

    Raises:
        ValueError: If the source is unreadable, or the target cannot hold it; one line.
    """
    source, target = Path(source), Path(target)
    if target.suffix not in SUFFIXES:
        raise ValueError(f"{target}: the suffix must be one of {list(SUFFIXES)}")
    if target.exists() and source.exists() and source.samefile(target):
        raise ValueError(f"{target}: is the file to convert. Give another name.")
    tensors, facts = read_tensors(source, network=network)
    net = build(tensors, facts, source=str(source))
    if wide_dim:
        if not isinstance(net, Generator):
            raise ValueError(f"{source}: only a generator has a mapping to split")
        with one_line(str(source)):
            net = split_mapping(net, wide_dim, torch.Generator().manual_seed(seed))
        form = tensors["mapping.dense0.weight"].dtype
        new = {k: v.to(form) for k, v in net.state_dict().items() if k not in tensors}
        tensors = {**tensors, **new}
    if target.suffix == ".safetensors":
        save_tensors(net, tensors, target, facts)
    else:
        _save_pth(net, tensors, target)
    return sizes(net)


def _save_pth(net: torch.nn.Module, tensors: Mapping[str, Tensor], target: Path) -> None:
    """Writes a bare state_dict, which has no room for metadata."""
    if isinstance(net, PropertyCNN):
        try:
            same = sizes(build(tensors, {}, source="")) == sizes(net)
        except ValueError:
            same = False
        if not same:
            raise ValueError(
                f"{target}: a .pth has no room for this CNN's size and crop, which are not the "
                f"published ones. Write .safetensors instead."
            )
    buffer = io.BytesIO()
    torch.save({name: value.contiguous() for name, value in tensors.items()}, buffer)
    write_atomic(target, buffer.getvalue())
