"""Finds and opens picture files that may come from anybody; errors are one line.

Pillow knows formats that start other programs (PostScript) and goes by the content, whatever a
file is called; what is not named here is not tried.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, UnidentifiedImageError, features

KNOWN = (  # what counts as an image by its name; the content decides how it is read
    "jpg jpeg jpe jfif png webp bmp gif tif tiff ppm pgm pbm pnm tga ico jp2 jpx avif heic heif"
)
FORMATS = frozenset(f".{name}" for name in KNOWN.split(" "))
ATTRIBUTE_LISTS = ("list_attr_celeba.txt", "list_attr_celeba.csv")  # of CelebA
NOT_ENTERED = "not entered"  # status of links and folders that nothing could be read from
WEIGHTS = frozenset({".pth", ".safetensors"})

PLUGINS = {
    *("JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "TGA", "ICO"),
    *("JPEG2000", "AVIF", "HEIF"),
}
MOST_PIXELS = 120_000_000  # of one picture: half a gigabyte in memory as it is worked on
MOST_BYTES = 2**30  # of one file
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
NEEDED = {  # where a file's first bytes say that it is of a format that is not installed
    "HEIF": (HEIC, "HEIC needs: pip install pillow-heif"),
    "AVIF": ((b"avif", b"avis"), "AVIF needs: pip install 'pillow>=11.3'"),
}
UNREADABLE = (  # what Pillow's decoders raise on damaged files
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, OverflowError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)


@dataclass
class Tree:
    """The files in a folder and in the folders in it, links to folders followed.

    Hidden files and folders are left out. A folder that several links lead to is read once, under
    the name that is no link if it has one.

    Attributes:
        files: In order of name; links to files that are not there are among them.
        left_out: Links and folders that could not be entered, and why.
    """

    files: list[Path] = field(default_factory=list)
    left_out: dict[Path, str] = field(default_factory=dict)


def walk(folder: Path) -> Tree:
    """Lists the files in a folder."""
    tree, seen, left = Tree(), set[tuple[int, int]](), [folder]
    links: list[Path] = []  # entered last, so that a folder keeps the name that is no link
    while left or links:
        place = left.pop() if left else links.pop(0)
        try:
            fact, entries = place.stat(), sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            tree.left_out[place] = f"cannot be entered ({_reason(error, place)})"
            continue
        if (fact.st_dev, fact.st_ino) in seen:
            tree.left_out[place] = "leads to a folder that is read already"
            continue
        seen.add((fact.st_dev, fact.st_ino))
        for entry in entries:
            if not entry.name.startswith("."):
                _sort_in(entry, tree, links if entry.is_symlink() else left)
    tree.files.sort()
    return tree


def _sort_in(entry: os.DirEntry, tree: Tree, folders: list[Path]) -> None:
    """Puts one entry of a folder where it belongs."""
    path, folder, file = Path(entry.path), False, False
    with suppress(OSError):  # a link into a folder without rights, or to itself
        folder, file = entry.is_dir(), entry.is_file()
    if folder:
        folders.append(path)
    elif file or (entry.is_symlink() and path.suffix.lower() in FORMATS):
        tree.files.append(path)
    else:
        tree.left_out[path] = "leads nowhere" if entry.is_symlink() else "is no file"


def files_read(folder: Path) -> list[Path]:
    """What a stage may read of a folder: images, CelebA's attribute lists, weights."""
    known = FORMATS | WEIGHTS
    return [
        path
        for path in walk(folder).files
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
    tree = walk(folder)
    paths = [path for path in tree.files if path.suffix.lower() in FORMATS]
    if not paths:
        there = sorted({path.suffix for path in tree.files})[:8]
        closed = "".join(f" {path.name} {why}." for path, why in list(tree.left_out.items())[:1])
        raise ValueError(
            f"{folder}: holds no image files; it has {there or 'nothing'}.{closed} "
            f"Known formats are {KNOWN}."
        )
    return paths


@contextmanager
def open_image(path: Path | str) -> Iterator[Image.Image]:
    """Opens an image file, of a format that runs no program and of a size that fits in memory.

    Raises:
        ValueError: If it is none, or what is done with it shows that it is damaged; says why.
    """
    try:
        size = Path(path).stat().st_size
        if size > MOST_BYTES:
            raise ValueError(f"it has {size:,} bytes, at most {MOST_BYTES:,} are read")
        _init()
        known = [name for name in Image.OPEN if name in PLUGINS]
        with Image.open(path, formats=known) as file:
            pixels = file.width * file.height
            if pixels > MOST_PIXELS:
                raise ValueError(f"it has {pixels:,} pixels, at most {MOST_PIXELS:,} are read")
            yield file
    except UNREADABLE as error:
        needed = _needed(path) if isinstance(error, UnidentifiedImageError) else ""
        reason = needed or f"not a readable image ({_reason(error, path)})"
        raise ValueError(f"{path}: {reason}") from error


def _init() -> None:
    """Registers the formats that are installed."""
    Image.init()
    if "HEIF" not in Image.OPEN:
        with suppress(ImportError):
            from pillow_heif import register_heif_opener

            register_heif_opener()


def _needed(path: Path | str) -> str:
    """What to install to read a file of a format that is not there; empty for any other."""
    with open(path, "rb") as file:
        head = file.read(12)
    for kind, (brands, needed) in NEEDED.items():
        there = kind in Image.OPEN and (kind != "AVIF" or features.check("avif"))
        if head[4:8] == b"ftyp" and head[8:] in brands and not there:
            return needed
    return ""


def _reason(error: Exception, path: Path | str) -> str:
    """What is wrong with a file, without its path."""
    if isinstance(error, UnidentifiedImageError):
        return "its content is of no known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error).replace(repr(str(path)), "the file").replace(str(path), "the file")
    return " ".join(text.split()) or type(error).__name__
