"""Shows figures, grids and sentences in a notebook, and keeps pictures in the run folder.

Every picture carries an alternative text, so the exported page can be read without seeing it.
"""

import base64
import io
import re
import warnings
from collections.abc import Mapping
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import HTML, Image, Markdown, display

from ohlora_lib.figures import Figure, style
from ohlora_lib.io.disk import file_name, write_atomic
from ohlora_lib.io.images import grid_image, save_png
from ohlora_lib.io.pictures import open_image
from ohlora_lib.study.run_folder import Run

WORDS = re.compile(r"<td>(?=[^<]*[^\W\d_]{2})(?!NaN|inf|-inf)")  # a table cell that contains words


def figure(run: Run, figure: Figure, *, number: int | None = None) -> None:
    """Saves a figure as PNG and SVG, and shows it above a note on how to read it.

    The file names begin with the figure's number in a report, if there is one.
    """
    path = run.path / figure_file(figure.name, number)
    with warnings.catch_warnings(record=True) as told:  # of letters that no font has
        warnings.simplefilter("always")
        for kind in ("png", "svg"):
            write_atomic(path.with_suffix(f".{kind}"), style.drawn(figure.drawing, kind))
    picture(path, figure.alt, figure.reading)
    if told:
        sentence(
            f"Matplotlib warns: {str(told[0].message).rstrip('.')}. If the figure shows boxes in "
            "place of letters, install a font that has them, such as Noto Sans CJK, and run this "
            "again."
        )


def figure_file(name: str, number: int | None = None) -> str:
    """Where `figure` puts the PNG of a name, relative to the run folder."""
    return f"figures/{file_name(name if number is None else f'figure-{number}-{name}')}.png"


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


def picture(path: Path, alt: str, caption: str = "") -> None:
    """Shows a PNG file, and below it the caption or the alternative text."""
    display(Image(filename=path, alt=alt))
    sentence(caption or alt)


def frames(pictures: Mapping[str, Path], label: str) -> None:
    """Shows pictures over time, by caption; the exported page makes a slider of that label."""
    parts = []
    for name, path in pictures.items():
        buffer, caption = io.BytesIO(), escape(name)
        with open_image(path) as picture:
            picture.convert("RGB").save(buffer, "webp", quality=85)
        data = base64.b64encode(buffer.getvalue()).decode()
        image = f'<img src="data:image/webp;base64,{data}" alt="{caption}">'
        parts.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    heading = f'class="frames" role="group" aria-label="{escape(label)}"'
    css = "display: flex; gap: 8px; overflow-x: auto"
    display(HTML(f'<div {heading} style="{css}">{"".join(parts)}</div>'))


def sentence(text: str) -> None:
    """Shows a sentence, taken as plain text."""
    display(HTML(f"<p>{escape(text)}</p>"))


def fine_print(text: str) -> None:
    """Shows a plain sentence on how the run was made; the exported page puts it in its footer."""
    display(HTML(f'<p class="fine"><small>{escape(text)}</small></p>'))


def verdict(text: str, *, detail: str = "", warn: bool = False) -> None:
    """Shows what happened, as plain text, and in smaller letters how sure it is.

    The exported page shows the verdict under its title, in red if there is reason to doubt it.
    """
    small = f"<p><small>{escape(detail)}</small></p>" if detail else ""
    kind = "verdict warned" if warn else "verdict"
    display(HTML(f'<div class="{kind}"><p>{escape(text)}</p>{small}</div>'))


def markdown(text: str) -> None:
    """Shows Markdown that the package wrote itself."""
    display(Markdown(text))


def table(data: pd.DataFrame, *, digits: int = 3) -> None:
    """Shows a table: numbers rounded, except integers beyond 1, and words unbroken.

    The index's name is shown next to the columns' names; row numbers are left out.
    """
    if data.index.nlevels > 1:
        data = data.set_axis([" ".join(map(str, key)) for key in data.index])
    corner = data.index.name or data.columns.name
    data = data.rename_axis(index=None, columns=corner)
    options = {"border": 0, "index": not isinstance(data.index, pd.RangeIndex), "na_rep": "-"}

    def written(x: float) -> str:
        return f"{x:,.{0 if x % 1 == 0 and abs(x) > 1 else digits}f}"

    with pd.option_context("display.max_colwidth", None):
        shown = data.to_html(float_format=written, **options)
    display(HTML(WORDS.sub(r'<td style="text-align: left">', shown)))
