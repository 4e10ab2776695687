"""Pages load nothing and run nothing of the data's, and their links lead to pages."""

import base64
import hashlib
import re
import tempfile
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat import v4

from ohlora_lib.figures import style
from ohlora_lib.report import page as export_module
from ohlora_lib.report import show
from ohlora_lib.report.index import SCRIPT, write_index
from ohlora_lib.report.page import export_notebook, export_run
from ohlora_lib.study.run_folder import start_run

DOT = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8"
    "z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"
LINKS = """# T

From [2](02_base.ipynb) to [6. "Next"](06_evaluate.ipynb#a); [a file](card.md), [b](#T)."""


def shown(data, **metadata):
    return v4.new_output("display_data", data=data, metadata=metadata)


def printed(text, name="stderr"):
    return v4.new_output("stream", name=name, text=text)


@pytest.fixture
def export(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "params").mkdir()
    (tmp_path / "notebooks").mkdir()

    def run(*cells, lead=None, **metadata):
        node = v4.new_notebook(metadata={"language_info": {"name": "python"}, **metadata})
        for cell in cells:
            new = cell
            if isinstance(cell, str):
                new = v4.new_markdown_cell(cell)
            elif isinstance(cell, list):
                new = v4.new_code_cell("x = 1", outputs=cell)
            new.metadata.update({"tags": ["lead"]} if cell is lead else {})
            node.cells.append(new)
        path = tmp_path / "outputs" / "01_first-v9" / "01_first.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "config.json").write_text('{"variant": "v9"}')
        nbformat.write(node, path)
        return BeautifulSoup(export_notebook(path), "html.parser")

    return run


def test_page_has_language_title_and_contents(export):
    page = export("# Does it *learn*?\n\nQuestion", "## Look", "## Look", "### Closer & closer")
    assert page.html["lang"] == "en"
    assert page.title.string == page.h1.get_text() == "Does it learn? (v9)"
    links = page.select("nav.contents a")
    assert [link.string for link in links] == ["Look", "Look", "Closer & closer"]
    ids = [link["href"][1:] for link in links]
    assert len(set(ids)) == 3
    assert all(len(page.select(f"[id='{name}']")) == 1 for name in ids)


def test_nothing_is_loaded_and_nothing_runs(export):
    page = export(
        f"# T\n\n{HOSTILE}\n\n![chart](https://example.org/a.png) [link](javascript:alert(3))",
        [
            shown({"text/html": f"<b>{HOSTILE}</b><iframe src='https://example.org'></iframe>"}),
            shown({"text/html": "<style>@import 'https://example.org/a.css'</style><p>kept</p>"}),
            shown({"application/javascript": "alert(4)", "text/plain": "<Javascript>"}),
            shown({"application/vnd.jupyter.widget-view+json": {}, "text/plain": "VBox()"}),
            shown({"image/svg+xml": "<svg xmlns='http://www.w3.org/2000/svg'/>"}),
            printed(HOSTILE, "stdout"),
        ],
        widgets={"application/vnd.jupyter.widget-state+json": {}},
    )
    assert "VBox" not in page.get_text()
    assert "widget" not in str(page.main)
    (script,) = page.select("script")
    assert script.string == SCRIPT
    digest = base64.b64encode(hashlib.sha256(script.string.encode()).digest()).decode()
    policy = page.select_one("meta[http-equiv=Content-Security-Policy]")["content"]
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}';" in policy
    assert not page.select("iframe, link, object, embed, body style")
    assert not [tag for tag in page.select("*") for name in tag.attrs if name.startswith("on")]
    sources = [tag["src"] for tag in page.select("[src]")]
    assert len(sources) == 1
    assert all(source.startswith("data:") for source in sources)
    assert "javascript:" not in str(page)
    assert "[chart]" in page.get_text()
    assert "kept" in page.get_text()
    assert "<script>alert(1)</script>" in page.select_one("pre.printed").get_text()
    assert not re.search(r"url\(|@import", page.style.string)


def test_a_section_has_one_fold_of_code_where_parameters_are_labelled(export):
    cell = v4.new_code_cell("seed = 3", metadata={"tags": ["injected-parameters"]})
    calls = [v4.new_code_cell(f"f({k})") for k in range(3)]
    page = export(v4.new_code_cell("import a"), cell, "## B", *calls)
    first, second = page.select("details.source")
    assert [first.summary.string, second.summary.string] == ["Code", "Code"]
    words = first.get_text()
    assert words.index("import a") < words.index("Parameters of this run") < words.index("seed")
    assert all(f"f({k})" in second.get_text() for k in range(3))
    assert not first.has_attr("open")
    assert len(page.select("section:has(> *)")) == 3  # style.css hides the others
    assert ".cell:not(:has(> *)) { display: none; }" in page.style.string


def test_answer_and_pictures_lead_and_how_it_ran_is_in_the_footer(export):
    picture = [shown({"image/png": DOT})]
    fine = [shown({"text/html": '<p class="fine">In bfloat16.</p>'})]
    said = [v4.new_output("execute_result", data={"text/plain": "'finished'"})]
    verdict = [shown({"text/html": '<div class="verdict">Yes.</div>'})]
    page = export("# T\n\nQuestion", fine, "## Same", picture, "## Z", verdict, said, lead=picture)
    page.nav.decompose()
    words = page.main.get_text()
    assert words.index("Yes.") < words.index("Same") < words.index("Question") < words.index("Z")
    assert page.select_one("section.lead img")
    assert "finished" not in words
    assert "In bfloat16." not in words
    assert "In bfloat16." in page.footer.get_text()


def test_formulas_of_markdown_are_drawn_where_they_stand(export):
    page = export("# T\n\nFor $p_a < \\frac{1}{2}$, `$x$` and $\\tfrac12$:\n\n$$a\n= b$$\n\nend")
    inline, block = page.select("img.formula")
    assert (inline["alt"], block["alt"]) == ("p_a < \\frac{1}{2}", "a = b")
    assert "block" in block["class"]
    assert "block" not in inline["class"]
    words = " ".join(page.select_one("section.prose:has(p)").get_text().split())
    assert "For , $x$ and $\\tfrac12$: end" in words  # mathtext has no \\tfrac


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_formulas_can_be_drawn_and_pages_from_fine_tuning_on_lead_with_pictures(path):
    cells = nbformat.read(path, as_version=4).cells
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    for match in export_module.FORMULA.finditer("\n\n".join(texts)):
        assert style.formula(" ".join((match[1] or match[2]).split()))
    leading = [k for k, cell in enumerate(cells) if cell.metadata.get("tags") == ["lead"]]
    if "05" <= path.stem < "09":
        assert cells[leading[0] - 1].source.startswith("## ")  # the heading, which moves with it
        sources = "".join(cells[k].source for k in leading)
        assert re.search(r"show\.(grid|picture)\(", sources)


def test_pictures_keep_their_bytes_and_say_what_they_show(export, tmp_path):
    (tmp_path / "secret.svg").write_text("<svg/>")
    described = {"image/png": {"alt": 'a "rising" line'}}
    pictures = [shown({"image/png": DOT + "\n"}, **described), shown({"image/png": DOT})]
    drawings = "![A](../docs/a.svg) ![B](../secret.svg) ![C](../docs/gone.svg)"
    page = export(f"# T\n\n{drawings}\n\n## The losses", pictures)
    drawing, *images = page.select("img")
    assert [image["alt"] for image in images] == ['a "rising" line', "The losses"]
    assert {image["src"] for image in images} == {f"data:image/png;base64,{DOT}"}
    assert drawing["alt"] == "A"
    assert drawing["src"].startswith("data:image/svg+xml;base64,")
    assert "[B] [C]" in page.get_text()  # no other files


def test_standard_error_is_shown_where_a_cell_failed_and_without_places_of_this_machine(export):
    progress = [printed(f"\rtrain: {n}%|###   | {n}/100 [00:0{n}<00:09, 3.1it/s]") for n in (1, 2)]
    cell = f"{tempfile.gettempdir()}/ipykernel_7/123.py:6: UserWarning: undefined behavior"
    printed_out = printed(f"kept in {Path.home()}/far/a.csv", "stdout")
    page = export("# T", [*progress, printed(f"\n{cell}\n"), printed_out])
    (shown_pre,) = page.select("pre.printed")
    assert shown_pre.get_text().strip() == "kept in ~/far/a.csv"
    trace = [f"\x1b[31mValueError\x1b[0m in {export_module.__file__}:5", "ValueError: <no>"]
    error = v4.new_output("error", ename="ValueError", evalue="no", traceback=trace)
    failed = export("# T", [*progress, printed(f"\n{cell}\n"), error])
    text = failed.select_one("section.failed").get_text()
    assert "1%" not in text
    for words in ("2%", "cell:6: UserWarning", "ohlora_lib/report/page.py:5", "ValueError: <no>"):
        assert words in text
    assert failed.select_one("details.source").has_attr("open")


@pytest.fixture
def export_tables(export, monkeypatch):
    """Returns the page on which these tables are shown."""
    outputs = []
    monkeypatch.setattr(show, "display", lambda html: outputs.append({"text/html": html.data}))

    def run(*tables):
        for table in tables:
            show.table(table)
        return export("# T", [shown(output) for output in outputs])

    return run


@pytest.mark.parametrize("names", [["name"], ["by", "name"]])
def test_tables_scroll_and_tell_words_from_numbers(export_tables, names):
    index = pd.MultiIndex.from_tuples([("a", "b")[: len(names)]], names=names)
    table = pd.DataFrame({"x": [0.5], "y": ["-3 %"], "z": ["word"]}, index)
    page = export_tables(table if len(names) > 1 else table.set_axis(index.get_level_values(0)))
    table = page.select_one("div.table[tabindex='0'] > table")
    assert [cell.get("class") for cell in table.select("tbody td")] == [None, None, ["words"]]
    *heads, row = table.select("thead td, th")
    assert [head.get_text() for head in heads] == [*(names if len(names) < 2 else [""]), *"xyz"]
    assert [head.name for head in heads] == ["th" if len(names) < 2 else "td", "th", "th", "th"]
    assert [head.get("class") for head in heads] == [["words"], None, None, ["words"]]
    assert row.get_text() == ("a" if len(names) < 2 else "a b")
    styles = [cell.get("style") for cell in table.select("tbody td")]
    assert styles == [None, None, "text-align: left"]  # in JupyterLab, too


def test_long_tables_are_folded_and_integers_have_no_decimals(export_tables):
    rows = {"score": [1.0] * 13, "images": [1845.0, *[None] * 12], "n": range(13), "part": 2.5}
    ends = pd.DataFrame({"score": [0.5, 1.0], "seen": [0, 1845]}, ["base", "last"])
    page = export_tables(pd.DataFrame(rows), ends.astype(object).T)
    assert page.select_one("details.long > summary").string == (
        "Table of 13 rows: score, images, n, part"
    )
    first, second = page.select("table")
    cells = [cell.get_text() for cell in first.select_one("tbody tr").select("td")]
    assert cells == ["1.000", "1,845", "0", "2.500"]  # and no number of the row
    assert not first.select("tbody th")
    assert second.find_parent("details") is None
    texts = [cell.get_text() for cell in second.select("tbody td")]
    assert texts == ["0.500", "1.000", "0", "1845"]


@pytest.fixture
def project(tmp_path):
    """Makes the page of a stage, whose text links to 2 and 6."""

    def make(notebook, variant="", study="s", **config):
        config = {"study": study, "variant": variant, "seed": 0, **config}
        run = start_run(notebook, config, root=tmp_path)
        path = run.path / f"{notebook}.ipynb"
        nbformat.write(v4.new_notebook(cells=[v4.new_markdown_cell(LINKS)]), path)
        assert "has not finished" in export_run(path).read_text()
        run.finish()
        return export_run(path)

    return make


def links(page, study):
    """Text and address of each link, all of which lead somewhere."""
    index = BeautifulSoup(write_index(study).read_text(), "html.parser")
    soup = BeautifulSoup(page.read_text(), "html.parser")
    found = {a.get_text(): a["href"] for a in soup.select("main a[href], .crumbs a")}
    for address in found.values():
        file, _, part = address.partition("#")
        assert not file or (page.parent / file).resolve().is_file()
        if file.endswith("index.html") and part:
            assert index.select(f"[id='{part}']"), part
    return found


def test_links_lead_to_the_same_variant_or_to_the_place_on_the_page_of_the_study(project):
    study = project("02_base").parents[1]
    project("06_evaluate", "v8")
    page = project("04_select")
    assert links(page, study) == {
        "s": "../index.html", "2": "../02_base/02_base.html", "b": "#T",
        '6. "Next"': "../index.html#06_evaluate",
    }  # fmt: skip
    text = BeautifulSoup(page.read_text(), "html.parser").get_text()
    assert 'From 2 to 6. "Next"; a file, b.' in text
    assert "s / 04_select" in text
    assert "Run again: papermill notebooks/04_select.ipynb" in text
    project("06_evaluate", "v9")
    project("02_base", study="other")
    page = project("05_finetune", "v9", base_run="outputs/other/02_base")  # its own input
    assert links(page, study)["2"] == "../../other/02_base/02_base.html"
    assert links(page, study)['6. "Next"'] == "../06_evaluate-v9/06_evaluate.html"
    both = [f"outputs/s/06_evaluate-{variant}" for variant in ("v8", "v9")]
    page = project("08_compare", evaluation_runs=both)
    assert links(page, study)['6. "Next"'] == "../index.html#06_evaluate"


def test_a_run_that_was_moved_aside_still_leads_somewhere(project):
    study = project("02_base").parents[1]
    project("06_evaluate")
    folder = project("05_finetune", base_run="outputs/s/02_base").parent
    kept = study / ".earlier" / "05_finetune-20260101T000000.000000Z"
    kept.parent.mkdir()
    folder.rename(kept)
    for _ in range(2):
        assert links(kept / "05_finetune.html", study) | {"b": ""} == {
            "s": "../../index.html", "2": "../../02_base/02_base.html", "b": "",
            '6. "Next"': "../../06_evaluate/06_evaluate.html",
        }  # fmt: skip
