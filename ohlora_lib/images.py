"""Images: uint8 stores on disk, floats for networks, grids for people.

Axes: N images, B batch, H image height.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ohlora_lib.records import atomic_path, write_atomic


def save_store(path: Path | str, images: np.ndarray) -> None:
    """Writes images, uint8 (N, H, H, 3), as one `.npy` file, whole or not at all."""
    with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
        np.save(file, images)


def open_store(path: Path | str) -> np.ndarray:
    """Opens a store memory-mapped, uint8 (N, H, H, 3).

    Raises:
        ValueError: If the file is missing or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such image store. Run the stage that makes it first.")
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
    """Copies uint8 images (N, H, H, 3) to a device; they stay uint8."""
    return torch.from_numpy(np.array(images)).to(device)  # a store opened read-only is copied


def to_signed(images: Tensor) -> Tensor:
    """Turns uint8 (B, H, H, 3) into floats (B, 3, H, H) in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float().div(127.5).sub(1)


def to_unit(images: Tensor) -> Tensor:
    """Turns uint8 (B, H, H, 3) into floats (B, 3, H, H) in [0, 1]."""
    return images.permute(0, 3, 1, 2).float().div(255)


def to_uint8(images: Tensor) -> Tensor:
    """Turns floats (B, 3, H, H) in [-1, 1] into uint8 (B, H, H, 3), rounding to the nearest."""
    scaled = images.float().add(1).mul(127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1)


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


def save_png(path: Path | str, picture: Image.Image | np.ndarray) -> None:
    """Writes a picture, or uint8 (H, W, 3), as PNG, whole or not at all."""
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    buffer = io.BytesIO()
    picture.save(buffer, format="png", optimize=True)
    write_atomic(Path(path), buffer.getvalue())


def read_folder(paths: Sequence[Path], image_px: int) -> np.ndarray:
    """Reads image files, centre-cropped to a square and resized, as uint8 (N, H, H, 3).

    Raises:
        ValueError: If a file cannot be read as an image; names it.
    """
    images = np.empty((len(paths), image_px, image_px, 3), dtype=np.uint8)
    for k, path in enumerate(paths):
        try:
            with Image.open(path) as file:
                images[k] = _square(file.convert("RGB"), image_px)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: not a readable image ({error})") from error
    return images


def _square(picture: Image.Image, image_px: int) -> np.ndarray:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    box = (left, top, left + side, top + side)
    size = (image_px, image_px)
    return np.asarray(picture.resize(size, Image.Resampling.LANCZOS, box=box))
