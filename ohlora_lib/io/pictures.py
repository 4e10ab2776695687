"""Finds picture files and reads them as squares; errors are one line.

They may come from anybody. Pillow knows formats that start other programs (PostScript) and goes by
the content, whatever a file is called; what is not named here is not tried. Axes: H image height.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

KNOWN = (  # what counts as an image by its name; the content decides how it is read
    "jpg jpeg jpe jfif png webp bmp gif tif tiff ppm pgm pbm pnm tga ico jp2 jpx avif heic heif"
)
FORMATS = frozenset(f".{name}" for name in KNOWN.split(" "))
ATTRIBUTE_LISTS = ("list_attr_celeba.txt", "list_attr_celeba.csv")  # of CelebA
WEIGHTS = frozenset({".pth", ".safetensors"})

PLUGINS = (
    *("JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "TGA", "ICO"),
    *("JPEG2000", "AVIF", "HEIF"),
)
NEEDED = {".heic": "pillow-heif", ".heif": "pillow-heif", ".avif": "'pillow>=11.3'"}
MOST_PIXELS = 120_000_000  # of one picture: half a gigabyte in memory as it is worked on
TOPS = {"I": (255, 65535), "F": (1, 255, 65535)}  # white, by Pillow's mode of a grey picture


def walk(folder: Path) -> list[Path]:
    """The files in a folder and those in it, in order of name; hidden ones are left out.

    Links to folders are followed, each folder once. ValueError if one cannot be read.
    """
    found, seen = list[Path](), set[Path]()
    for place, folders, files in os.walk(folder, onerror=_fail, followlinks=True):
        here = Path(place)
        if here.resolve() in seen:
            folders.clear()
            continue
        seen.add(here.resolve())
        shown = [name for name in folders if not name.startswith(".")]
        folders[:] = sorted(shown, key=lambda n, here=here: ((here / n).is_symlink(), n))
        found += [here / name for name in files if not name.startswith(".")]
    return sorted(found)


def _fail(error: OSError) -> None:
    raise ValueError(f"{error.filename}: {error.strerror}. Correct its rights.") from error


def files_read(folder: Path) -> list[Path]:
    """What a stage may read of a folder: images, CelebA's attribute lists, weights."""
    known = FORMATS | WEIGHTS
    return [p for p in walk(folder) if p.suffix.lower() in known or p.name in ATTRIBUTE_LISTS]


def find_images(folder: Path) -> list[Path]:
    """Image files among `walk`'s; ValueError if the folder is missing or holds none."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder of images. Check `image_folder`.")
    files = walk(folder)
    paths = [path for path in files if path.suffix.lower() in FORMATS]
    if not paths:
        there = sorted({path.suffix for path in files})[:8]
        raise ValueError(f"{folder}: holds no images, but {there}. Known formats are {KNOWN}.")
    return paths


@cache
def _formats() -> list[str]:
    """Pillow's names of the formats that are tried, as far as they are installed."""
    Image.init()
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return [name for name in PLUGINS if name in Image.OPEN]


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Opens an image file, of a format that runs no program and of a size that fits in memory.

    Raises ValueError, with the reason, for any other file, and when decoding it inside the block
    fails.
    """
    try:
        with Image.open(path, formats=_formats()) as file:
            pixels = file.width * file.height
            if pixels > MOST_PIXELS:
                raise ValueError(f"it has {pixels:,} pixels, at most {MOST_PIXELS:,} are read")
            yield file
    except MemoryError:
        raise
    except Exception as error:  # decoders raise whatever the damage of a file leads to
        reason = str(getattr(error, "strerror", None) or error or type(error).__name__)
        if isinstance(error, UnidentifiedImageError):
            needed = NEEDED.get(path.suffix.lower())
            more = f"; {path.suffix} needs: pip install {needed}" if needed else ""
            reason = f"its content is of no known format{more}"
        line = " ".join(reason.replace(str(path), "the file").split())
        raise ValueError(f"{path}: not a readable image ({line})") from error


def read_image(path: Path, image_px: int, *, fit: str = "crop") -> np.ndarray:
    """Reads one image file as a square, uint8 (H, H, 3).

    Rotated as its EXIF orientation says; transparent parts become white; of an animation the
    first frame is taken. `fit` is `crop`, which keeps the centre square, or `pad`, which keeps the
    whole image, on white. ValueError if the file cannot be read as an image; says why.
    """
    size = (image_px, image_px)
    with open_image(path) as file:
        file.draft("RGB", (2 * image_px, 2 * image_px))  # large photographs decode faster
        picture = _opaque(ImageOps.exif_transpose(file))
        if fit == "pad":
            return np.asarray(ImageOps.pad(picture, size, Image.Resampling.LANCZOS, color="white"))
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        box = (left, top, left + side, top + side)
        return np.asarray(picture.resize(size, Image.Resampling.LANCZOS, box=box))


def _opaque(picture: Image.Image) -> Image.Image:
    """RGB on white; of 16-bit and measured grey, from 0 to the highest value it may have."""
    if picture.mode.startswith("I;16") or picture.mode in TOPS:
        values = np.asarray(picture, dtype=np.float32)
        low, high = values.min(), values.max()
        if not 0 <= low <= high <= 65535:  # not a number among them too
            raise ValueError(f"its values go from {low:g} to {high:g}, not from 0 to 65,535")
        top = next(top for top in TOPS.get(picture.mode, [65535]) if high <= top)
        picture = Image.fromarray((values * (255 / top)).round().astype(np.uint8))
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")
