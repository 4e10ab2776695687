"""Bad inputs as data: what a user did, the command, the files, and what the one line must say."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ohlora_lib import cli

ROOT = Path(__file__).parents[3]
BASE = "params/tiny/02_train_base.yaml"
Content = bytes | str | Callable[[Path], object]  # a function is given the path


class Bad(NamedTuple):
    """One mistake."""

    name: str  # what was done, for people
    command: str  # of `ohlora`, called in the project
    words: tuple[str, ...]  # parts of the line: the file or flag, the value, what to do
    files: Mapping[str, Content]  # the bad files in an empty project, by path


class Seen(NamedTuple):
    """What came of it."""

    status: int
    out: str
    err: str
    changed: list[str]  # files that were made, changed or removed


def said(name: str, command: str, *words: str, files: Mapping[str, Content] | None = None) -> Bad:
    """A command line that is wrong, or names files that are."""
    return Bad(name, command, words, {BASE: "study: tiny\n"} if files is None else files)


def stage(
    name: str, text: bytes | str, *words: str, stem: str = "02_train_base",
    files: Mapping[str, Content] | None = None,
) -> Bad:  # fmt: skip
    """A params file of study tiny that is wrong."""
    path = f"params/tiny/{stem}.yaml"
    if isinstance(text, str) and "study:" not in text:
        text = f"study: tiny\n{text}"
    return Bad(name, "run params/tiny", (path, *words), {path: text, **(files or {})})


def noise(keep: int | None = None) -> bytes:
    """A picture that does not compress, or its beginning."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()[:keep]


def png_bomb(side_px: int = 60_000) -> bytes:
    """A PNG that claims gigapixels."""
    head = struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)
    parts = {b"IHDR": head, b"IDAT": zlib.compress(b"\0" * 10**6, 9), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts.items()
    )


FINISHED = json.dumps({"status": "finished", "results": {}, "artefacts": []})


def tree(root: Path) -> dict[str, tuple]:
    """Every path of a folder: size and time of change of files."""
    facts = {}
    for folder, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(folder, name)
            plain = not path.is_dir() or path.is_symlink()
            facts[str(path)] = (path.lstat().st_size, path.lstat().st_mtime_ns) if plain else ()
    return facts


def look(case: Bad, folder: Path) -> Seen:
    """Makes the mistake in an empty project with the real notebooks; says what the user sees."""
    root = folder.resolve() / "project"
    for name in ("params/tiny", "outputs/tiny"):
        (root / name).mkdir(parents=True)
    (root / "notebooks").symlink_to(ROOT / "notebooks")
    for name, content in case.files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    before, out, err, status = tree(folder), io.StringIO(), io.StringIO(), 0
    with chdir(root), redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main(case.command.split())
        except SystemExit as ended:
            status = ended.code
    after = tree(folder)
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return Seen(status, out.getvalue(), err.getvalue().replace(str(root), "PROJECT"), changed)
