"""Images: uint8 stores on disk, floats for networks, grids for people.

Axes: N images, B batch, H image height.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from ohlora_lib.io.disk import atomic_path, check_file, write_atomic
from ohlora_lib.io.pictures import read_image

CHUNK = 256  # files decoded together, and in memory together
HOLD_BYTES = 2**31  # images over this size stay on the disk and are read as they are needed


def save_store(path: Path | str, images: np.ndarray) -> None:
    """Writes images, uint8 (N, H, H, 3), as one `.npy` file, whole or not at all."""
    with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
        np.save(file, images)


class StoreWriter:
    """Writes an image store batch by batch; only one batch is ever in memory.

    Args:
        file: Open for binary writing, empty.
        image_px: Side H of the images.
    """

    def __init__(self, file: BinaryIO, image_px: int) -> None:
        self.file, self.image_px, self.count = file, image_px, 0
        self.write_header()

    def append(self, images: np.ndarray) -> None:
        """Adds images, uint8 (N, H, H, 3)."""
        assert images.dtype == np.uint8, images.dtype
        assert images.shape[1:] == (self.image_px, self.image_px, 3), images.shape
        self.file.write(np.ascontiguousarray(images).data)
        self.count += len(images)

    def write_header(self) -> None:
        """Says at the file's beginning how many images there are; numpy leaves room to grow."""
        shape = (self.count, self.image_px, self.image_px, 3)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        self.file.seek(0)
        np.lib.format.write_array_header_1_0(self.file, header)


@contextmanager
def new_store(path: Path | str, image_px: int) -> Iterator[StoreWriter]:
    """Opens an image store for writing batch by batch; it appears whole or not at all."""
    with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
        writer = StoreWriter(file, image_px)
        yield writer
        writer.write_header()


def _named(path: Path, folder: Path) -> str:
    """A path relative to a folder, bytes that are no text escaped."""
    return path.relative_to(folder).as_posix().encode("utf-8", "backslashreplace").decode()


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

    def table(self) -> pd.DataFrame:
        """A row a file: img_no (row of the store), file, status, detail."""
        table = pd.DataFrame(self.rows, columns=["img_no", "file", "status", "detail"])
        return table.astype({"img_no": "Int64"})


def open_store(path: Path | str) -> np.ndarray:
    """Opens a store memory-mapped, uint8 (N, H, H, 3).

    Raises:
        ValueError: If the file is missing or holds something else.
    """
    path = Path(path)
    check_file(path, "image store", "Run the stage that makes it first.")
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path}: not an image store ({error}). Make it again.") from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(
            f"{path}: holds {images.dtype} {images.shape}; an image store is uint8 (N, H, H, 3)"
        )
    return images


def to_tensor(images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """Copies uint8 images (N, H, H, 3), or numbers of rows, to a device; the kind stays."""
    return torch.from_numpy(np.array(images)).to(device)  # stores and pandas lend read-only


class StoredImages:
    """Images that stay in a memory-mapped store; reads like a uint8 tensor (N, H, H, 3).

    Rows are copied to the device when they are asked for, so any number of images fits.

    Args:
        store: uint8, shape (M, H, H, 3).
        rows: Which N of them, in which order.
        device: Where to copy what is asked for.
    """

    def __init__(self, store: np.ndarray, rows: np.ndarray, device: torch.device | str) -> None:
        self.store, self.rows, self.device = store, rows, torch.device(device)
        self.shape = torch.Size((len(rows), *store.shape[1:]))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Tensor | np.ndarray | slice) -> Tensor:
        """Copies some rows to the device, uint8 (n, H, H, 3)."""
        if isinstance(rows, Tensor):
            rows = rows.cpu().numpy()
        return to_tensor(self.store[self.rows[rows]], self.device)

    def split(self, batch: int) -> Iterator[Tensor]:
        """Yields all rows in order, a batch at a time."""
        for first in range(0, len(self), batch):
            yield self[first : first + batch]


Images = Tensor | StoredImages  # uint8, shape (N, H, H, 3): on a device, or on the disk


def hold(
    store: np.ndarray,
    device: torch.device | str = "cpu",
    *,
    rows: np.ndarray | None = None,
    most_bytes: int = HOLD_BYTES,
) -> Images:
    """Puts images on a device if they are few; else leaves them on the disk.

    Args:
        store: uint8, shape (M, H, H, 3).
        device: Where they are used.
        rows: Which of them; all if None.
        most_bytes: Memory they may take.
    """
    rows = np.arange(len(store)) if rows is None else np.asarray(rows)
    if len(rows) * store[:1].nbytes <= most_bytes:
        return to_tensor(store[rows], device)
    return StoredImages(store, rows, device)


def take(images: Images, rows: np.ndarray | pd.Series) -> Images:
    """Some of the images, where they are: on the device, or on the disk."""
    if isinstance(images, StoredImages):
        return StoredImages(images.store, images.rows[np.array(rows)], images.device)
    return images[to_tensor(rows, images.device)]


def make_grid(images: np.ndarray, columns: int = 8, *, gap_px: int = 2) -> np.ndarray:
    """Lays images out row by row on white.

    Args:
        images: uint8, shape (N, H, H, 3).
        columns: Images a row.
        gap_px: White between images, pixels.

    Returns:
        One image, uint8, shape (rows * (H + gap) - gap, columns * (H + gap) - gap, 3).
    """
    count, height, width, _ = images.shape
    columns = min(columns, max(count, 1))
    rows = -(-count // columns)
    size = (rows * (height + gap_px) - gap_px, columns * (width + gap_px) - gap_px, 3)
    grid = np.full(size, 255, dtype=np.uint8)
    for k, image in enumerate(images):
        y, x = (k // columns) * (height + gap_px), (k % columns) * (width + gap_px)
        grid[y : y + height, x : x + width] = image
    return grid


def grid_image(images: np.ndarray, columns: int = 8, *, scale: int = 1) -> Image.Image:
    """A grid as a picture, each pixel shown `scale` times as wide and high."""
    picture = Image.fromarray(make_grid(images, columns))
    if scale == 1:
        return picture
    return picture.resize(
        (picture.width * scale, picture.height * scale), Image.Resampling.BICUBIC
    )


def enlarged(pixels: np.ndarray, side_px: int) -> Image.Image:
    """A picture of uint8 (H, W, 3), enlarged by a whole factor to sides of at least `side_px`."""
    picture = Image.fromarray(pixels)
    times = -(-side_px // min(picture.size))
    if times <= 1:
        return picture
    return picture.resize(
        (picture.width * times, picture.height * times), Image.Resampling.BICUBIC
    )


def to_png(picture: Image.Image) -> bytes:
    """A picture as PNG, quickly rather than small."""
    buffer = io.BytesIO()
    picture.save(buffer, format="png", compress_level=1)
    return buffer.getvalue()


def save_png(path: Path | str, picture: Image.Image | np.ndarray) -> None:
    """Writes a picture, or uint8 (H, W, 3), as PNG, whole or not at all."""
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    buffer = io.BytesIO()
    picture.save(buffer, format="png", optimize=True)
    write_atomic(Path(path), buffer.getvalue())
