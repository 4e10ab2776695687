"""Finds picture files and reads them as squares; errors are one line.

Files are untrusted. Pillow goes by content, not by suffix, and some of its formats start other
programs (PostScript), so only the formats in `PLUGINS` are tried. Axes: H image height.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

KNOWN = (  # suffixes that count as images; the content decides how a file is read
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
MOST_PIXELS = 120_000_000  # of one picture, which takes half a gigabyte of memory to process
TOPS = {"I": (255, 65535), "F": (1, 255, 65535)}  # possible values of white, by Pillow's grey mode


def walk(folder: Path) -> list[Path]:
    """Lists the files in a folder and its subfolders in order, without hidden ones.

    Follows links to folders, each folder once. ValueError if a folder cannot be read.
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
    remedy = "Correct the path." if error.errno == errno.ENOENT else "Correct its permissions."
    raise ValueError(f"{error.filename}: {error.strerror}. {remedy}") from error


def files_read(folder: Path) -> list[Path]:
    """Lists the files a stage may read: images, CelebA's attribute lists, weights."""
    known = FORMATS | WEIGHTS
    return [p for p in walk(folder) if p.suffix.lower() in known or p.name in ATTRIBUTE_LISTS]


def find_images(folder: Path) -> list[Path]:
    """Lists the image files in a folder; ValueError if it is missing or holds none."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder. Check `image_folder`.")
    files = walk(folder)
    paths = [path for path in files if path.suffix.lower() in FORMATS]
    if not paths:
        there = ", ".join(sorted({path.suffix or path.name for path in files})[:8]) or "nothing"
        raise ValueError(f"{folder}: holds no images ({there}). Known formats: {KNOWN}.")
    return paths


@cache
def _formats() -> list[str]:
    """Returns Pillow's names of the installed formats in `PLUGINS`."""
    Image.init()
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return [name for name in PLUGINS if name in Image.OPEN]


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Opens an image file if its format runs no program and its size fits in memory.

    Otherwise, or if decoding inside the block fails, raises ValueError with the reason.
    """
    try:
        with Image.open(path, formats=_formats()) as file:
            pixels = file.width * file.height
            if pixels > MOST_PIXELS:
                raise ValueError(f"it has {pixels:,} pixels; at most {MOST_PIXELS:,} are allowed")
            yield file
    except MemoryError:
        raise
    except Exception as error:  # decoders may raise any error on a damaged file
        reason = str(getattr(error, "strerror", None) or error or type(error).__name__)
        if isinstance(error, UnidentifiedImageError):
            needed = NEEDED.get(path.suffix.lower())
            more = f"; {path.suffix} needs: pip install {needed}" if needed else ""
            reason = f"its format is unknown{more}"
        line = " ".join(reason.replace(str(path), "the file").split())
        raise ValueError(f"{path}: not a readable image ({line})") from error


def read_image(path: Path, image_px: int, *, fit: str = "crop") -> np.ndarray:
    """Reads one image file as a square, uint8 (H, H, 3).

    Applies the EXIF orientation, makes transparent parts white, and takes the first frame of an
    animation. `fit` is `crop`, which keeps the centre square, or `pad`, which keeps the whole
    image on white. ValueError, with the reason, if the file cannot be read as an image.
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
    """Converts to RGB on white; scales 16-bit and float grey by the first of `TOPS` that fits."""
    if picture.mode.startswith("I;16") or picture.mode in TOPS:
        values = np.asarray(picture, dtype=np.float32)
        low, high = values.min(), values.max()
        if not 0 <= low <= high <= 65535:  # also rejects NaN
            raise ValueError(f"its values range from {low:g} to {high:g}, not from 0 to 65,535")
        top = next(top for top in TOPS.get(picture.mode, [65535]) if high <= top)
        picture = Image.fromarray((values * (255 / top)).round().astype(np.uint8))
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")
