"""Exports an executed notebook as one HTML file that loads nothing and runs no script but ours."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import nbformat
from bs4 import BeautifulSoup, NavigableString, Tag
from nbconvert.exporters import HTMLExporter

from ohlora_lib.io.disk import write_atomic
from ohlora_lib.report.cleaning import PICTURES, clean_notebook
from ohlora_lib.report.links import mark_links
from ohlora_lib.report.sheet import script, script_source, style
from ohlora_lib.study import run_folder
from ohlora_lib.study.words import without_places, without_turns

HERE = Path(__file__).parent
SHOWN = ["text/html", "text/markdown", *PICTURES, "text/plain"]  # the first there is, is shown
# The browser enforces it: only our script runs, and nothing is fetched, whatever the data holds.
POLICY = (
    f"default-src 'none'; script-src {script_source()}; style-src 'unsafe-inline'; "
    "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
)
LIMITS = (
    "For studying how a generator is fine-tuned and how to tell whether it worked. Scores are "
    "outputs of classifiers, with their errors; gender and age as two classes are labels of a "
    "study, no facts about people."
)
ACTIVE = ("script", "iframe", "object", "embed", "link", "base", "form", "template", "noscript")
ADDRESSES = ("src", "srcset", "poster", "background", "data", "xlink:href")
NUMBER = re.compile(r"\s*([-+\u2212]?[\d.,]+([eE][-+]?\d+)?\s?%?|nan|NaN|inf|-|)\s*")


def export_run(notebook: Path) -> Path:
    """Exports the executed notebook of a run folder, with the run's facts at the foot.

    Returns:
        The page, beside the notebook.
    """
    folder = notebook.parent
    try:
        summary = run_folder.read_summary(folder)
    except ValueError:
        summary = {}
    page = notebook.with_suffix(".html")
    crumbs, facts = (folder.parent.name, folder.name), list(run_facts(summary))
    html = export_notebook(notebook, crumbs=crumbs, facts=facts)
    write_atomic(page, html)
    return page


def run_facts(summary: dict[str, Any]) -> Iterator[str]:
    """When, where and with what a run was made, and how to do it again."""
    if not summary:
        yield "This run has not finished."
        return
    hardware, git = summary["hardware"], summary["git"]
    devices = ", ".join([hardware["cpu"], f"{hardware['cores']} cores", *hardware["gpus"]])
    yield f"Finished {summary['finished'][:16].replace('T', ' ')} UTC on {devices}."
    yield ", ".join(f"{name} {version}" for name, version in summary["versions"].items()) + "."
    if git:
        state = " with changes" if git["dirty"] else ""
        yield f"Commit {git['commit'][:12]}{state}."
    yield f"Again: {summary['command']}"
    yield LIMITS


def export_notebook(
    notebook: Path, *, crumbs: Sequence[str] = (), facts: Sequence[str] = ()
) -> str:
    """Turns a notebook into a page.

    Args:
        notebook: The executed notebook.
        crumbs: Study and stage that the page belongs to, shown at its head.
        facts: Lines for its foot.

    Returns:
        The HTML.
    """
    node = nbformat.read(notebook, as_version=4)
    clean_notebook(node)
    exporter = HTMLExporter(
        template_name="ohlora",
        extra_template_basedirs=[str(HERE / "templates")],
        embed_images=True,
        exclude_anchor_links=False,
    )
    exporter.register_filter("text_base64", lambda text: base64.b64encode(text.encode()).decode())
    exporter.config.NbConvertBase.display_data_priority = SHOWN
    page = {"policy": POLICY, "style": style(), "crumbs": list(crumbs), "facts": list(facts)}
    resources = {
        "metadata": {"path": str(notebook.parent), "name": notebook.stem},
        "ohlora": {**page, "title": title_of(node, notebook.stem)},
    }
    html, _ = exporter.from_notebook_node(node, resources)
    soup = BeautifulSoup(html, features="html.parser")
    disarm(soup)
    mark_links(soup)
    dress_tables(soup)
    fill_contents(soup)
    lift_verdicts(soup)
    hide_places(soup, notebook.parent)
    if soup.select_one(".frames"):
        tag = soup.new_tag("script")
        tag.string = script()
        soup.body.append(tag)
    return without_turns(str(soup))


def title_of(node: nbformat.NotebookNode, default: str) -> str:
    """The first heading, as plain text."""
    for cell in node.cells:
        match = re.search(r"^#\s+(.+)$", cell.source, re.MULTILINE)
        if cell.cell_type == "markdown" and match:
            return re.sub(r"[*`]|\\(?=[^\w\s])", "", match[1]).strip()
    return default


def lift_verdicts(soup: BeautifulSoup) -> None:
    """Puts verdicts right under the title: the first thing a reader wants to know."""
    title = soup.select_one("main h1")
    if title is not None:
        title.insert_after(*(verdict.extract() for verdict in soup.select("main div.verdict")))


def hide_places(soup: BeautifulSoup, folder: Path) -> None:
    """Shows paths relative to the project of a run folder: a page may be read anywhere."""
    root = run_folder.root_of(folder)
    for text in soup.find_all(string=True):
        if type(text) is NavigableString:  # no style sheet, script or comment
            text.replace_with(without_places(text, root))
    for tag in soup.select("[alt], [title], [aria-label]"):
        for name in {"alt", "title", "aria-label"} & tag.attrs.keys():
            tag[name] = without_places(str(tag[name]), root)


def disarm(soup: BeautifulSoup) -> None:
    """Removes what runs, and what would be fetched from elsewhere."""
    for tag in soup.select(", ".join(f"body {name}" for name in ACTIVE)):
        tag.decompose()
    for tag in soup.select("body *"):
        for name in [n for n in tag.attrs if n.startswith("on") or n in ADDRESSES]:
            if name.startswith("on") or not str(tag[name]).startswith("data:"):
                del tag[name]
        if str(tag.get("href", "")).strip().lower().startswith(("javascript:", "data:")):
            del tag["href"]
    for tag in soup.select("body img:not([src])"):
        tag.replace_with(f"[{tag.get('alt', 'picture')}]")
    for tag in soup.select("body style, body meta"):
        tag.decompose()


def dress_tables(soup: BeautifulSoup) -> None:
    """Lets wide tables scroll, by keyboard too, and sets words apart from numbers."""
    for number, table in enumerate(soup.select("table"), start=1):
        for tag in [table, *table.select("tr, th, td")]:
            for name in ("border", "style"):
                tag.attrs.pop(name, None)
        join_heads(table)
        align_words(table)
        frame = soup.new_tag("div", attrs={"class": "table", "tabindex": "0", "role": "region"})
        frame["aria-label"] = f"Table {number}"
        table.wrap(frame)


def join_heads(table: Tag) -> None:
    """Puts the name of the index, which pandas writes in a row of its own, beside the others."""
    rows = [row.select("th") for row in table.select("thead tr")]
    if len(rows) != 2 or len(rows[0]) != len(rows[1]):
        return
    texts = [[head.get_text().strip() for head in row] for row in rows]
    if not any(above and below for above, below in zip(*texts, strict=True)):
        for head, below in zip(rows[0], texts[1], strict=True):
            if below:
                head.string = below
        rows[1][0].parent.decompose()


def align_words(table: Tag) -> None:
    """Marks the columns that hold words, heads included; numbers stand to the right."""
    rows = [row.find_all(["th", "td"], recursive=False) for row in table.select("tr")]
    for column in zip_longest(*rows):
        cells = [cell for cell in column if cell is not None]
        body = [cell for cell in cells if cell.find_parent("thead") is None]
        if any(cell.name == "th" or not NUMBER.fullmatch(cell.get_text()) for cell in body):
            for cell in cells:
                cell["class"] = "words"


def fill_contents(soup: BeautifulSoup) -> None:
    """Makes the list of contents from the headings, each with an address of its own."""
    nav, seen = soup.select_one("nav.contents"), set()
    title = soup.select_one("main h1")
    if title is not None:
        title.insert_after(nav.extract())
    entries = soup.new_tag("ol")
    for heading in soup.select("main h1, main h2, main h3"):
        heading["id"] = free_id(heading, seen)
        for link in heading.select("a.anchor-link"):
            link["href"] = f"#{heading['id']}"
            link["aria-label"] = "Link to this part"
        if heading.name != "h1":
            entries.append(_entry(soup, heading))
    if len(entries.contents) > 1:
        label = soup.new_tag("p", attrs={"class": "label"})
        label.string = "Contents"
        nav.extend([label, entries])
    else:
        nav.decompose()


def _entry(soup: BeautifulSoup, heading: Tag) -> Tag:
    item = soup.new_tag("li", attrs={"class": "sub"} if heading.name == "h3" else {})
    link = soup.new_tag("a", href=f"#{heading['id']}")
    link.string = heading.get_text().replace("¶", "").strip()
    item.append(link)
    return item


def free_id(heading: Tag, seen: set[str]) -> str:
    """An address for a heading that no other heading has."""
    text = heading.get_text().replace("¶", "").strip().lower()
    base = re.sub(r"[^\w]+", "-", text).strip("-") or "part"
    name, number = base, 2
    while name in seen or name == "top":
        name, number = f"{base}-{number}", number + 1
    seen.add(name)
    return name
