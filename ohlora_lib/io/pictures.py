"""Finds picture files and reads them as squares; errors are one line.

They may come from anybody. Pillow knows formats that start other programs (PostScript) and goes by
the content, whatever a file is called; what is not named here is not tried. Axes: H image height.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

KNOWN = (  # what counts as an image by its name; the content decides how it is read
    "jpg jpeg jpe jfif png webp bmp gif tif tiff ppm pgm pbm pnm tga ico jp2 jpx avif heic heif"
)
FORMATS = frozenset(f".{name}" for name in KNOWN.split(" "))
ATTRIBUTE_LISTS = ("list_attr_celeba.txt", "list_attr_celeba.csv")  # of CelebA
WEIGHTS = frozenset({".pth", ".safetensors"})

PLUGINS = {
    *("JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "TGA", "ICO"),
    *("JPEG2000", "AVIF", "HEIF"),
}
NEEDED = {  # to read formats that Pillow may lack
    **dict.fromkeys((".heic", ".heif"), "pillow-heif"),
    ".avif": "'pillow>=11.3'",
}
MOST_PIXELS = 120_000_000  # of one picture: half a gigabyte in memory as it is worked on
UNREADABLE = (  # what Pillow's decoders raise on damaged files
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, OverflowError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)


def walk(folder: Path) -> list[Path]:
    """The files in a folder and in the folders in it, in order of name; hidden ones are left out.

    Links to folders are followed, each folder once.

    Raises:
        ValueError: If a folder cannot be read; one line.
    """
    root, found = folder.resolve(), list[Path]()
    seen = {root}

    def is_new(path: Path) -> bool:
        real = path.resolve()
        inside = path.is_symlink() and real.is_relative_to(root)  # read under its own name
        if inside or real in seen:
            return False
        seen.add(real)
        return True

    for place, folders, files in os.walk(folder, onerror=_fail, followlinks=True):
        shown = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in shown if is_new(Path(place, name))]
        found += [Path(place, name) for name in files if not name.startswith(".")]
    return sorted(found)


def _fail(error: OSError) -> None:
    why = f"{error.filename}: {error.strerror}. Correct the path or its rights."
    raise ValueError(why) from error


def files_read(folder: Path) -> list[Path]:
    """What a stage may read of a folder: images, CelebA's attribute lists, weights."""
    known = FORMATS | WEIGHTS
    return [
        path
        for path in walk(folder)
        if path.suffix.lower() in known or path.name in ATTRIBUTE_LISTS
    ]


def find_images(folder: Path | str) -> list[Path]:
    """Image files in a folder and the folders in it, in order of name; hidden ones are left out.

    Raises:
        ValueError: If the folder is missing or holds no image files.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder of images. Check `image_folder`.")
    files = walk(folder)
    paths = [path for path in files if path.suffix.lower() in FORMATS]
    if not paths:
        there = sorted({path.suffix for path in files})[:8]
        raise ValueError(
            f"{folder}: holds no image files; it has {there or 'nothing'}. "
            f"Known formats are {KNOWN}."
        )
    return paths


@contextmanager
def open_image(path: Path | str) -> Iterator[Image.Image]:
    """Opens an image file, of a format that runs no program and of a size that fits in memory.

    Raises:
        ValueError: If it is not one, or decoding it in the block shows damage; says why.
    """
    try:
        _init()
        known = [name for name in Image.OPEN if name in PLUGINS]
        with Image.open(path, formats=known) as file:
            pixels = file.width * file.height
            if pixels > MOST_PIXELS:
                raise ValueError(f"it has {pixels:,} pixels, at most {MOST_PIXELS:,} are read")
            yield file
    except UNREADABLE as error:
        reason = _reason(error, Path(path))
        raise ValueError(f"{path}: not a readable image ({reason})") from error


def _init() -> None:
    """Registers the formats that are installed."""
    Image.init()
    if "HEIF" not in Image.OPEN:
        with suppress(ImportError):
            from pillow_heif import register_heif_opener

            register_heif_opener()


def _reason(error: Exception, path: Path) -> str:
    """What is wrong with a file, without its path."""
    if isinstance(error, UnidentifiedImageError):
        needed = NEEDED.get(path.suffix.lower())
        more = f"; {path.suffix} needs: pip install {needed}" if needed else ""
        return f"its content is of no known format{more}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error).replace(repr(str(path)), "the file").replace(str(path), "the file")
    return " ".join(text.split()) or type(error).__name__


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
