"""Writes small ONNX models, field by field, so that no test needs the `onnx` package.

Numbers of fields are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from collections.abc import Sequence
from pathlib import Path

FLOAT = 1


def varint(value: int) -> bytes:
    """An integer, seven bits a byte, the lowest first."""
    more = value >> 7
    return bytes([value & 127 | bool(more) << 7]) + (varint(more) if more else b"")


def field(number: int, value: int | str | bytes) -> bytes:
    """One field of a protocol buffer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(name: str, shape: Sequence[int | str]) -> bytes:
    """A float32 input or output; a name as size is any."""
    dims = b"".join(field(1, field(1 + isinstance(size, str), size)) for size in shape)
    return field(1, name) + field(2, field(1, field(1, FLOAT) + field(2, dims)))


def mean_model(path: Path, shape: Sequence[int | str], *, axes: Sequence[int] = (2, 3)) -> Path:
    """A model whose output `means` (N, 3) is the mean of its input over some axes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    over = field(1, "axes") + b"".join(field(8, axis) for axis in axes) + field(20, 7)
    keep = field(1, "keepdims") + field(3, 0) + field(20, 2)
    node = field(1, "x") + field(2, "means") + field(4, "ReduceMean")
    node += field(5, over) + field(5, keep)
    output = [shape[axis] for axis in range(len(shape)) if axis not in axes]
    graph = field(1, node) + field(2, "g")
    graph += field(11, tensor("x", shape)) + field(12, tensor("means", output))
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13)))
    return path
