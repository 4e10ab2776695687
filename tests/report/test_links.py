"""Links between pages lead to pages that exist, of the variant that is meant."""

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat import v4

from ohlora_lib.report.index import write_index
from ohlora_lib.report.page import export_run
from ohlora_lib.study.run import start_run

TEXT = """# T

From [2](02_base.ipynb) to [6. "Next"](06_evaluate.ipynb#a); [a file](card.md), [b](#t)."""


@pytest.fixture
def project(tmp_path):
    """Makes a page of a stage; its text links to 2 and 6."""

    def make(notebook, variant="", study="s", **config):
        config = {"study": study, "variant": variant, "seed": 0, **config}
        run = start_run(notebook, config, root=tmp_path)
        path = run.path / f"{notebook}.ipynb"
        nbformat.write(v4.new_notebook(cells=[v4.new_markdown_cell(TEXT)]), path)
        run.finish()
        return export_run(path)

    make.root = tmp_path
    return make


def links(page, part="main"):
    """Text and address of each link, all of which lead somewhere."""
    study = page.parents[1]
    write_index(study)
    soup = BeautifulSoup(page.read_text(), "html.parser")
    found = {a.get_text(): a["href"] for a in soup.select(f"{part} a[href]:not(.anchor-link)")}
    for address in found.values():
        assert address.startswith("#") or (page.parent / address).is_file(), address
    return found


def test_a_link_waits_for_its_page_and_leads_to_the_same_variant(project):
    first = project("05_finetune", "v9")
    assert links(first) == {"b": "#t"}
    shown = BeautifulSoup(first.read_text(), "html.parser").get_text()
    assert 'From 2 to 6. "Next"; a file, b.' in shown
    project("06_evaluate", "v8")
    assert links(first) == {"b": "#t"}  # another variant is not what comes next
    project("06_evaluate")
    assert links(first)['6. "Next"'] == "../06_evaluate/06_evaluate.html"
    project("06_evaluate", "v9")
    assert links(first)['6. "Next"'] == "../06_evaluate-v9/06_evaluate.html"


def test_a_page_without_variant_leads_to_all(project):
    page = project("04_select")
    for variant in ("v8", "v9"):
        project("06_evaluate", variant)
    assert links(page) == {
        "v8": "../06_evaluate-v8/06_evaluate.html",
        "v9": "../06_evaluate-v9/06_evaluate.html",
        "b": "#t",
    }


def test_an_input_is_what_a_link_means_in_another_study_too(project):
    project("02_base")
    project("02_base", study="other")
    page = project("05_finetune", "v9", base_run="outputs/other/02_base")
    assert links(page)["2"] == "../../other/02_base/02_base.html"


def test_a_run_that_was_moved_aside_still_leads_somewhere(project):
    base = project("02_base")
    folder = project("05_finetune", base_run="outputs/s/02_base").parent
    kept = base.parents[1] / ".earlier" / "05_finetune-20260101T000000.000000Z"
    kept.parent.mkdir()
    folder.rename(kept)
    page = kept / "05_finetune.html"
    write_index(base.parents[1])
    soup = BeautifulSoup(page.read_text(), "html.parser")
    found = [a["href"] for a in soup.select("span.pages a")]
    assert found == ["../../index.html", "../../02_base/02_base.html"]
    assert all((page.parent / address).is_file() for address in found)


def test_crumbs_lead_to_the_index_and_to_the_other_variants(project):
    page = project("05_finetune", "v9")
    project("05_finetune", "v8")
    project("05_finetune_else")
    assert links(page, ".crumbs") == {
        "s": "../index.html",
        "v8": "../05_finetune-v8/05_finetune.html",
    }
