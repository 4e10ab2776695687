"""Images: uint8 stores on disk, tensors for networks, grids for people.

Axes: N images, H image height.
"""

import hashlib
import io
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ohlora_lib.io.disk import atomic_path, check_file, complaint
from ohlora_lib.io.pictures import read_image

CHUNK = 256  # files decoded together and held in memory together
HOLD_BYTES = 2**31  # larger image sets stay on disk and are read on demand
HEADER_BYTES = 128  # of a `.npy` file; has room for any number of images
SAME_PIXELS = "same pixels as "  # before the name of the file that a duplicate equals
GAP_PX = 2  # white between the images of a grid


@dataclass
class StoreWriter:
    """Writes an image store batch by batch, with only one batch in memory."""

    file: BinaryIO
    image_px: int
    count: int = 0

    def append(self, images: np.ndarray) -> None:
        """Adds images, uint8 (n, H, H, 3)."""
        assert (images.dtype, *images.shape[1:]) == (np.uint8, self.image_px, self.image_px, 3)
        self.file.write(np.ascontiguousarray(images).data)
        self.count += len(images)


@contextmanager
def new_store(path: Path | str, image_px: int) -> Iterator[StoreWriter]:
    """Opens a new image store, `.npy`, for images of one size; it appears only when complete."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        store = StoreWriter(file, image_px)
        file.write(bytes(HEADER_BYTES))
        yield store
        shape = (store.count, image_px, image_px, 3)
        file.seek(0)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        assert file.tell() == HEADER_BYTES


def import_images(
    store: StoreWriter, paths: Sequence[Path], folder: Path, *, fit: str = "crop"
) -> Iterator[tuple[int | None, str, str, str]]:
    """Reads picture files from a folder into a store, skipping duplicates.

    Yields for each file its row in the store or None, its name, a status and a detail.
    """
    seen: dict[bytes, str] = {}  # hash of pixels: first file

    def read(path: Path) -> np.ndarray | str:
        try:
            return read_image(path, store.image_px, fit=fit)
        except ValueError as error:
            return str(error).removeprefix(f"{path}: ")

    with ThreadPoolExecutor(4) as pool:
        for start in range(0, len(paths), CHUNK):
            chunk = paths[start : start + CHUNK]
            with warnings.catch_warnings(action="ignore"):  # about harmless oddities
                images = list(pool.map(read, chunk))
            for path, image in zip(chunk, images, strict=True):
                name = path.relative_to(folder).as_posix()
                name = name.encode("utf-8", "backslashreplace").decode()  # undecodable bytes
                if isinstance(image, str):
                    yield None, name, "unreadable", image
                    continue
                key = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
                if key in seen:
                    yield None, name, "duplicate", SAME_PIXELS + seen[key]
                    continue
                seen[key] = name
                store.append(image[None])
                yield store.count - 1, name, "read", ""


def open_store(path: Path | str) -> np.ndarray:
    """Opens a store memory-mapped, uint8 (N, H, H, 3); ValueError for any other file."""
    path = Path(path)
    check_file(path, "image store", "Run the stage that writes it first.")
    with complaint(path, "not an image store", "Run its stage again."):
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        found = f"{images.dtype} {images.shape}"
        raise ValueError(f"{path}: holds {found}; an image store is uint8 (N, H, H, 3)")
    return images


def to_tensor(images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """Copies an array (uint8 images (N, H, H, 3) or row indices) to a device."""
    return torch.from_numpy(np.array(images)).to(device)  # copies, as the input may be read-only


class StoredImages:
    """N rows of a memory-mapped store, uint8 (M, H, H, 3); indexing gives tensors on a device."""

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


Images = Tensor | StoredImages  # uint8, shape (N, H, H, 3): on a device or on disk


def hold(
    store: np.ndarray,
    device: torch.device | str = "cpu",
    *,
    rows: np.ndarray | None = None,
    most_bytes: int = HOLD_BYTES,
) -> Images:
    """Copies images, or some rows of them, to a device; leaves over `most_bytes` on disk."""
    rows = np.arange(len(store)) if rows is None else np.asarray(rows)
    stored = StoredImages(store, rows, device)
    return stored if len(rows) * store[:1].nbytes > most_bytes else stored[:]


def take(images: Images, rows: np.ndarray | pd.Series) -> Images:
    """Selects some of the images, which stay on the device or on disk."""
    if isinstance(images, StoredImages):
        return StoredImages(images.store, images.rows[np.array(rows)], images.device)
    return images[to_tensor(rows, images.device)]


def grid_image(images: np.ndarray, columns: int = 8, *, scale: int = 1) -> Image.Image:
    """Arranges images, uint8 (N, H, H, 3), row by row on white, enlarged `scale` times."""
    count, height, width, _ = images.shape
    columns = min(columns, count)
    down, across, rows = height + GAP_PX, width + GAP_PX, -(-count // columns)
    grid = Image.new("RGB", (columns * across - GAP_PX, rows * down - GAP_PX), "white")
    for k, image in enumerate(images):
        row, column = divmod(k, columns)
        grid.paste(Image.fromarray(image), (column * across, row * down))
    return ImageOps.scale(grid, scale)


def enlarged(pixels: np.ndarray, side_px: int) -> Image.Image:
    """Enlarges pixels, uint8 (H, W, 3), by an integer until both sides are >= `side_px`."""
    picture = Image.fromarray(pixels)
    return ImageOps.scale(picture, max(1, -(-side_px // min(picture.size))))


def to_png(picture: Image.Image) -> bytes:
    """Encodes a picture as PNG, for speed rather than size."""
    buffer = io.BytesIO()
    picture.save(buffer, format="png", compress_level=1)
    return buffer.getvalue()


def save_png(path: Path | str, picture: Image.Image | np.ndarray) -> None:
    """Writes a picture, or pixels, uint8 (H, W, 3), as PNG, atomically."""
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    with atomic_path(path) as temporary:
        picture.save(temporary, "png", optimize=True)
