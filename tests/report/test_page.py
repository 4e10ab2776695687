import base64
import hashlib
import re
import tempfile
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat import v4

from ohlora_lib.report import page as export_module
from ohlora_lib.report.page import export_notebook, export_run
from ohlora_lib.study.run import start_run

DOT = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8"
    "z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def shown(data, **metadata):
    return v4.new_output("display_data", data=data, metadata=metadata)


def printed(text, name="stderr"):
    return v4.new_output("stream", name=name, text=text)


@pytest.fixture
def export(tmp_path):
    def run(*cells, **metadata):
        node = v4.new_notebook(metadata={"language_info": {"name": "python"}, **metadata})
        node.cells = [
            v4.new_markdown_cell(cell)
            if isinstance(cell, str)
            else v4.new_code_cell("x = 1", outputs=cell)
            for cell in cells
        ]
        path = tmp_path / "01_first.ipynb"
        nbformat.write(node, path)
        return BeautifulSoup(export_notebook(path, crumbs=("tiny", "01_first")), "html.parser")

    return run


def test_page_has_language_title_and_contents(export):
    page = export("# Does it *learn*?", "## Look\n\ntext", "## Look", "### Closer & closer")
    assert page.html["lang"] == "en"
    assert page.title.string == "Does it learn?"
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
            shown({"image/svg+xml": "<svg xmlns='http://www.w3.org/2000/svg'/>"}),
            printed(HOSTILE, "stdout"),
        ],
    )
    assert not page.select("script, iframe, link, object, embed, body style")
    assert not [tag for tag in page.select("*") for name in tag.attrs if name.startswith("on")]
    sources = [tag["src"] for tag in page.select("[src]")]
    assert len(sources) == 1
    assert all(source.startswith("data:") for source in sources)
    assert "javascript:" not in str(page)
    assert "[chart]" in page.get_text()
    assert "kept" in page.get_text()
    assert "<script>alert(1)</script>" in page.select_one("pre.printed").get_text()
    policy = page.select_one("meta[http-equiv=Content-Security-Policy]")["content"]
    assert "default-src 'none'" in policy
    allowed = policy.split("script-src ")[1].split(";")[0]
    assert allowed.startswith("'sha256-")  # one script, known by its content
    assert " " not in allowed
    assert not re.search(r"url\(|@import", page.style.string)


def test_code_is_folded_and_parameters_are_labelled(tmp_path):
    cell = v4.new_code_cell("seed = 3", metadata={"tags": ["injected-parameters"]})
    path = tmp_path / "a.ipynb"
    nbformat.write(v4.new_notebook(cells=[cell, v4.new_code_cell("f(1)")]), path)
    page = BeautifulSoup(export_notebook(path), "html.parser")
    folds = page.select("details.source")
    assert [fold.summary.string for fold in folds] == ["Parameters of this run", "Code"]
    assert not any(fold.has_attr("open") for fold in folds)
    assert "seed = 3" in folds[0].get_text()


def test_pictures_keep_their_bytes_and_say_what_they_show(export):
    page = export(
        "# T\n\n## The losses",
        [
            shown({"image/png": DOT + "\n"}, **{"image/png": {"alt": 'a "rising" line'}}),
            shown({"image/png": DOT, "text/plain": "Losses fall."}),
            shown({"image/png": DOT, "text/plain": "<Figure size 640x480 with 1 Axes>"}),
        ],
    )
    pictures = page.select("img")
    assert [picture["alt"] for picture in pictures] == [
        'a "rising" line',
        "Losses fall.",
        "The losses: figure 3",
    ]
    assert {picture["src"] for picture in pictures} == {f"data:image/png;base64,{DOT}"}


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
    assert "2%" in text
    assert "1%" not in text
    assert "cell:6: UserWarning" in text
    assert "ValueError in ohlora_lib/report/page.py:5" in text
    assert "ValueError: <no>" in text
    assert failed.select_one("details.source").has_attr("open")


def test_widgets_are_dropped(export):
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}, "text/plain": "VBox()"}
    page = export("# T", [shown(view)], widgets={"application/vnd.jupyter.widget-state+json": {}})
    assert "VBox" not in page.get_text()
    assert "widget" not in str(page)


def test_tables_scroll_and_tell_words_from_numbers(export):
    heads = "<tr><th></th><th>x</th><th>y</th><th>z</th></tr><tr><th>name</th>" + 3 * "<th></th>"
    row = "<tr><th>a</th><td>0.5</td><td>-3 %</td><td>word</td></tr>"
    html = f"<table border=1><thead>{heads}</tr></thead><tbody>{row}</tbody></table>"
    page = export("# T", [shown({"text/html": html, "text/plain": "a"})])
    table = page.select_one("div.table[tabindex='0'] > table")
    assert not table.has_attr("border")
    assert [cell.get("class") for cell in table.select("td")] == [None, None, ["words"]]
    heads = table.select("th")[:-1]
    assert [head.get_text() for head in heads] == ["name", "x", "y", "z"]
    assert [head.get("class") for head in heads] == [["words"], None, None, ["words"]]


def test_page_of_a_run_tells_how_it_was_made(tmp_path):
    run = start_run("01_first", {"study": "tiny", "seed": 0}, root=tmp_path)
    notebook = run.path / "01_first.ipynb"
    nbformat.write(v4.new_notebook(cells=[v4.new_markdown_cell("# T")]), notebook)
    assert "has not finished" in export_run(notebook).read_text()
    run.finish()
    page = BeautifulSoup(export_run(notebook).read_text(), "html.parser")
    assert "Again: papermill notebooks/01_first.ipynb" in page.footer.get_text()
    assert page.select_one(".crumbs").get_text().strip() == "tiny / 01_first"


def test_frames_get_the_one_script_and_the_policy_knows_it(export):
    frames = '<div class="frames"><figure><figcaption>a</figcaption></figure></div>'
    page = export("# T", [shown({"text/html": frames})])
    (script,) = page.select("script")
    digest = base64.b64encode(hashlib.sha256(script.string.encode()).digest()).decode()
    policy = page.select_one("meta[http-equiv=Content-Security-Policy]")["content"]
    assert f"script-src 'sha256-{digest}';" in policy
