"""Labelling in a real browser: JupyterLab on loopback, answers by keys, a reload half-way."""

import json

import pandas as pd
import pytest

from ohlora_lib.population import sources
from ohlora_lib.study.parameters import MakePopulation
from ohlora_lib.study.run import start_run
from tests.system.browser.lab import ROOT, SECONDS, browser_marks, lab_page

COUNT = 20

pytestmark = browser_marks


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with a population and the notebook, which is to ask about glasses."""
    root = tmp_path_factory.mktemp("project")
    (root / "params").mkdir()
    (root / "notebooks").mkdir()
    config = {"study": "quickstart", "seed": 0}
    run = start_run("01_make_population", config, root=root)
    sources.make(MakePopulation(labelled_images=COUNT + 5), run.path)
    run.finish()
    text = (ROOT / "notebooks" / "label_images.ipynb").read_text(encoding="utf-8")
    asked = '[\\"gender\\", \\"quality\\", \\"age\\", \\"glass\\"]'
    assert asked in text
    text = text.replace(asked, '[\\"glass\\"]').replace("int = 2000", f"int = {COUNT}")
    (root / "notebooks" / "label_images.ipynb").write_text(text, encoding="utf-8")
    return root


def open_labeller(page, run_all):
    """Opens the notebook, runs it, and gives the labeller with the focus."""
    run_all()
    labeller = page.locator(".ohlora-labeller")
    labeller.wait_for(timeout=SECONDS)
    labeller.locator("img").click()
    return labeller


def press(page, labeller, key):
    """Presses a key and waits until the next question is there."""
    before = labeller.get_attribute("data-place")
    page.keyboard.press(key)
    page.wait_for_function(
        "before => document.querySelector('.ohlora-labeller').dataset.place !== before",
        arg=before,
        timeout=SECONDS,
    )


def test_twenty_images_by_keys_with_a_reload_half_way(project):
    truth = pd.read_csv(project / "outputs/quickstart/01_make_population/labels.csv")["glass"]
    truth = truth.tolist()[:COUNT]
    assert 0 < sum(truth) < COUNT
    folder = project / "outputs" / "quickstart" / "label_images"
    with lab_page(project, "label_images", height=1000) as (page, run_all):
        labeller = open_labeller(page, run_all)
        for k in range(COUNT // 2):
            question = labeller.locator(".ohlora-question").inner_text()
            assert question == "glass: 1 = glasses, 0 = no glasses"
            keys = ("n", "y") if k % 2 else ("ArrowLeft", "ArrowRight")
            press(page, labeller, keys[truth[k]])
            answers = pd.read_csv(folder / "answers.csv")  # on the disk when the next one shows
            assert answers["answer"].tolist() == truth[: k + 1]
        labeller = open_labeller(page, run_all)  # the page anew
        assert labeller.get_attribute("data-place") == str(COUNT // 2)
        press(page, labeller, "b")  # an answer taken back, a wrong one, and that one corrected
        assert labeller.get_attribute("data-place") == str(COUNT // 2 - 1)
        press(page, labeller, ("y", "n")[truth[COUNT // 2 - 1]])
        press(page, labeller, "Backspace")
        press(page, labeller, ("n", "y")[truth[COUNT // 2 - 1]])
        for k in range(COUNT // 2, COUNT):
            press(page, labeller, ("n", "y")[truth[k]])
        assert "All answered" in labeller.locator(".ohlora-question").inner_text()
        assert f"{COUNT} of {COUNT} answered" in labeller.locator(".ohlora-progress").inner_text()
    table = pd.read_csv(folder / "labels.csv")
    assert table["img_no"].tolist() == list(range(COUNT))
    assert table["glass"].tolist() == truth
    assert json.loads((folder / "summary.json").read_text())["status"] == "finished"
