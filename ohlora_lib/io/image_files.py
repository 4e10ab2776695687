"""Reads image files of any common format into a store: one square size, nothing dropped silently.

Axes: N images, H image height.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from ohlora_lib.io.images import StoreWriter
from ohlora_lib.io.pictures import NOT_ENTERED, open_image, walk

CHUNK = 256  # files decoded together, and in memory together


def read_image(path: Path | str, image_px: int, *, fit: str = "crop") -> np.ndarray:
    """Reads one image file as a square, uint8 (H, H, 3).

    Rotated as its EXIF orientation says; transparent parts become white; of an animation the
    first frame is taken.

    Args:
        path: The file.
        image_px: Side H, pixels.
        fit: `crop` keeps the centre square, `pad` the whole image, on white.

    Raises:
        ValueError: If the file cannot be read as an image; says why.
    """
    with open_image(path) as file:
        file.draft("RGB", (2 * image_px, 2 * image_px))  # large photographs decode faster
        picture = _opaque(ImageOps.exif_transpose(file))
        return _crop(picture, image_px) if fit == "crop" else _pad(picture, image_px)


def _named(path: Path, folder: Path) -> str:
    """A path relative to a folder, bytes that are no text escaped."""
    return path.relative_to(folder).as_posix().encode("utf-8", "backslashreplace").decode()


def _opaque(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16") or picture.mode in {"I", "F"}:  # 16-bit or measured grey
        values = np.asarray(picture, dtype=np.float32)
        low, high = values.min(), values.max()
        if not 0 <= low <= high <= 65535:  # not a number among them too
            raise ValueError(f"its values go from {low:g} to {high:g}, not from 0 to 65,535")
        tops = [65535] if picture.mode.startswith("I;16") else [1, 255, 65535]
        top = next(t for t in tops[picture.mode == "I" :] or tops if high <= t)
        picture = Image.fromarray((values * (255 / top)).round().astype(np.uint8))
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")


def _crop(picture: Image.Image, image_px: int) -> np.ndarray:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    box = (left, top, left + side, top + side)
    return np.asarray(picture.resize((image_px, image_px), Image.Resampling.LANCZOS, box=box))


def _pad(picture: Image.Image, image_px: int) -> np.ndarray:
    size = (image_px, image_px)
    return np.asarray(ImageOps.pad(picture, size, Image.Resampling.LANCZOS, color="white"))


@dataclass
class Importer:
    """Reads files into a store, each different image once, and remembers what became of each.

    Args:
        writer: The store.
        fit: `crop` or `pad`.
        workers: Files decoded at the same time.
    """

    writer: StoreWriter
    fit: str = "crop"
    workers: int = 4
    seen: dict[bytes, str] = field(default_factory=dict)  # hash of pixels: first file
    rows: list[tuple] = field(default_factory=list)

    def run(self, paths: Sequence[Path], folder: Path) -> Iterator[int]:
        """Reads all files.

        Args:
            paths: The files.
            folder: What their names are relative to.

        Yields:
            Number of files done, after each chunk.
        """
        with ThreadPoolExecutor(self.workers) as pool:
            for first in range(0, len(paths), CHUNK):
                chunk = paths[first : first + CHUNK]
                with warnings.catch_warnings(action="ignore"):  # of oddities that do no harm
                    images = list(pool.map(self._read, chunk))
                for path, found in zip(chunk, images, strict=True):
                    self._add(_named(path, folder), found)
                yield first + len(chunk)

    def _read(self, path: Path) -> np.ndarray | str:
        try:
            return read_image(path, self.writer.image_px, fit=self.fit)
        except ValueError as error:
            return str(error).removeprefix(f"{path}: ")

    def _add(self, name: str, found: np.ndarray | str) -> None:
        if isinstance(found, str):
            self.rows.append((pd.NA, name, "unreadable", found))
            return
        key = hashlib.blake2b(found.tobytes(), digest_size=16).digest()
        if key in self.seen:
            self.rows.append((pd.NA, name, "duplicate", f"same pixels as {self.seen[key]}"))
            return
        self.seen[key] = name
        self.rows.append((self.writer.count, name, "read", ""))
        self.writer.append(found[None])

    def leave_out(self, folder: Path) -> None:
        """Remembers the links and folders that could not be entered, after all files."""
        for path, why in walk(folder).left_out.items():
            self.rows.append((pd.NA, _named(path, folder), NOT_ENTERED, why))

    def table(self) -> pd.DataFrame:
        """A row a file: img_no (row of the store), file, status, detail."""
        table = pd.DataFrame(self.rows, columns=["img_no", "file", "status", "detail"])
        return table.astype({"img_no": "Int64"})
