"""Reads weight files: named tensors and metadata, whatever they are of. Nothing is ever executed.

`.safetensors` holds no code; `.pth` is read with `weights_only=True`.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ohlora_lib.io.disk import check_file


def read_networks(path: Path | str) -> tuple[dict[str, dict[str, Tensor]], dict[str, str]]:
    """Reads every network of a weight file by its name in there; the only one may have none.

    Raises:
        ValueError: If the file is missing, truncated, not a weight file, or holds code.
    """
    path = Path(path)
    check_file(path, "weight file")
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                facts = dict(file.metadata() or {})
        except SafetensorError as error:
            raise ValueError(
                f"{path}: not a readable .safetensors file ({error}). Fetch it again."
            ) from error
        tables = {"": tensors}
    else:
        tables, facts = _named(_tables(_load_pth(path))), {}
    if not tables:
        raise ValueError(f"{path}: holds no table of named tensors. Give a state_dict file.")
    for tensors in tables.values():
        _check_tensors(tensors, path)
    return tables, facts


def _check_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    for name, tensor in tensors.items():
        plain = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta
        if not plain or not tensor.dtype.is_floating_point:
            raise ValueError(
                f"{path}: tensor {name!r} is {tensor.dtype}, {tensor.layout}; weights are plain "
                f"tensors of floating point numbers"
            )


def _load_pth(path: Path) -> Any:
    """Reads a `.pth` file; nothing but tensors and plain containers is unpickled."""
    _check_stored(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickle protocols; the error says it
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises whatever its damage leads to
        words = str(error)
        reason = "truncated, or no file of torch.save"
        if "Unsupported operand" in words:  # text, or a pickle of another kind
            reason = "no file of torch.save; code in it is never run here"
        elif "weights_only" in words or "Unsupported global" in words:
            reason = "it holds code, which is never run here"
        raise ValueError(
            f"{path}: not a plain weight file ({reason}). Fetch it again, or write its tensors to "
            f".safetensors where you trust it."
        ) from error


def _check_stored(path: Path) -> None:
    """Refuses a `.pth` with compressed parts, whose few bytes can stand for gigabytes."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # the older form, or none: torch.load says what is wrong with it
    size = path.stat().st_size
    packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
    if packed or sum(part.file_size for part in parts) > size:
        raise ValueError(
            f"{path}: holds compressed parts, which torch.save never writes. "
            f"Fetch it again, from whom you trust."
        )


def _tables(content: Any, path: tuple[str, ...] = (), depth: int = 2) -> dict[tuple, dict]:
    """The tables of tensors in a loaded `.pth` by their path: bare, by network, in `models`."""
    if not isinstance(content, Mapping) or not content:
        return {}
    if all(isinstance(name, str) and isinstance(v, Tensor) for name, v in content.items()):
        return {path: _without_prefix(content)}
    tables: dict[tuple, dict] = {}
    for key, value in content.items() if depth else ():
        tables |= _tables(value, (*path, str(key)), depth - 1)
    return tables


def _without_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the `module.` that training on several GPUs puts before all of them."""
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return dict(tensors)


def _named(tables: Mapping[tuple, dict]) -> dict[str, dict[str, Tensor]]:
    """Tables by their last name, or by their whole path where that is not one table's alone."""
    ends = [path[-1] if path else "" for path in tables]
    return {
        end if ends.count(end) == 1 else "/".join(path): table
        for (path, table), end in zip(tables.items(), ends, strict=True)
    }
