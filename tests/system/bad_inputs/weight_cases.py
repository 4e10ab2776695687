"""Mistakes, and attacks, in weight files; and what goes wrong in turning them into others."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from ohlora_lib.io.weights import save_weights
from ohlora_lib.nets import Discriminator, Generator
from tests.system.bad_inputs.cases import Bad
from tests.system.bad_inputs.params_cases import stage, written

SIZES = {"z_dim": 8, "w_dim": 8, "fmaps_base": 64}


class Trap:
    """Makes the file `trap` where it is unpickled without care."""

    def __reduce__(self) -> tuple:
        return open, ("trap", "w")


def generator(root: Path, name: str = "g.safetensors") -> Path:
    """A small generator."""
    torch.manual_seed(0)
    net = Generator(8, **SIZES)
    if name.endswith(".pth"):
        torch.save(net.state_dict(), root / name)
    else:
        save_weights(net, root / name)
    return root / name


def both(root: Path) -> None:
    """A small generator and discriminator."""
    generator(root)
    save_weights(Discriminator(8, fmaps_base=64), root / "d.safetensors")


def cut(name: str) -> Callable[[Path], object]:
    """A weight file that ends early."""

    def prepare(root: Path) -> None:
        data = generator(root, name).read_bytes()
        (root / name).write_bytes(data[: len(data) // 2])

    return prepare


def zip_bomb(root: Path) -> None:
    """A .pth whose parts are compressed a thousand times: 64 MB of zeros in 64 KB."""
    generator(root, "plain.pth")
    with (
        zipfile.ZipFile(root / "plain.pth") as old,
        zipfile.ZipFile(root / "g.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name) + b"\0" * (name.endswith("data/0") * 2**26))


def stretched(root: Path) -> None:
    """A generator of gigabytes whose tensors all repeat one number of a file of kilobytes."""
    with torch.device("meta"):
        net = Generator(1024, z_dim=4096, w_dim=4096, fmaps_base=65536, fmaps_max=4096)
    one = torch.zeros(())
    torch.save({k: one.expand(v.shape) for k, v in net.state_dict().items()}, root / "g.pth")


def info(name: str, prepare: Callable[[Path], object], *words: str, file: str = "g.pth") -> Bad:
    """`ohlora weights info` of a bad file."""
    return Bad(name, ("weights", "info", file), (file, *words), prepare)


def saved(content: object) -> Callable[[Path], object]:
    """What torch.save makes of something."""
    return lambda root: torch.save(content, root / "g.pth")


def not_finite(root: Path) -> None:
    """A generator with a number that is none, and its discriminator."""
    both(root)
    net = Generator(8, **SIZES)
    net.mapping.dense0.weight.data[0, 0] = float("nan")
    save_weights(net, root / "g.safetensors")


SAFE = "g.safetensors"
FILES = [
    info("weights that are not there", lambda root: None, "no such weight file", "Check"),
    info("a folder for weights", lambda root: None, "is a folder", "Give a file", file="params"),
    info("a web page for weights", written("g.pth", "<html>404</html>"), "Fetch it again"),
    info("weights cut off", cut("g.pth"), "truncated", "Fetch it again"),
    info("a pickle with code", written("g.pth", pickle.dumps({"g": Trap()})), "code",
         ".safetensors"),
    info("a torch file with code", saved({"generator": Trap()}), "code", ".safetensors"),
    info("a zip bomb for weights", zip_bomb, "compressed", "Fetch it again"),
    info("gigabytes that one number claims", stretched, "bytes", "Fetch it again"),
    info("a header that claims 16 exabytes", written(SAFE, struct.pack("<Q", 2**64 - 1) + b"{}"),
         "Fetch it again", file=SAFE),
    info("whole numbers for weights", saved({"input0.weight": torch.zeros(2, dtype=torch.int64)}),
         "'input0.weight' is torch.int64", "floating point"),
    info("tensors of no network", saved({"x": torch.zeros(2)}), "'x'", "no generator"),
]  # fmt: skip


def convert(name: str, *words: str, arguments: tuple[str, ...] = (SAFE, "out.pth")) -> Bad:
    """`ohlora weights convert` gone wrong."""
    return Bad(name, ("weights", "convert", *arguments), words, both)


BASE = "source: files\ngenerator_file: {}\ndiscriminator_file: {}"
TURNED = [
    convert("a suffix of no weights", "out.bin", ".safetensors", arguments=(SAFE, "out.bin")),
    convert("weights over themselves", SAFE, "another name", arguments=(SAFE, SAFE)),
    convert("a network that is not in there", "'teacher'", SAFE,
            arguments=(SAFE, "out.pth", "--network", "teacher")),
    convert("a discriminator to split", "d.safetensors", "only a generator",
            arguments=("d.safetensors", "out.pth", "--split", "8")),
    convert("a split without end", "--split", "65536",
            arguments=(SAFE, "out.pth", "--split", "99999999999")),
    Bad("publishing into a full folder", ("weights", "publish", SAFE, "params"),
        ("params", "not empty", "new folder"), generator),
    stage("a base of the wrong kind", BASE.format("d.safetensors", "d.safetensors"),
          "d.safetensors", "holds a discriminator, not a generator", also=both),
    stage("a base with numbers that are none", BASE.format(SAFE, "d.safetensors"), SAFE,
          "not finite", "Fetch it again", also=not_finite),
]  # fmt: skip

CASES = [*FILES, *TURNED]
