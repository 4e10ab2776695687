"""Exports an executed notebook as one HTML file that loads nothing and runs no script but ours."""

import base64
import os
import re
from itertools import zip_longest
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup, NavigableString
from nbconvert.exporters import HTMLExporter
from nbformat import NotebookNode
from traitlets.config import Config

from ohlora_lib.figures import style
from ohlora_lib.io.disk import write_atomic
from ohlora_lib.report.index import LOOK, SCRIPT, TEMPLATES, TURNS
from ohlora_lib.study import records
from ohlora_lib.study.machine import without_places

PICTURES = ("image/png", "image/jpeg", "image/svg+xml")
SHOWN = ["text/html", "text/markdown", *PICTURES, "text/plain"]  # the first available is shown
SETTINGS = {
    "NbConvertBase": {"display_data_priority": SHOWN},
    "CoalesceStreamsPreprocessor": {"enabled": True},  # text as a terminal shows it
    "HTMLExporter": {
        "template_name": "ohlora",
        "extra_template_basedirs": [str(TEMPLATES)],
        "embed_images": True,
    },
}
ALIVE = {"application/vnd.jupyter.widget-view+json", "application/javascript"}
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
LABELS = {"parameters": "Default parameters", "injected-parameters": "Parameters of this run"}
LEAD = "lead"  # tag of a cell whose section comes right after the verdict
FINISHED = {"text/plain": "'finished'"}  # value of a notebook's last cell, repeated in the footer
MOST_ROWS = 10  # of a table; a longer one is folded
ACTIVE = (
    *("script", "iframe", "object", "embed", "link", "base", "form", "template", "noscript"),
    *("style", "meta"),
)
ADDRESSES = ("src", "srcset", "poster", "background", "data", "xlink:href")
NOTEBOOK = re.compile(r"(?:.*/)?(\w+)\.ipynb(?:#.*)?")  # in an address
FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$]+?)\$", re.DOTALL)
NUMBER = re.compile(r"\s*([-+\u2212]?[\d.,]+([eE][-+]?\d+)?\s?%?|nan|NaN|inf|-|)\s*")


def export_run(notebook: Path) -> Path:
    """Writes an executed notebook's page next to the notebook, and returns the page's path."""
    page = notebook.with_suffix(".html")
    write_atomic(page, export_notebook(notebook))
    return page


def export_notebook(notebook: Path) -> str:
    """Turns an executed notebook into a page, with the facts of its run folder at the foot."""
    folder = notebook.parent
    summary = records.read_json(folder / "summary.json")
    node = nbformat.read(notebook, as_version=4)
    _clean(node)
    exporter = HTMLExporter(config=Config(SETTINGS))
    exporter.register_filter("text_base64", lambda text: base64.b64encode(text.encode()).decode())
    page = {**LOOK, "title": notebook.stem, "crumbs": folder.parts[-2:], "summary": summary}
    root = records.root_of(folder)  # a notebook's Markdown shows drawings of docs/, and no others
    resources = {"metadata": {"path": str(root / "docs"), "name": notebook.stem}, "ohlora": page}
    html, _ = exporter.from_notebook_node(node, resources)
    soup = BeautifulSoup(html, features="html.parser")
    _disarm(soup)
    _draw_formulas(soup)
    _lead_links(soup, folder)
    _dress_tables(soup)
    _gather_code(soup)
    _fill_head(soup, folder)
    soup.footer.insert(0, *(part.extract() for part in soup.select("main p.fine")))
    _hide_places(soup, root)
    if soup.select_one(".frames, details.source"):
        soup.body.append(soup.new_tag("script", string=SCRIPT))
    return TURNS.sub("", str(soup))


def _clean(notebook: NotebookNode) -> None:
    """Labels cells, describes pictures, and drops what a page cannot show."""
    notebook.metadata.pop("widgets", None)
    heading = "Notebook"
    for cell in notebook.cells:
        if cell.cell_type != "code":
            heading = (HEADING.findall(cell.source) or [heading])[-1]
            continue
        failed = any(output.output_type == "error" for output in cell.outputs)
        tags = cell.metadata.get("tags", [])
        labels = [LABELS[tag] for tag in tags if tag in LABELS]
        cell.metadata.update(label="".join(labels), failed=failed, lead=LEAD in tags)
        cell.outputs = [output for output in cell.outputs if _is_shown(output, failed)]
        for output in cell.outputs:
            for mime in output.get("data", {}).keys() & set(PICTURES):
                output.metadata[mime] = {"alt": heading, **output.metadata.get(mime, {})}


def _is_shown(output: NotebookNode, failed: bool) -> bool:
    """Whether a page shows an output; standard error only where a cell failed."""
    if output.output_type == "stream":
        return bool(output.text.strip()) and (failed or output.name == "stdout")
    data = output.get("data", {})
    return data != FINISHED and not ALIVE & data.keys()


def _disarm(soup: BeautifulSoup) -> None:
    """Removes active content and addresses outside the page."""
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


def _draw_formulas(soup: BeautifulSoup) -> None:
    """Draws formulas of Markdown cells, as a page has no MathJax; their TeX is the alt text."""
    for text in soup.select_one("main").find_all(string=FORMULA):
        if not text.find_parent("section", "prose") or text.find_parent(["code", "pre"]):
            continue
        parts, end = [], 0
        for match in FORMULA.finditer(text):
            tex = " ".join((match[1] or match[2]).split())
            try:
                svg, css = style.formula(tex.replace(r"\frac", r"\dfrac") if match[1] else tex)
            except ValueError:  # not in mathtext: the TeX stays
                continue
            data = f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
            kind = "formula block" if match[1] else "formula"
            facts = {"src": data, "alt": tex, "class": kind, "style": css}
            parts += [text[end : match.start()], soup.new_tag("img", attrs=facts)]
            end = match.end()
        text.replace_with(*parts, text[end:])


def _lead_links(soup: BeautifulSoup, folder: Path) -> None:
    """Points links between notebooks to their pages, and removes links to other files."""
    for link in soup.select("main a[href]"):
        address = str(link["href"])
        if notebook := NOTEBOOK.fullmatch(address):
            link["href"] = _page_of(notebook[1], folder)
        elif not re.match(r"#|https?://|mailto:", address):
            link.unwrap()


def _page_of(notebook: str, folder: Path) -> str:
    """Address of a notebook's page: of an input, the same variant, no variant, or its card."""
    config = records.read_json(folder / "config.json")  # empty if it is not a run folder
    root, same = records.root_of(folder), "".join([notebook, *folder.name.partition("-")[1:]])
    inputs = [root / text for _, text in records.input_paths(config, records.RUNS)]
    for runs in (inputs, [folder.with_name(same)], [folder.with_name(notebook)]):
        pages = {page for run in runs if (page := run / f"{notebook}.html").is_file()}
        if len(pages) == 1:
            return Path(os.path.relpath(pages.pop(), folder)).as_posix()
    return f"../index.html#{notebook}"


def _dress_tables(soup: BeautifulSoup) -> None:
    """Lets wide tables scroll, by keyboard too, folds long ones, aligns words to the left."""
    for number, table in enumerate(soup.select("table"), start=1):
        frame = {"class": "table", "tabindex": "0", "role": "region"}
        table.wrap(soup.new_tag("div", attrs=frame | {"aria-label": f"Table {number}"}))
        for column in zip_longest(*(row.select("th, td") for row in table.select("tr"))):
            cells = [cell for cell in column if cell is not None]
            body = [cell for cell in cells if cell.find_parent("thead") is None]
            if any(cell.name == "th" or not NUMBER.fullmatch(cell.get_text()) for cell in body):
                for cell in cells:
                    cell["class"] = "words"
        for corner in table.select("thead th:empty"):
            corner.name = "td"  # not the header of a column
        if (rows := len(table.select("tbody tr"))) > MOST_ROWS:
            heads = ", ".join(filter(None, (cell.get_text() for cell in table.select("thead th"))))
            fold = table.parent.wrap(soup.new_tag("details", attrs={"class": "long"}))
            fold.insert(0, soup.new_tag("summary", string=f"Table of {rows} rows: {heads}"))


def _gather_code(soup: BeautifulSoup) -> None:
    """Gives each section one fold with all of its code; a failed cell keeps its own, open."""
    first = None
    for part in soup.select("main h1, main h2, main h3, section:not(.failed) > details.source"):
        if part.name != "details":
            first = None
        elif first is None:
            first = part
        else:
            part.summary.decompose()
            first.extend(list(part.contents))
            part.decompose()


def _fill_head(soup: BeautifulSoup, folder: Path) -> None:
    """Puts verdicts, leading sections and contents under the title, which names the variant."""
    nav, title, seen = soup.select_one("nav.contents"), soup.select_one("main h1"), {"top"}
    for link in soup.select("a.anchor-link"):
        link.decompose()
    for shown in soup.select("main div.prose h1"):  # from Markdown that a cell showed
        shown.name = "h3"
    if title is not None:
        if variant := records.read_json(folder / "config.json").get("variant"):
            title.append(f" ({variant})")
        soup.title.string = title.get_text()
        leads = soup.select("section.prose:has(+ section.lead), section.lead")
        head = [part.extract() for part in [*soup.select("main div.verdict"), *leads, nav]]
        (title.find_parent("section") or title).insert_before(title, *head)
    for number, heading in enumerate(soup.select("main h1, main h2, main h3")):
        name = str(heading.get("id", "part"))
        heading["id"] = f"{name}-{number}" if name in seen else name
        seen.add(heading["id"])
        if heading.name != "h1":
            entry = soup.new_tag("li", attrs={"class": "sub"} if heading.name == "h3" else {})
            entry.append(soup.new_tag("a", href=f"#{heading['id']}", string=heading.get_text()))
            nav.ol.append(entry)
    if len(nav.select("li")) < 2:
        nav.decompose()


def _hide_places(soup: BeautifulSoup, root: Path) -> None:
    """Shows paths relative to the project: a page may be read anywhere."""
    for text in soup.find_all(string=True):
        if type(text) is NavigableString:  # no style sheet, script or comment
            text.replace_with(without_places(text, root))
    for tag in soup.select("[alt]"):
        tag["alt"] = without_places(str(tag["alt"]), root)
