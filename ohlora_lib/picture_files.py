"""Opens picture files that may come from anybody: known formats, limited size, errors in one line.

Pillow knows formats that start other programs (PostScript) and goes by the content, whatever a
file is called; what is not named here is not tried.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

PLUGINS = {
    *("JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "TGA", "ICO"),
    *("JPEG2000", "AVIF", "HEIF"),
}
MOST_PIXELS = 120_000_000  # of one picture: half a gigabyte in memory as it is worked on
MOST_BYTES = 2**30  # of one file
UNREADABLE = (  # what Pillow's decoders raise on damaged files
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, OverflowError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)


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
        Image.init()
        known = [name for name in Image.OPEN if name in PLUGINS]
        with Image.open(path, formats=known) as file:
            pixels = file.width * file.height
            if pixels > MOST_PIXELS:
                raise ValueError(f"it has {pixels:,} pixels, at most {MOST_PIXELS:,} are read")
            yield file
    except UNREADABLE as error:
        reason = " ".join(str(error).replace(str(path), "it").split()) or type(error).__name__
        raise ValueError(f"{path}: not a readable image ({reason})") from error
