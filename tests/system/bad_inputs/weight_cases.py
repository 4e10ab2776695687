"""Mistakes, and attacks, in weight files; and what goes wrong in turning them into others."""

from __future__ import annotations

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


def generator(root: Path) -> None:
    """A small generator."""
    save_weights(Generator(8, **SIZES), root / "g.safetensors")


def both(root: Path) -> None:
    """A small generator and discriminator."""
    generator(root)
    save_weights(Discriminator(8, fmaps_base=64), root / "d.safetensors")


def zip_bomb(root: Path) -> None:
    """A .pth whose parts are compressed a thousand times: 64 MB of zeros in 64 KB."""
    torch.save(Generator(8, **SIZES).state_dict(), root / "plain.pth")
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


def not_finite(root: Path) -> None:
    """A generator with a number that is none, and its discriminator."""
    both(root)
    net = Generator(8, **SIZES)
    net.mapping.dense0.weight.data[0, 0] = float("nan")
    save_weights(net, root / "g.safetensors")


SAFE = "g.safetensors"
FILES = [
    info("a folder for weights", lambda root: None, "is a folder", "Give a file", file="params"),
    info("a torch file with code", lambda root: torch.save({"g": Trap()}, root / "g.pth"),
         "code", ".safetensors"),
    info("a zip bomb for weights", zip_bomb, "compressed", "Fetch it again"),
    info("gigabytes that one number claims", stretched, "bytes", "Fetch it again"),
    info("a header that claims 16 exabytes", written(SAFE, struct.pack("<Q", 2**64 - 1) + b"{}"),
         "Fetch it again", file=SAFE),
]  # fmt: skip

BASE = "source: files\ngenerator_file: {}\ndiscriminator_file: {}"
TURNED = [
    Bad("publishing into a full folder", ("weights", "publish", SAFE, "params"),
        ("params", "not empty", "new folder"), generator),
    stage("a base of the wrong kind", BASE.format("d.safetensors", "d.safetensors"),
          "d.safetensors", "holds a discriminator, not a generator", also=both),
    stage("a base with numbers that are none", BASE.format(SAFE, "d.safetensors"), SAFE,
          "not finite", "Fetch it again", also=not_finite),
]  # fmt: skip

CASES = [*FILES, *TURNED]
