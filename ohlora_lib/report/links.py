"""Links between the pages of a study: they lead to pages that exist, of the variant that is meant.

Notebooks link to notebooks, which JupyterLab opens. On a page such a link becomes a placeholder,
filled in whenever the study's index is written, because later stages have no page yet.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote, unquote

from bs4 import BeautifulSoup, Tag

from ohlora_lib.io.disk import write_atomic
from ohlora_lib.study import run_folder
from ohlora_lib.study.openings import EARLIER
from ohlora_lib.study.run_files import read_config

NOTEBOOK = re.compile(r"(?:.*/)?(\w+)\.ipynb(?:#.*)?")  # in an address
PLACEHOLDER = re.compile(
    r'(<span class="pages" data-notebook="(\w+)" data-text="([^"]*)">).*?(</span>)', re.DOTALL
)


def mark_links(soup: BeautifulSoup) -> None:
    """Turns links to notebooks into placeholders; other links to files lose their address."""
    for link in soup.select("main a[href]"):
        address = str(link["href"])
        notebook = NOTEBOOK.fullmatch(address)
        if notebook:
            link.replace_with(placeholder(soup, notebook[1], link.get_text()))
        elif not re.match(r"#|https?://|mailto:", address):
            link.unwrap()


def placeholder(soup: BeautifulSoup, notebook: str, text: str) -> Tag:
    """Text that will lead to the pages of a notebook; empty: to those of its other variants."""
    facts = {"class": "pages", "data-notebook": notebook, "data-text": quote(text, safe=" ")}
    tag = soup.new_tag("span", attrs=facts)
    tag.string = text
    return tag


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
        filled = PLACEHOLDER.sub(partial(_filled, study, folder), text)
        if filled != text and page.stat().st_mtime_ns == before.st_mtime_ns:  # not exported anew
            write_atomic(page, filled)


def page_of(folder: Path) -> Path:
    """The page of a run folder, which has its notebook's name."""
    return folder / f"{folder.name.partition('-')[0]}.html"


def _filled(study: Path, folder: Path, match: re.Match[str]) -> str:
    begin, notebook, quoted, end = match.groups()
    text = html.escape(unquote(quoted))
    if notebook == "index":
        return f'{begin}<a href="{os.path.relpath(study, folder)}/index.html">{text}</a>{end}'
    siblings = _siblings(study, folder, notebook)
    pages = list(_meant(folder, notebook, siblings)) if text else siblings
    if text and len(pages) == 1:
        return f'{begin}<a href="{_address(pages[0], folder)}">{text}</a>{end}'
    links = ", ".join(f'<a href="{_address(p, folder)}">{_name(p, folder)}</a>' for p in pages)
    about = f"{'' if text else 'also '}{links}"
    return f"{begin}{text}{f' ({about})' if links else ''}{end}"


def _meant(folder: Path, notebook: str, siblings: list[Path]) -> Iterator[Path]:
    """Run folders that a link to a notebook means: those of an input, else siblings.

    Of several the one of the same variant, else the one of none. If there is neither: all, where
    they are inputs or the page has no variant itself.
    """
    inputs = [run for run in _inputs(folder) if page_of(run).stem == notebook]
    found = _with_page(inputs) or siblings
    variant = _variant(folder)
    for wanted in (variant, ""):
        same = [run for run in found if _variant(run) == wanted]
        if same:
            yield from same
            return
    if inputs or not variant:
        yield from found


def _inputs(folder: Path) -> Iterator[Path]:
    """Run folders that the parameters of a run name."""
    try:
        config = read_config(folder)
    except ValueError:  # damaged: the index says how the run stands
        return
    root = run_folder.root_of(folder)
    for value in config.values():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and text.startswith("outputs/"):
                yield root / text


def _siblings(study: Path, folder: Path, notebook: str) -> list[Path]:
    """Run folders of a notebook in a study, a page's own aside."""
    found = sorted(path for path in study.glob(f"{notebook}*") if path != folder)
    return _with_page([path for path in found if page_of(path).stem == notebook])


def _with_page(folders: list[Path]) -> list[Path]:
    return [folder for folder in dict.fromkeys(folders) if page_of(folder).is_file()]


def _variant(folder: Path) -> str:
    return folder.name.partition("-")[2]


def _address(target: Path, folder: Path) -> str:
    return html.escape(Path(os.path.relpath(page_of(target), folder)).as_posix())


def _name(target: Path, folder: Path) -> str:
    """What tells a page among others: its variant, and its study where that is another."""
    name = _variant(target) or target.name
    same = target.parent in (folder.parent, folder.parents[1])  # the second of a kept run
    return html.escape(name if same else f"{name} of {target.parent.name}")
