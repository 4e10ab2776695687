"""Reads named tensors and metadata from the weight files of any network; never executes code.

`.safetensors` contains no code; `.pth` and `.pt` are read with `weights_only=True`, and official
`.pkl` files of StyleGAN2 as plain records.
"""

import argparse
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ohlora_lib.io.disk import check_file
from ohlora_lib.io.stylegan2.official_pickle import read_pickle

Networks = dict[str, dict[str, Tensor]]  # tensors by network name and tensor name


def read_networks(path: Path | str) -> tuple[Networks, dict[str, dict[str, str]]]:
    """Reads all networks in a weight file, and facts about each; ValueError for any other file.

    A network's key is its name in the file, or its path there if another has the same name.
    """
    path = Path(path)
    check_file(path, "weight file")
    tables, facts = read_pickle(path) if path.suffix == ".pkl" else _read_plain(path)
    for tensors in tables.values():
        _check_tensors(tensors, path)
    return tables, facts


def _read_plain(path: Path) -> tuple[Networks, dict[str, dict[str, str]]]:
    facts: dict[str, str] = {}
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                content: Any = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                facts = dict(file.metadata() or {})
        else:
            content = _load_pth(path)
    except Exception as error:  # a damaged file may raise any error
        raise ValueError(
            f"{path}: not a plain weight file; it is truncated, compressed, of another type, or "
            f"contains code, which is never executed. Fetch it again or, if you trust it, save "
            f"its tensors as .safetensors elsewhere."
        ) from error
    tables = dict(_tables(content))
    if not tables:
        raise ValueError(f"{path}: contains no named tensors. Give a file with a state_dict.")
    average = content.get("latent_avg")  # rosinality's files have it beside the generators
    for tensors in tables.values():
        if isinstance(average, Tensor) and "input.input" in tensors:
            tensors["latent_avg"] = average
    ends = [place[-1:] for place in tables]
    names = ["/".join(place if ends.count(place[-1:]) > 1 else place[-1:]) for place in tables]
    return dict(zip(names, tables.values(), strict=True)), {"": facts}


def _load_pth(path: Path) -> Any:
    """Reads a `.pth` file; unpickles only tensors and plain containers."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
        packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
        if packed or sum(part.file_size for part in parts) > path.stat().st_size:
            raise ValueError("compressed: a few bytes could expand to gigabytes")
    harmless = torch.serialization.safe_globals([argparse.Namespace])  # options of a training
    with harmless, warnings.catch_warnings(action="ignore"):  # about pickle protocols
        return torch.load(path, map_location="cpu", weights_only=True)


def _check_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Checks that tensors are dense floating point and claim at most twice the file's size."""
    for name, tensor in tensors.items():
        plain = tensor.layout == torch.strided and not tensor.is_meta
        if not plain or not tensor.dtype.is_floating_point:
            form = f"{tensor.dtype}, {tensor.layout}"
            raise ValueError(f"{path}: tensor {name!r} is {form}; it must be dense floating point")
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if claimed > 2 * path.stat().st_size:  # tied tensors are stored once
        raise ValueError(
            f"{path}: its tensors claim {claimed:,} bytes, over twice the size of the file. "
            f"Fetch it again from a source you trust."
        )


def _tables(content: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict]]:
    """Yields the tables of tensors in a file with their paths, at most two keys deep."""
    if not isinstance(content, Mapping) or not content or len(place) > 2:
        return
    if all(isinstance(name, str) and isinstance(v, Tensor) for name, v in content.items()):
        several = all(name.startswith("module.") for name in content)  # trained on several GPUs
        yield place, {n.removeprefix("module.") if several else n: t for n, t in content.items()}
        return
    for key, value in content.items():
        yield from _tables(value, (*place, str(key)))
