"""Interactive notebooks in JupyterLab and a real browser: live figure, labelling, explorer."""

import json
import shutil
import time

import pandas as pd
import pytest
import yaml

from tests.system.browser.lab import ROOT, WAIT_MS, browser_marks, lab_page, study

TUNE = "05_finetune_generator"
COUNT = 20  # images to label
PANEL = "window.jupyterapp.shell.currentWidget"

pytestmark = browser_marks


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The smoke study, run up to its fine-tuning with recipe v9."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "params" / "smoke", root / "params" / "smoke")
    study(root, "smoke", "--only", "0[1-4]*,05*v9")
    return root


def status(folder):
    return json.loads((folder / "summary.json").read_text())["status"]


def test_trends_are_redrawn_in_place_and_an_interrupt_saves(project):
    """Trains for enough epochs to see the figure change."""
    folder = project / "outputs" / "smoke" / f"{TUNE}-watched"
    given = yaml.safe_load((project / "params" / "smoke" / f"{TUNE}-v9.yaml").read_text())
    given |= {"variant": "watched", "epochs": 2000, "grid_every": 1, "every_batches": 1}
    with lab_page(project, TUNE, height=4000, **given) as (page, run_all):
        run_all()
        line = page.locator(".jp-OutputArea-output pre", has_text="Fine-tuning ")
        line.wait_for(timeout=WAIT_MS)
        cell = page.locator(".jp-CodeCell", has=line)
        pictures = cell.locator(".jp-OutputArea-output img")
        pictures.nth(1).wait_for(timeout=WAIT_MS)  # trends and the latest grid
        seen = [pictures.first.get_attribute("src")]
        until = time.monotonic() + 300  # a redraw may take 2 % of the training so far
        while len(seen) < 2 and time.monotonic() < until:  # until the figure is replaced
            page.wait_for_timeout(200)
            source = pictures.first.get_attribute("src")
            seen += [source] if source not in seen else []
        assert len(seen) == 2
        assert pictures.count() == 2
        assert line.count() == 1
        cell.scroll_into_view_if_needed()
        page.evaluate("void window.jupyterapp.commands.execute('notebook:interrupt-kernel')")
        page.get_by_text("Interrupted; the checkpoint is saved.").wait_for(timeout=WAIT_MS)
        page.get_by_text("Interrupted: saved; run this notebook again").wait_for(timeout=WAIT_MS)
    assert (folder / "checkpoints" / "state.pt").is_file()
    assert not (folder / "summary.json").exists()
    assert json.loads((folder / "config.json").read_text())["epochs"] == 2000
    rows = (folder / "train_log.csv").read_text().splitlines()
    assert len(rows) > 5


def open_labeller(page, run_all):
    """Opens and runs the notebook; returns the labeller, with the focus set."""
    run_all()
    labeller = page.locator(".ohlora-labeller")
    labeller.wait_for(timeout=2 * WAIT_MS)
    labeller.locator("img").click()
    return labeller


def press(page, labeller, key):
    """Presses a key and waits for the next question."""
    act(page, labeller, lambda: page.keyboard.press(key))


def act(page, labeller, how):
    """Does something and waits for the next question."""
    before = labeller.get_attribute("data-place")
    how()
    page.wait_for_function(
        "before => document.querySelector('.ohlora-labeller').dataset.place !== before",
        arg=before,
        timeout=WAIT_MS,
    )


def test_twenty_images_by_keys_with_a_reload_half_way(project):
    truth = pd.read_csv(project / "outputs/smoke/01_make_population/labels.csv")["glass"]
    truth = truth.tolist()[:COUNT]
    assert 0 < sum(truth) < COUNT
    folder = project / "outputs" / "smoke" / "label_images"
    given = {"study": "smoke", "population_run": "outputs/smoke/01_make_population"}
    given |= {"count": COUNT, "properties": ["glass"], "order": "in order"}
    with lab_page(project, "label_images", height=1000, **given) as (page, run_all):
        labeller = open_labeller(page, run_all)
        for k in range(COUNT // 2):
            question = labeller.locator(".ohlora-question").inner_text()
            assert question == "glass: 1 = glasses, 0 = no glasses"
            keys = ("n", "y") if k % 2 else ("ArrowLeft", "ArrowRight")
            press(page, labeller, keys[truth[k]])
            answers = pd.read_csv(folder / "answers.csv")  # saved before the next image shows
            assert answers["answer"].tolist() == truth[: k + 1]
        labeller = open_labeller(page, run_all)  # reloads the page
        assert labeller.get_attribute("data-place") == str(COUNT // 2)
        press(page, labeller, "b")  # goes back, answers wrongly, then corrects it
        assert labeller.get_attribute("data-place") == str(COUNT // 2 - 1)
        press(page, labeller, ("y", "n")[truth[COUNT // 2 - 1]])
        press(page, labeller, "Backspace")
        press(page, labeller, ("n", "y")[truth[COUNT // 2 - 1]])
        for k in range(COUNT // 2, COUNT):
            press(page, labeller, ("n", "y")[truth[k]])
        assert "All questions answered" in labeller.locator(".ohlora-question").inner_text()
        assert f"{COUNT} of {COUNT} answered" in labeller.locator(".ohlora-progress").inner_text()
    table = pd.read_csv(folder / "labels.csv")
    assert table["img_no"].tolist() == list(range(COUNT))
    assert table["glass"].tolist() == truth
    assert status(folder) == "finished"


def test_pages_of_guesses_with_an_undo_a_reload_and_a_new_kernel(project):
    """20 images by key, then three pages with checks between them."""
    truth = pd.read_csv(project / "outputs/smoke/01_make_population/labels.csv")["glass"]
    folder = project / "outputs" / "smoke" / "label_images-pages"
    given = {"study": "smoke", "population_run": "outputs/smoke/01_make_population"}
    given |= {"variant": "pages", "properties": ["glass"], "count": len(truth), "first": 60}
    given |= {"order": "chosen", "page_images": 24, "per_round": 24}
    with lab_page(project, "label_images", height=1200, **given) as (page, run_all):
        labeller = page.locator(".ohlora-labeller")

        def right():
            """The right answers to what is shown, as planned."""
            plan = pd.read_csv(folder / "questions.csv")
            plan = plan[plan["page"] == int(labeller.get_attribute("data-place"))]
            number = plan["file"].str.removeprefix("face ").astype(int)
            return truth[number].astype(str).tolist()

        def by_key(until):
            """Answers by key until something else is shown; returns the number of answers."""
            for count in range(COUNT + 1):
                labeller.and_(page.locator(":not([data-view=wait])")).wait_for(timeout=WAIT_MS)
                if labeller.get_attribute("data-view") == until:
                    return count
                press(page, labeller, *right())
            raise AssertionError(f"no {until} after {COUNT} answers")

        def correct():
            """Clicks the wrong guesses of a page, as a person would; returns their number."""
            tiles = labeller.locator(".ohlora-tile")
            shown = tiles.evaluate_all("tiles => tiles.map(tile => tile.dataset.answer)")
            wrong = [k for k, answer in enumerate(right()) if answer != shown[k]]
            for k in wrong:
                tiles.nth(k).click()
            shown = tiles.evaluate_all("tiles => tiles.map(tile => tile.dataset.answer)")
            assert shown == right()
            return len(wrong)

        def saved():
            return pd.read_csv(folder / "answers.csv")

        open_labeller(page, run_all)
        assert by_key("grid") == COUNT
        clicks = correct()
        press(page, labeller, "Enter")
        assert len(saved()) == COUNT + 20  # 40 images on two pages
        second = right()
        labeller.locator(".ohlora-tile").first.click()  # not confirmed, so lost on purpose
        run_all()  # reloads the page
        labeller.wait_for(timeout=2 * WAIT_MS)
        assert right() == second
        labeller.locator(".ohlora-tile").first.focus()
        page.keyboard.press("ArrowRight")  # walks, turns, turns back
        page.keyboard.press("Space")
        page.keyboard.press("Space")
        clicks += correct()
        page.screenshot(path=folder / "page.png")
        press(page, labeller, "Enter")
        assert by_key("grid") == 2  # a twentieth of 40 answers, again
        page.evaluate(f"{PANEL}.sessionContext.session.kernel.restart()")
        run_all()
        labeller.wait_for(timeout=2 * WAIT_MS)
        correct()
        act(page, labeller, labeller.locator(".ohlora-confirm").click)
        assert by_key("grid") == 1
        press(page, labeller, "b")  # undoes the check, and then the page
        press(page, labeller, "b")
        assert correct() == 0  # it shows what was confirmed
        labeller.locator(".ohlora-tile").first.click()  # confirms a mistake, and undoes that too
        press(page, labeller, "Enter")
        press(page, labeller, "b")
        press(page, labeller, "b")
        assert correct() == 1
        press(page, labeller, "Enter")
        text = labeller.locator(".ohlora-progress").inner_text()
        assert "Of 3 checked again, 0 differed." in text
        cell = page.locator(".jp-CodeCell", has_text="label_curve(features_of")
        assert not cell.get_by_text("after 84 answers").count()
        drawn = cell.locator("img").get_attribute("src")
        cell.locator(".cm-content").click()
        page.keyboard.press("Control+Enter")
        cell.get_by_text("after 84 answers").wait_for(timeout=WAIT_MS)
        assert cell.locator("img").get_attribute("src") not in (None, drawn)
        cell.screenshot(path=folder / "curve.png")
    answers = saved()
    assert clicks
    labels = answers[answers["how"] != "check"]
    assert not labels["file"].duplicated().any()
    assert (labels["answer"].to_numpy() == truth[labels["img_no"]].to_numpy()).all()
    assert labels["how"].value_counts().to_dict() == {"key": COUNT, "grid": 40 + 24}
    assert labels["round"].value_counts().to_dict() == {0: 60, 1: 24}


def test_a_slider_moves_the_picture_and_a_latent_is_kept(project):
    folder = project / "outputs" / "smoke" / "explore_latents"
    runs = {"base_run": "02_train_base", "cnn_run": "03_train_property_cnn"}
    runs |= {"finetune_run": f"{TUNE}-v9"}
    given = {name: f"outputs/smoke/{run}" for name, run in runs.items()} | {"study": "smoke"}
    with lab_page(project, "explore_latents", height=1400, **given) as (page, run_all):
        run_all()
        explorer = page.locator(".ohlora-explorer")
        explorer.wait_for(timeout=WAIT_MS)
        pictures = explorer.locator("img")
        assert pictures.count() == 2  # before and after
        scored = explorer.locator("table").inner_text().split()[:4]
        assert scored == ["gender", "quality", "age", "glass"]

        def moved(act):
            """Runs `act` and waits until the picture has changed."""
            before = pictures.first.get_attribute("src")
            act()
            page.wait_for_function(
                "old => document.querySelector('.ohlora-explorer img').src !== old",
                arg=before,
                timeout=WAIT_MS,
            )

        moved(lambda: explorer.get_by_role("button", name="another seed").click())
        way = explorer.locator(".noUi-handle").first  # toward the second seed

        def drag():
            way.hover()
            page.mouse.down()
            x = way.bounding_box()["x"]
            page.mouse.move(x + 60, way.bounding_box()["y"] + 5, steps=4)
            page.mouse.up()

        moved(drag)
        explorer.get_by_role("button", name="save", exact=True).click()
        explorer.get_by_text("Saved latent-001.json").wait_for(timeout=WAIT_MS)
        explorer.scroll_into_view_if_needed()
        facts = json.loads((folder / "latent-001.json").read_text())
        assert facts["seed"] == 1
        assert 0 < facts["way"] < 1
        moved(lambda: explorer.get_by_role("button", name="another seed").click())
        moved(lambda: explorer.get_by_role("button", name="load").click())
        explorer.get_by_text("Loaded latent-001.json").wait_for(timeout=WAIT_MS)
    assert (folder / "latent-001.png").is_file()
    assert status(folder) == "finished"
