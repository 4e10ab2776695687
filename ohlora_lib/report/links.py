"""Links between the pages of a study: they lead to pages that exist, of the variant that is meant.

Notebooks link to notebooks, which JupyterLab opens. On a page such a link becomes a placeholder,
filled in whenever the study's index is written, because later stages have no page yet.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import partial
from html import escape
from pathlib import Path
from urllib.parse import unquote

from ohlora_lib.io.disk import write_atomic
from ohlora_lib.study import run_folder
from ohlora_lib.study.run import EARLIER
from ohlora_lib.study.run_folder import read_config

PLACEHOLDER = re.compile(
    r'(<span class="pages" data-notebook="(\w+)" data-text="([^"]*)">).*?(</span>)', re.DOTALL
)


def page_of(folder: Path) -> Path:
    """The page of a run folder, which has its notebook's name."""
    return folder / f"{folder.name.partition('-')[0]}.html"


def link_pages(study: Path) -> None:
    """Fills in the links of every page of a study, kept ones too, from the pages there are now.

    Args:
        study: The study's folder in outputs.
    """
    found = (study.glob(f"{where}*/config.json") for where in ("", f"{EARLIER}/"))
    for folder in sorted(path.parent for paths in found for path in paths):
        page = page_of(folder)
        try:
            before, text = page.stat(), page.read_text(encoding="utf-8")
        except FileNotFoundError:
            continue
        filled = PLACEHOLDER.sub(partial(_filled, study, page), text)
        if filled != text and page.stat().st_mtime_ns == before.st_mtime_ns:  # not exported anew
            write_atomic(page, filled)


def _filled(study: Path, page: Path, match: re.Match[str]) -> str:
    """A placeholder with its links; one without text is for the notebook's other variants."""
    begin, notebook, quoted, end = match.groups()
    text = escape(unquote(quoted))
    if notebook == "index":
        return f"{begin}{_link(study / 'index.html', page, text)}{end}"
    siblings = sorted(set(study.glob(f"{notebook}*/{notebook}.html")) - {page})
    pages = _meant(page, notebook, siblings) if text else siblings
    if text and len(pages) == 1:
        return f"{begin}{_link(pages[0], page, text)}{end}"
    links = ", ".join(_link(other, page, _name(other, page)) for other in pages)
    about = f" ({'' if text else 'also '}{links})" if links else ""
    return f"{begin}{text}{about}{end}"


def _meant(page: Path, notebook: str, siblings: list[Path]) -> list[Path]:
    """Pages that a link to a notebook means: those of an input, else siblings.

    Of several the one of the same variant, else the one of none. If there is neither: all, where
    they are inputs or the page has no variant itself.
    """
    inputs = list(dict.fromkeys(_inputs(page.parent, notebook)))
    for wanted in (_variant(page), ""):
        same = [other for other in inputs or siblings if _variant(other) == wanted]
        if same:
            return same
    return inputs if inputs or _variant(page) else siblings


def _inputs(folder: Path, notebook: str) -> Iterator[Path]:
    """Pages of a notebook in the run folders that the parameters of a run name."""
    try:
        config = read_config(folder)
    except ValueError:  # damaged: the index says how the run stands
        return
    root = run_folder.root_of(folder)
    for value in config.values():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and text.startswith("outputs/"):
                page = root / text / f"{notebook}.html"
                if page.is_file():
                    yield page


def _variant(page: Path) -> str:
    return page.parent.name.partition("-")[2]


def _link(target: Path, page: Path, text: str) -> str:
    address = Path(os.path.relpath(target, page.parent)).as_posix()
    return f'<a href="{escape(address)}">{text}</a>'


def _name(target: Path, page: Path) -> str:
    """What tells a page among others: its variant, and its study where that is another."""
    name, study = _variant(target) or target.parent.name, target.parents[1]
    same = study in page.parents[1:3]  # the second of a kept run
    return escape(name if same else f"{name} of {study.name}")
