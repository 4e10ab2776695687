"""The page of a study answers, and has a card for each run; names of files tell texts apart."""

import base64
import io

import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from ohlora_lib.io.disk import file_name
from ohlora_lib.io.images import grid_image, save_png
from ohlora_lib.report import show
from ohlora_lib.report.index import stage_title, write_index
from ohlora_lib.study.run_folder import start_run


def finish(root, notebook, variant="", config=None, **results):
    config = {"study": "tiny", "variant": variant, "seed": 0, **(config or {})}
    run = start_run(notebook, config, root=root)
    (run.path / f"{notebook}.html").write_text("page")
    save_png(run.path / "images" / "grid.png", np.full((900, 900, 3), 200, np.uint8))
    run.finish(**results)
    return run.path


def read(root):
    return BeautifulSoup(write_index(root / "outputs/tiny").read_text(), "html.parser")


def test_cards_are_in_order_and_link_to_their_pages(tmp_path):
    finish(tmp_path, "05_finetune_generator", "v9", thumbnail="images/grid.png")
    shares = {"gender": 0.5017, "hat": 0.25, "not": "a number"}
    finish(
        tmp_path, "01_make_population", images=4000, shares=shares, thumbnail="gone.png", rows=1
    )
    last = finish(tmp_path, "06_evaluate_samples", thumbnail="images/grid.png")
    (last / "images" / "grid.png").write_bytes(b"no picture")
    first, second, third = read(tmp_path).select(".card")
    assert first.h3.get_text() == "1. make population"
    assert second.h3.get_text() == "5. finetune generator (v9)"
    assert second.a["href"] == "05_finetune_generator-v9/05_finetune_generator.html"
    pairs = zip(first.select("dt"), first.select("dd"), strict=True)
    assert {dt.get_text(): dd.get_text() for dt, dd in pairs} == {
        "images": "4,000", "labelled female": "50%", "labelled hat": "25%",
    }  # fmt: skip
    assert not first.select("img")
    assert not third.select("img")
    assert second.img["src"].startswith("data:image/webp;base64,")
    assert int(second.img["width"]) <= 480
    assert second.img["alt"]
    assert stage_title("strange") == "strange"


def test_the_answer_comes_from_comparison_otherwise_from_reports(tmp_path):
    finish(tmp_path, "07_report_run", "v8", verdict="Nothing was learned.")
    finish(tmp_path, "07_report_run", "v9", verdict="The look was learned.")
    finish(tmp_path, "06_evaluate_samples", "v9", verdict="Not for the top.", findings=["x"])
    assert not read(tmp_path).select(".answer.warned")  # the answers have no findings
    answers = [p.get_text() for p in read(tmp_path).select(".answer p")]
    assert answers == [
        "Nothing was learned. 07_report_run-v8",
        "The look was learned. 07_report_run-v9",
    ]
    finish(tmp_path, "08_compare_runs", verdict=["v9 did better.", "Everywhere."], findings=["x"])
    page = read(tmp_path)
    answers = [p.get_text() for p in page.select(".answer.warned p")]
    assert answers == ["v9 did better. Everywhere. 08_compare_runs"]
    assert page.get_text().count("v9 did better.") == 1  # its card does not repeat it
    finish(tmp_path, "08_compare_runs", verdict="<script>alert(1)</script>", **{"<b>": "<i>"})
    page = read(tmp_path)
    assert not page.select("script, b:not(.state b), i")
    assert "<script>alert(1)</script>" in page.get_text()


def test_cards_state_a_verdict_though_another_states_the_same_and_fold_its_warning(tmp_path):
    told = {"verdict": "Mind: few. Closer.", "warning": "Mind: few.", "findings": ["few images"]}
    for variant in ("v8", "v9"):
        finish(tmp_path, "06_evaluate_samples", variant, **told)
    for card in read(tmp_path).select(".card"):
        assert [p.get_text() for p in card.select("p.said")] == ["Closer."]
        assert card.details.get_text() == "Findings: few imagesMind: few."


def test_the_page_begins_with_the_look_then_pictures_then_distances(tmp_path):
    concept = {"gender": 1.0, "age": 0.0, "hat": 0.5}
    for variant, ends in {"v8": (0.4, 0.2, 0.3), "v9": (0.1, 0.05, 0.25)}.items():
        distances = {
            prop: {"base": 0.5, "fine-tuned": end, "ratio": 2 * end}
            for prop, end in zip(concept, ends, strict=True)
        }
        config = {"concept": concept, "samples": 400}
        folder = finish(tmp_path, "06_evaluate_samples", variant, config, distances=distances)
        shade = 0 if variant == "v8" else 120
        grid = grid_image(np.full((8, 16, 16, 3), shade, np.uint8), 4)
        for name in ("base", "after"):
            save_png(folder / "images" / f"{name}.png", grid)
    page = read(tmp_path)
    assert page.select_one(".look").get_text() == (
        "A StyleGAN is fine-tuned toward one look: female, young, hat 0.5. The distance of the "
        "mean scores from that look (0 to 1, mean of all properties) was 0.500 before and 0.133 "
        "after v9, the run that ended closest."
    )
    before, after = page.select(".pair img")
    assert (before["width"], before["height"]) == ("34", "34")  # half of four columns
    with Image.open(io.BytesIO(base64.b64decode(after["src"].partition(",")[2]))) as picture:
        assert abs(picture.convert("RGB").getpixel((8, 8))[0] - 120) < 10  # of the better run
    gender, age, _ = page.select(".bars table")
    assert gender.caption.get_text() == "gender, target: female"
    rows = [[cell.get_text() for cell in row.select("th, td")] for row in age.select("tr")]
    assert rows == [["base", "", "0.500"], ["v8", "", "0.200"], ["v9", "", "0.050"]]
    widths = [span["style"] for span in age.select("span")]
    assert widths == ["width: 100.0%", "width: 40.0%", "width: 10.0%"]


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
    assert [code.get_text() for code in page.select(".said code")] == [
        "ohlora run params/tiny --only 01_x"
    ]
    params = tmp_path / "params" / "tiny"
    params.mkdir(parents=True)
    for name in ("00_x", "01_x", "02_x", "03_y"):
        (params / f"{name}.yaml").touch()
    assert "0 of 4 stages finished" in read(tmp_path).get_text()


@pytest.mark.parametrize(
    "texts",
    [("losses-a b", "losses-a_b", "losses-a/b"), ("x" * 90 + "1", "x" * 90 + "2"), ("../a", "a")],
)
def test_two_texts_never_share_a_file(texts):
    names = [file_name(text) for text in texts]
    assert len(set(names)) == len(names)
    for name in names:
        assert len(name) <= 80
        assert not set(name) & set("/.")
    assert show.figure_file("scores-age", 3) == "figures/figure-3-scores-age.png"
