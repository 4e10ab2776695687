"""Mistakes on the command line, in the environment, and in run folders that are read back."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.system.bad_inputs.cases import Bad
from tests.system.bad_inputs.params_cases import FILE, finished, written

good = written(FILE, "study: tiny\n")
TUNED = "outputs/tiny/05_finetune_generator"


def said(name: str, arguments: str, *words: str, prepare: Callable = good, **more: object) -> Bad:
    """A command line that is wrong."""
    return Bad(name, tuple(arguments.split()), words, prepare, **more)


def chunk(kind: bytes, data: bytes) -> bytes:
    """One part of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(side_px: int = 60_000) -> bytes:
    """A PNG that claims gigapixels."""
    head = struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 10**6, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def noise() -> bytes:
    """A picture that does not compress."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def tuned(grid: bytes = b"", config: str = "{}") -> Callable[[Path], object]:
    """A finished fine-tuning with one grid."""

    def prepare(root: Path) -> None:
        finished(root / TUNED)
        written(f"{TUNED}/config.json", config)(root)
        file = root / TUNED / "images" / "fixed-epoch0-idx0.png"
        file.parent.mkdir()
        file.write_bytes(grid or noise())

    return prepare


COMMANDS = [
    said("a glob that matches nothing", "run params/tiny --only 99*", "'99*'", "02_train_base"),
    said("a study that is not there", "run params/tinny", "params/tinny", "no such folder"),
    said("a file for a study", f"run {FILE}", FILE, "--only 02_train_base"),
    said("a study outside a project", "run /tmp", "/tmp", "params/ and notebooks/"),
    said("OHLORA_ROOT gone", "run params/other", "OHLORA_ROOT", "/nowhere lies in no",
         environment={"OHLORA_ROOT": "/nowhere"}),
    said("a target over 1", "compare a.csv --concept gender=2", "'gender': 2.0", "0 to 1"),
    said("a column without a name", "compare a.csv --column d_loss", "'d_loss'", "OURS=THEIRS"),
]  # fmt: skip


PNG = f"{TUNED}/images/fixed-epoch0-idx0.png"
FILMS = [
    said("a run with damaged parameters", f"film {TUNED} a.webp --walk 0,1", "config.json",
         "damaged", "Run the stage again", prepare=tuned(config='{"base_run": ')),
    said("a run without its base", f"film {TUNED} a.webp --walk 0,1", "base_run is ''",
         prepare=tuned(config='{"seed": 0}')),
    said("a picture cut off", f"film {TUNED} a.webp", PNG, "not a readable image",
         prepare=tuned(noise()[:600])),
]  # fmt: skip

CASES = [*COMMANDS, *FILMS]
