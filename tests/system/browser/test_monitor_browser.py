"""The live monitor in a real browser: redrawn in place; an interrupt ends cleanly."""

import json
import shutil
import time

import nbformat
import pytest
import yaml

from tests.system.browser.lab import ROOT, SECONDS, browser_marks, lab_page, study

NOTEBOOK = "05_finetune_generator"

pytestmark = browser_marks


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The smoke study up to its selection, and the notebook with enough epochs to watch."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "params" / "smoke", root / "params" / "smoke")
    study(root, "smoke", "--only", "0[1-4]*")
    text = (root / "params" / "smoke" / f"{NOTEBOOK}-v9.yaml").read_text(encoding="utf-8")
    config = yaml.safe_load(text) | {"epochs": 400, "grid_every": 1, "every_batches": 1}
    path = root / "notebooks" / f"{NOTEBOOK}.ipynb"
    node = nbformat.read(path, as_version=4)
    (cell,) = [c for c in node.cells if "parameters" in c.metadata.get("tags", [])]
    cell.source += "\n" + "\n".join(f"{name} = {value!r}" for name, value in config.items())
    nbformat.write(node, path)
    return root


def test_trends_are_redrawn_in_place_and_an_interrupt_saves(project):
    folder = project / "outputs" / "smoke" / f"{NOTEBOOK}-v9"
    with lab_page(project, NOTEBOOK, height=4000) as (page, run_all):
        run_all()
        page.locator("progress").wait_for(timeout=SECONDS)
        cell = page.locator(".jp-CodeCell", has=page.locator("progress"))
        pictures = cell.locator(".jp-OutputArea-output img")
        pictures.nth(1).wait_for(timeout=SECONDS)  # trends, and the newest grid
        seen = [pictures.first.get_attribute("src")]
        until = time.monotonic() + 90
        while len(seen) < 2 and time.monotonic() < until:  # another picture in its place
            page.wait_for_timeout(200)
            source = pictures.first.get_attribute("src")
            seen += [source] if source not in seen else []
        assert len(seen) == 2
        assert pictures.count() == 2
        assert page.locator("progress").count() == 1
        cell.scroll_into_view_if_needed()
        page.evaluate("void window.jupyterapp.commands.execute('notebook:interrupt-kernel')")
        page.get_by_text("Interrupted; the checkpoint is saved.").wait_for(timeout=SECONDS)
        page.get_by_text("Interrupted: saved; run this notebook again").wait_for(timeout=SECONDS)
    assert (folder / "checkpoints" / "state.pt").is_file()
    assert not (folder / "summary.json").exists()
    assert json.loads((folder / "config.json").read_text())["epochs"] == 400
    rows = (folder / "train_log.csv").read_text().splitlines()
    assert len(rows) > 5
