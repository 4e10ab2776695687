"""Shows figures, grids and sentences in a notebook, and keeps each in the run folder.

Every picture carries an alternative text, so the exported page can be read without seeing it.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
from collections.abc import Mapping
from pathlib import Path
from weakref import WeakSet

import numpy as np
import pandas as pd
from IPython.display import HTML, Image, Markdown, display
from matplotlib.axes import Axes

from ohlora_lib.figures import training
from ohlora_lib.io.images import grid_image, save_png
from ohlora_lib.io.pictures import open_image
from ohlora_lib.study.run_folder import Run

_TOLD: WeakSet[Run] = WeakSet()  # runs whose page says that letters have no font


def figure(run: Run, name: str, axes: Axes, alt: str) -> None:
    """Saves the figure of some axes as PNG and SVG, shows it, and says its alternative text."""
    path = run.path / figure_file(name)
    missing = training.save_figure(axes.figure, path.with_suffix(""))
    display(Image(filename=path, alt=alt))
    sentence(alt)
    if missing and run not in _TOLD:
        _TOLD.add(run)
        sentence(
            f"No installed font has the letters {missing}; figures show boxes for them. Install "
            f"a font that has them, such as Noto Sans CJK, and run this again."
        )


def figure_file(name: str) -> str:
    """Where `figure` puts the PNG of a name, relative to the run folder."""
    return f"figures/{file_name(name)}.png"


def file_name(text: str) -> str:
    """A name for a file from text out of data: letters, digits, `_`, `-`; 80 at most.

    Where that changes the text, some letters of its hash keep two texts from sharing a file.
    """
    plain = re.sub(r"[^\w-]+", "_", text)
    if plain == text and len(plain) <= 80:
        return plain
    return f"{plain[:71]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def grid(
    run: Run, name: str, images: np.ndarray, alt: str, *, columns: int = 8, scale: int = 1
) -> None:
    """Saves images, uint8 (N, H, H, 3), as one PNG grid and shows it."""
    if not len(images):
        sentence(f"No images to show: {alt}")
        return
    path = run.path / "images" / f"{file_name(name)}.png"
    save_png(path, grid_image(images, columns, scale=scale))
    picture(path, alt)


def picture(path: Path, alt: str) -> None:
    """Shows a PNG file, and below it what it shows."""
    display(Image(filename=path, alt=alt))
    sentence(alt)


def frames(pictures: Mapping[str, Path], label: str) -> None:
    """Shows pictures of the same thing over time; the exported page makes a slider of them.

    Args:
        pictures: What each one is (its alternative text and caption), and its file.
        label: What the slider is for.
    """
    parts = []
    for name, path in pictures.items():
        with open_image(path) as picture:
            buffer = io.BytesIO()
            picture.convert("RGB").save(buffer, "webp", quality=85)
        data = base64.b64encode(buffer.getvalue()).decode()
        text = html.escape(name)
        image = f'<img src="data:image/webp;base64,{data}" alt="{text}">'
        parts.append(f"<figure>{image}<figcaption>{text}</figcaption></figure>")
    style = "display: flex; gap: 8px; overflow-x: auto"
    heading = f'class="frames" role="group" aria-label="{html.escape(label)}" style="{style}"'
    display(HTML(f"<div {heading}>{''.join(parts)}</div>"))


def sentence(text: str) -> None:
    """Shows a sentence, taken as plain text."""
    display(Markdown(escape(text)))


def verdict(text: str, *, detail: str = "", warn: bool = False) -> None:
    """Shows what happened, set apart; the exported page has it right under its title.

    Args:
        text: The verdict, taken as plain text.
        detail: How sure it is, in smaller letters.
        warn: Whether something speaks against it.
    """
    parts = [f"<p>{html.escape(text)}</p>"]
    parts += [f"<p><small>{html.escape(detail)}</small></p>"] if detail else []
    kind = "verdict warned" if warn else "verdict"
    display(HTML(f'<div class="{kind}">{"".join(parts)}</div>'))


def escape(text: str) -> str:
    """Makes text mean itself in Markdown and HTML."""
    for mark in "\\`*_{}[]#|":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def markdown(text: str) -> None:
    """Shows Markdown that the package wrote itself."""
    display(Markdown(text))


def table(data: pd.DataFrame, *, digits: int = 3) -> None:
    """Shows a table, numbers rounded, words whole."""
    with pd.option_context("display.max_colwidth", None):
        text = data.to_html(float_format=lambda x: f"{x:.{digits}f}", border=0)
    display(HTML(text))
