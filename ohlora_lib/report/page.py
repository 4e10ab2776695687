"""Exports an executed notebook as one HTML file that loads nothing and runs no script but ours."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat
from bs4 import BeautifulSoup, NavigableString, Tag
from nbconvert.exporters import HTMLExporter
from nbformat import NotebookNode
from traitlets.config import Config

from ohlora_lib.io.disk import write_atomic
from ohlora_lib.report.index import LOOK, SCRIPT, TEMPLATES, without_turns
from ohlora_lib.study import run_folder
from ohlora_lib.study.machine import without_places

PICTURES = ("image/png", "image/jpeg", "image/svg+xml")
SHOWN = ["text/html", "text/markdown", *PICTURES, "text/plain"]  # the first there is, is shown
SETTINGS = {
    "NbConvertBase": {"display_data_priority": SHOWN},
    "CoalesceStreamsPreprocessor": {"enabled": True},  # text as a terminal leaves it
}
ALIVE = ("application/vnd.jupyter.widget-view+json", "application/javascript")
NO_DESCRIPTION = re.compile(r"^<.*>$", re.DOTALL)  # such as <Figure size 640x480 with 1 Axes>
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
LABELS = {"parameters": "Parameters by default", "injected-parameters": "Parameters of this run"}
LIMITS = (
    "For studying how a generator is fine-tuned and how to tell whether it worked. Scores are "
    "outputs of classifiers, with their errors; gender and age as two classes are labels of a "
    "study, no facts about people."
)
ACTIVE = ("script", "iframe", "object", "embed", "link", "base", "form", "template", "noscript")
NOTEBOOK = re.compile(r"(?:.*/)?(\w+)\.ipynb(?:#.*)?")  # in an address
NUMBER = re.compile(r"\s*([-+\u2212]?[\d.,]+([eE][-+]?\d+)?\s?%?|nan|NaN|inf|-|)\s*")
ADDRESSES = ("src", "srcset", "poster", "background", "data", "xlink:href")


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
    write_atomic(page, export_notebook(notebook, crumbs=crumbs, facts=facts))
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
        config=Config(SETTINGS),
        template_name="ohlora",
        extra_template_basedirs=[str(TEMPLATES)],
        embed_images=True,
        exclude_anchor_links=False,
    )
    exporter.register_filter("text_base64", lambda text: base64.b64encode(text.encode()).decode())
    page = {**LOOK, "title": notebook.stem, "crumbs": list(crumbs), "facts": list(facts)}
    resources = {"metadata": {"path": str(notebook.parent), "name": notebook.stem}, "ohlora": page}
    html, _ = exporter.from_notebook_node(node, resources)
    soup = BeautifulSoup(html, features="html.parser")
    disarm(soup)
    mark_links(soup)
    dress_tables(soup)
    fill_head(soup)
    hide_places(soup, notebook.parent)
    if soup.select_one(".frames"):
        tag = soup.new_tag("script")
        tag.string = SCRIPT
        soup.body.append(tag)
    return without_turns(str(soup))


# ---- the notebook -------------------------------------------------------------------------------


def clean_notebook(notebook: NotebookNode) -> None:
    """Labels cells, describes pictures, and drops what a page cannot show.

    What libraries write to standard error is for who runs the notebook, which keeps it; on a page
    it stands only where a cell failed.
    """
    notebook.metadata.pop("widgets", None)
    heading, figure = "Notebook", 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = (HEADING.findall(cell.source) or [heading])[-1]
        if cell.cell_type != "code":
            continue
        tags = cell.metadata.get("tags", [])
        failed = any(output.output_type == "error" for output in cell.outputs)
        cell.metadata["label"] = next((LABELS[tag] for tag in tags if tag in LABELS), "Code")
        cell.metadata["failed"] = failed
        cell.outputs = [output for output in cell.outputs if is_shown(output, failed)]
        for output in cell.outputs:
            figure += describe_pictures(output, f"{heading}: figure {figure + 1}")


def is_shown(output: NotebookNode, failed: bool) -> bool:
    """Whether an output has something for a page: no blank text, no widget, no script."""
    if output.output_type == "stream":
        return bool(output.text.strip()) and (failed or output.name == "stdout")
    return not any(mime in output.get("data", {}) for mime in ALIVE)


def describe_pictures(output: NotebookNode, fallback: str) -> int:
    """Gives each picture of an output an alternative text; returns whether there was one."""
    data: dict[str, Any] = output.get("data", {})
    shown = [mime for mime in PICTURES if mime in data]
    for mime in shown:
        facts = dict(output.metadata.get(mime) or {})
        plain = str(data.get("text/plain", "")).strip().strip("'\"")
        said = facts.get("alt") or output.metadata.get("alt")
        facts["alt"] = said or (plain if not NO_DESCRIPTION.match(plain) else "") or fallback
        output.metadata[mime] = facts
    return int(bool(shown))


# ---- the page -----------------------------------------------------------------------------------


def disarm(soup: BeautifulSoup) -> None:
    """Removes what runs, and what would be fetched from elsewhere."""
    for tag in soup.select(", ".join(f"body {name}" for name in (*ACTIVE, "style", "meta"))):
        tag.decompose()
    for tag in soup.select("body *"):
        for name in [n for n in tag.attrs if n.startswith("on") or n in ADDRESSES]:
            if name.startswith("on") or not str(tag[name]).startswith("data:"):
                del tag[name]
        if str(tag.get("href", "")).strip().lower().startswith(("javascript:", "data:")):
            del tag["href"]
    for tag in soup.select("body img:not([src])"):
        tag.replace_with(f"[{tag.get('alt', 'picture')}]")


def mark_links(soup: BeautifulSoup) -> None:
    """Turns links to notebooks into the placeholders of `links`; links to other files go."""
    for link in soup.select("main a[href]"):
        address, text = str(link["href"]), link.get_text()
        if notebook := NOTEBOOK.fullmatch(address):
            facts = {"data-notebook": notebook[1], "data-text": quote(text, safe=" ")}
            tag = soup.new_tag("span", attrs={"class": "pages", **facts})
            tag.string = text
            link.replace_with(tag)
        elif not re.match(r"#|https?://|mailto:", address):
            link.unwrap()


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


def fill_head(soup: BeautifulSoup) -> None:
    """Puts verdicts and the list of contents right under the title, which names the page too."""
    nav, title = soup.select_one("nav.contents"), soup.select_one("main h1")
    entries, seen = soup.new_tag("ol"), {"top"}
    for heading in soup.select("main h1, main h2, main h3"):
        entry = name_heading(soup, heading, seen)
        if heading.name != "h1":
            entries.append(entry)
    if title is not None:
        soup.title.string = _text(title)
        verdicts = [verdict.extract() for verdict in soup.select("main div.verdict")]
        title.insert_after(*verdicts, nav.extract())
    if len(entries.contents) > 1:
        label = soup.new_tag("p", attrs={"class": "label"})
        label.string = "Contents"
        nav.extend([label, entries])
    else:
        nav.decompose()


def name_heading(soup: BeautifulSoup, heading: Tag, seen: set[str]) -> Tag:
    """Gives a heading an address that no other has; returns its entry in the contents."""
    name = re.sub(r"\W+", "-", _text(heading).lower()).strip("-") or "part"
    while name in seen:
        name += "-2"
    seen.add(name)
    heading["id"] = name
    for link in heading.select("a.anchor-link"):
        link["href"], link["aria-label"] = f"#{name}", "Link to this part"
    entry = soup.new_tag("li", attrs={"class": "sub"} if heading.name == "h3" else {})
    entry.append(soup.new_tag("a", href=f"#{name}", string=_text(heading)))
    return entry


def _text(heading: Tag) -> str:
    return heading.get_text().replace("¶", "").strip()


def hide_places(soup: BeautifulSoup, folder: Path) -> None:
    """Shows paths relative to the project of a run folder: a page may be read anywhere."""
    root = run_folder.root_of(folder)
    for text in soup.find_all(string=True):
        if type(text) is NavigableString:  # no style sheet, script or comment
            text.replace_with(without_places(text, root))
    for tag in soup.select("[alt], [title], [aria-label]"):
        for name in {"alt", "title", "aria-label"} & tag.attrs.keys():
            tag[name] = without_places(str(tag[name]), root)
