"""The explorer in a real browser: a slider moves, the picture follows, a latent is kept."""

import json

import pytest
import torch

from ohlora_lib.base.base import copy_shipped, load_base
from ohlora_lib.io.weights import save_weights, split_mapping
from ohlora_lib.nets import PropertyCNN
from ohlora_lib.study.run import start_run
from tests.system.browser.lab import ROOT, SECONDS, browser_marks, lab_page

PROPERTIES = ("gender", "quality", "age", "glass")

pytestmark = browser_marks


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with the shipped base, its split twin and untrained CNNs."""
    root = tmp_path_factory.mktemp("project")
    for name in ("params", "notebooks"):
        (root / name).mkdir()
    run = start_run("02_train_base", {"study": "quickstart"}, root=root)
    copy_shipped(run.path)
    base = load_base(run.path).generator
    run.finish()
    run = start_run("03_train_property_cnn", {"study": "quickstart"}, root=root)
    torch.manual_seed(0)
    for prop in PROPERTIES:
        net = PropertyCNN(prop, image_px=64, width=0.25)
        save_weights(net, run.path / "judge" / f"{prop}-fold0.safetensors")
    run.finish()
    run = start_run("05_finetune_generator", {"study": "quickstart", "variant": "v9"}, root=root)
    tuned = split_mapping(base, 64, torch.Generator().manual_seed(0))
    save_weights(tuned, run.path / "generator.safetensors")
    run.finish()
    text = (ROOT / "notebooks" / "explore_latents.ipynb").read_text(encoding="utf-8")
    (root / "notebooks" / "explore_latents.ipynb").write_text(text, encoding="utf-8")
    return root


def test_a_slider_moves_the_picture_and_a_latent_is_kept(project):
    folder = project / "outputs" / "quickstart" / "explore_latents"
    with lab_page(project, "explore_latents", height=1400) as (page, run_all):
        run_all()
        explorer = page.locator(".ohlora-explorer")
        explorer.wait_for(timeout=SECONDS)
        pictures = explorer.locator("img")
        assert pictures.count() == 2  # before and after
        assert explorer.locator("table").inner_text().split()[:4] == list(PROPERTIES)

        def moved(act):
            """Does something, and waits until the picture is another one."""
            before = pictures.first.get_attribute("src")
            act()
            page.wait_for_function(
                "old => document.querySelector('.ohlora-explorer img').src !== old",
                arg=before,
                timeout=SECONDS,
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
        explorer.get_by_text("Saved latent-001.json").wait_for(timeout=SECONDS)
        explorer.scroll_into_view_if_needed()
        facts = json.loads((folder / "latent-001.json").read_text())
        assert facts["seed"] == 1
        assert 0 < facts["way"] < 1
        moved(lambda: explorer.get_by_role("button", name="another seed").click())
        moved(lambda: explorer.get_by_role("button", name="load").click())
        explorer.get_by_text("Loaded latent-001.json").wait_for(timeout=SECONDS)
    assert (folder / "latent-001.png").is_file()
    assert json.loads((folder / "summary.json").read_text())["status"] == "finished"
