"""The page of a study answers, and has a card for each run; names of files tell texts apart."""

import numpy as np
import pytest
from bs4 import BeautifulSoup

from ohlora_lib.io.images import save_png
from ohlora_lib.report import show
from ohlora_lib.report.index import stage_title, write_index
from ohlora_lib.study.run_folder import start_run


def finish(root, notebook, variant="", **results):
    config = {"study": "tiny", "variant": variant, "seed": 0}
    run = start_run(notebook, config, root=root)
    (run.path / f"{notebook}.html").write_text("page")
    save_png(run.path / "images" / "grid.png", np.full((900, 900, 3), 200, np.uint8))
    run.finish(**results)
    return run.path


def read(root):
    return BeautifulSoup(write_index(root / "outputs/tiny").read_text(), "html.parser")


def test_cards_are_in_order_and_link_to_their_pages(tmp_path):
    finish(tmp_path, "05_finetune_generator", "v9", thumbnail="images/grid.png")
    share = {"age": 0.1234, "fine": True}
    finish(tmp_path, "01_make_population", images=4000, share=share, thumbnail="gone.png")
    last = finish(tmp_path, "06_evaluate_samples", thumbnail="images/grid.png")
    (last / "images" / "grid.png").write_bytes(b"no picture")
    first, second, third = read(tmp_path).select(".card")
    assert first.h2.get_text() == "1. make population"
    assert second.h2.get_text() == "5. finetune generator (v9)"
    assert second.a["href"] == "05_finetune_generator-v9/05_finetune_generator.html"
    pairs = zip(first.select("dt"), first.select("dd"), strict=True)
    assert {dt.get_text(): dd.get_text() for dt, dd in pairs} == {
        "images": "4,000", "share age": "0.123", "share fine": "yes",
    }  # fmt: skip
    assert not first.select("img")
    assert not third.select("img")
    assert second.img["src"].startswith("data:image/png;base64,")
    assert int(second.img["width"]) <= 480
    assert second.img["alt"]
    assert stage_title("strange") == "strange"


def test_the_answer_comes_from_comparison_then_reports(tmp_path):
    finish(tmp_path, "07_report_run", "v9", verdict="The look was learned.")
    finish(tmp_path, "08_compare_runs", verdict=["v9 did better.", "Everywhere."])
    finish(tmp_path, "06_evaluate_samples", "v9", verdict="Not for the top.")
    answers = [p.get_text() for p in read(tmp_path).select(".answer p")]
    assert answers == [
        "v9 did better. Everywhere. 08_compare_runs",
        "The look was learned. 07_report_run-v9",
    ]


def test_what_failed_or_runs_is_said(tmp_path):
    notes = ("", '{"status": "killed", "reason": "kernel <died>"}', "broken")
    for number, note in enumerate(notes):
        run = start_run(f"0{number}_x", {"study": "tiny", "seed": 0}, root=tmp_path)
        (run.path / "summary.json").write_text(note)
    page = read(tmp_path)
    states = [b.get_text() for b in page.select(".state b")]
    assert states == ["not finished", "killed", "not finished"]
    assert "kernel <died>" in page.get_text()
    assert "No verdict yet" in page.get_text()


def test_data_is_escaped(tmp_path):
    finish(tmp_path, "08_compare_runs", verdict="<script>alert(1)</script>", **{"<b>": "<i>"})
    page = read(tmp_path)
    assert not page.select("script, b:not(.state b), i")
    assert "<script>alert(1)</script>" in page.get_text()


@pytest.mark.parametrize(
    "texts",
    [("losses-a b", "losses-a_b", "losses-a/b"), ("x" * 90 + "1", "x" * 90 + "2"), ("../a", "a")],
)
def test_two_texts_never_share_a_file(texts):
    names = [show.file_name(text) for text in texts]
    assert len(set(names)) == len(names)
    for name in names:
        assert len(name) <= 80
        assert not set(name) & set("/.")
    assert show.figure_file("scores-age", 3) == "figures/figure-3-scores-age.png"
