"""Reads official StyleGAN2 files (`.pkl`) as plain records; never executes what is in them.

A file is a pickle of the networks `G_ema`, `D` and `G`, each with the source text of its class.
That text is dropped unread, and every global but those of STAND_INS is refused by name.
Format: https://github.com/NVlabs/stylegan2-ada-pytorch and https://github.com/NVlabs/stylegan3.
"""

import mmap
import pickle
import pickletools
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

NETWORKS = ("G_ema", "D", "G")  # of a file; G_ema is the averaged generator
FACTS = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels")  # among the init_kwargs
ADA = "https://github.com/NVlabs/stylegan2-ada-pytorch"
NO_CONVERTER = "Its layers differ from StyleGAN2's: no converter exists. Give a StyleGAN2's .pkl"
OTHERS = {  # names in other StyleGANs' files; StyleGAN-XL's layers are StyleGAN3's
    "TensorFlow": r"^dnnlib\.tflib\.network\b",
    "StyleGAN3": r"^L0_\d+_\d+$",
    "StyleGAN-XL": r"^(pg_modules\b|SuperresGenerator$)",
}
MOST_LETTERS = 100  # of a name
MOST_ENTRIES = 1_000_000  # an official file has some 50,000; each takes memory
FRAME_HEAD = 9  # bytes of a frame's mark and length


class RefusedError(ValueError):
    """A pickle holds what may not be read; the message says what."""


@dataclass
class _Storage:
    """Numbers of one or more tensors: the bytes of an inner `torch.save`, until they are read."""

    data: bytes
    flat: Tensor | None = None

    def read(self) -> Tensor:
        if self.flat is None:
            if not self.data.startswith(b"\x80"):
                raise RefusedError("a tensor is not in the format of torch.save before torch 1.6")
            _check_claims(self.data)
            held = torch.load(BytesIO(self.data), map_location="cpu", weights_only=True)
            self.flat = torch.empty(0, dtype=held.dtype).set_(held)
            self.data = b""
        return self.flat


def _check_claims(data: bytes) -> None:
    """Checks, before memory is taken, that a storage claims no more numbers than it has bytes."""
    file = BytesIO(data)
    for _ in ("magic number", "protocol", "system", "storage"):
        numbers = [arg for _, arg, _ in pickletools.genops(file) if isinstance(arg, int)]
    if max(numbers) > len(data):
        raise RefusedError(f"a tensor claims {max(numbers):,} numbers in {len(data):,} bytes")


@dataclass
class _Tensor:
    """A tensor that has not been read; `as_strided` refuses shapes outside the storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self) -> Tensor:
        return self.storage.read().as_strided(self.shape, self.stride, self.offset)


@dataclass
class _Module:
    """One network, or a part of one: the `__dict__` of the object that was saved."""

    state: dict[str, Any]


class _Dtype:
    """A number format of NumPy, such as `<f8`; the byte order comes in a second step."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]


def _number(form: _Dtype, data: bytes) -> float | int | bool:
    """Returns a NumPy scalar as a number."""
    if not re.fullmatch(r"[biuf][1248]", form.code) or form.order not in ("<", ">", "|"):
        raise RefusedError(f"a number has the format {form.code!r}")
    return np.frombuffer(data, form.order + form.code)[0].item()


STAND_INS = {
    "torch_utils.persistence._reconstruct_persistent_obj": lambda meta: _Module(meta["state"]),
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_tensor_v2": lambda *args: _Tensor(*args[:4]),
    "torch.storage._load_from_bytes": _Storage,
    "torch.device": lambda *args: ":".join(map(str, args)),
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray.scalar": _number,
    "numpy._core.multiarray.scalar": _number,
    "dnnlib.util.EasyDict": dict,
    "dnnlib.EasyDict": dict,
    "collections.OrderedDict": dict,
    "builtins.set": set,
    "__builtin__.set": set,
}


class _Reader(pickle.Unpickler):
    """Builds records and plain containers only."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns the stand-in for a global; RefusedError if it has none."""
        found = f"{module}.{name}"
        if found not in STAND_INS:
            raise RefusedError(
                f"it names {found[:MOST_LETTERS]!r}, which no StyleGAN2 file needs. Give an "
                f"official file, or one from a source you trust"
            )
        taken = STAND_INS[found]
        return taken if taken in (dict, set) else partial(taken)  # a file may change what it gets


def _check_stream(path: Path) -> None:
    """Checks the lengths in a pickle before memory is taken, and names StyleGANs of other kinds.

    RefusedError if it is one; the pickle is not loaded.
    """
    others, frame_end, last = set[str](), 0, 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        for count, (code, value, place) in enumerate(pickletools.genops(view)):
            if isinstance(value, str) and len(value) <= MOST_LETTERS:
                found = (kind for kind, mark in OTHERS.items() if re.search(mark, value))
                others.update(found)
            if count > MOST_ENTRIES:
                raise RefusedError(f"it has over {MOST_ENTRIES:,} entries; networks have fewer")
            if code.name.endswith("PUT") and value > count:
                raise EOFError(f"{code.name} claims {value:,} objects")
            if last < frame_end < place or (code.name == "FRAME" and place < frame_end):
                raise EOFError("an entry crosses its frame's end, where readers differ")
            if code.name == "FRAME":
                frame_end = place + FRAME_HEAD + value
                if frame_end > len(view):
                    raise EOFError(f"a frame claims {value:,} bytes")
            last = place
    if "TensorFlow" in others:
        raise RefusedError(
            f"it is a StyleGAN for TensorFlow. Convert it with legacy.py of {ADA} and give the "
            f"file it writes"
        )
    if "StyleGAN3" in others:
        kind = "StyleGAN-XL" if "StyleGAN-XL" in others else "StyleGAN3"
        raise RefusedError(f"it is a {kind}. {NO_CONVERTER}")


def _modules(module: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, dict]]:
    """Yields the name and `__dict__` of a network and of its parts."""
    if not isinstance(module, _Module) or depth > 8:
        raise RefusedError(f"its part {name!r} is not a network of the official form")
    yield name, module.state
    for part, inner in module.state["_modules"].items():
        if inner is not None:
            yield from _modules(inner, f"{name}{part}.", depth + 1)


def _network(module: Any) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns a network's tensors by name, and the facts about it that its tensors do not show."""
    parts, seen = dict[str, dict](), set[int]()
    for name, state in _modules(module):
        if id(state) in seen:  # a small file could name endless parts
            raise RefusedError(f"its part {name!r} occurs twice")
        parts[name] = state
        seen.add(id(state))
    tensors = {
        name + key: tensor.read()
        for name, state in parts.items()
        for kind in ("_parameters", "_buffers")
        for key, tensor in state[kind].items()
        if tensor is not None
    }
    options = parts[""].get("_init_kwargs", {})
    inner = options.get("synthesis_kwargs", {})
    layer = parts.get("synthesis.b4.conv1.", parts.get("b4.conv.", {}))
    clamp = layer.get("conv_clamp", inner.get("conv_clamp", options.get("conv_clamp")))
    facts = {name: options[name] for name in FACTS if name in options}
    facts["conv_clamp"] = clamp
    if "group_size" in (group := parts.get("b4.mbstd.", {})):
        facts["mbstd_group_size"] = group["group_size"]
    if parts.get("mapping.fc0.", {}).get("bias_gain", 0.01) != 0.01:
        raise RefusedError("the learning-rate multiplier of its mapping is not 0.01, StyleGAN2's")
    if any(not isinstance(value, int | float | None) for value in facts.values()):
        raise RefusedError("its sizes are not all numbers")
    return tensors, {name: str(value) for name, value in facts.items()}


def read_pickle(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict[str, str]]]:
    """Reads the networks of an official `.pkl`, and facts about each that tensors do not show.

    ValueError, with one line, if it is another kind of pickle, damaged, or names other globals.
    """
    tables, facts = {}, {}
    try:
        _check_stream(path)
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):
            content = _Reader(file).load()
            if not isinstance(content, dict) or not content.keys() & set(NETWORKS):
                raise RefusedError("it holds no G_ema, D or G. Give an official StyleGAN2 file")
            for name in NETWORKS:
                if (module := content.pop(name, None)) is not None:
                    tables[name], facts[name] = _network(module)
    except RefusedError as error:
        raise ValueError(f"{path}: not read: {error}. Nothing in it was executed.") from None
    except Exception as error:  # a damaged pickle may raise any error
        raise ValueError(
            f"{path}: not an official StyleGAN2 file, or truncated ({type(error).__name__}). "
            f"Nothing in it was executed. Fetch it again."
        ) from error
    return tables, facts
