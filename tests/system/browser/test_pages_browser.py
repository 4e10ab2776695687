"""Pages in a real browser: offline, no script from the data, accessible, readable on a phone."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from ohlora_lib.io.images import grid_image, save_png
from ohlora_lib.study.run_folder import start_run
from tests.system.browser.lab import CHROMIUM, ROOT, browser_marks, study

MOST_BYTES = 6 * 2**20
HOSTILE = (  # property names, used in the log, the concept, the figures and their files
    "<script>window.hit=1</script>",
    "\"><img src=x onerror='window.hit=1'>",
    "\u202eage \U0001f600 " + "long " * 20,
)

pytestmark = [
    *browser_marks,
    pytest.mark.skipif(
        not importlib.util.find_spec("axe_playwright_python"), reason="no axe-core here"
    ),
]


def make_run(root, variant, log, concept):
    """Makes a finished fine-tuning run, with the files that a report reads."""
    config = {"study": "page", "variant": variant, "concept": concept, "epochs": 9}
    run = start_run("05_finetune_generator", config, root=root)
    log.to_csv(run.path / "train_log.csv")
    rng = np.random.default_rng(0)
    for epoch in range(4):
        images = rng.integers(0, 256, (24, 64, 64, 3), dtype=np.uint8)
        path = run.path / "images" / f"fixed-epoch{epoch:04d}-idx00000.png"
        save_png(path, grid_image(images))
    run.finish(selected=100)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Pages of a report and a comparison of runs whose properties have hostile names."""
    root = tmp_path_factory.mktemp("project")
    log = pd.read_csv(ROOT / "tests" / "data" / "healthy-1.csv", index_col=0)
    names = {"gender": "gender", **dict(zip(("quality", "age", "glass"), HOSTILE, strict=True))}
    for old, new in names.items():
        log.columns = [name.replace(f"_{old}_score", f"_{new}_score") for name in log.columns]
    targets = dict(zip(names.values(), (1.0, 1.0, 0.0, 0.0), strict=True))
    (root / "params" / "page").mkdir(parents=True)
    for variant in ("v8", "v9"):
        make_run(root, variant, log, targets)
    runs = [f"outputs/page/05_finetune_generator-{variant}" for variant in ("v8", "v9")]
    report = {"study": "page", "finetune_run": runs[1], "earlier_run": runs[0]}
    compare = {"study": "page", "finetune_runs": runs, "evaluation_runs": []}
    compare |= {"names": [HOSTILE[0], "v9"]}
    for name, config in (("07_report_run", report), ("08_compare_runs", compare)):
        text = yaml.safe_dump(config | {"concept": targets}, allow_unicode=True)
        (root / "params" / "page" / f"{name}.yaml").write_text(text, encoding="utf-8")
    return study(root, "page")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


PAGES = ("index.html", "07_report_run/07_report_run.html", "08_compare_runs/08_compare_runs.html")


@pytest.mark.parametrize("name", PAGES)
def test_page_is_complete_offline_and_runs_no_script_from_the_data(outputs, browser, name):
    path = outputs / name
    assert path.stat().st_size <= MOST_BYTES
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_offline(True)
    page, asked, complaints = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(path.as_uri())
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert complaints == []  # the content security policy blocked nothing
    assert page.evaluate("window.hit") is None
    if name != "index.html":
        shown = page.locator("body").inner_text()
        assert all(" ".join(text.split()[:2]).lstrip("\u202e") in shown for text in HOSTILE)
        assert "\u202e" not in shown  # it would reverse the text after it
    context.close()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_accessible_and_fits_a_phone(outputs, browser, name, scheme):
    import axe_playwright_python

    axe = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
    context = browser.new_context(bypass_csp=True, color_scheme=scheme)
    page = context.new_page()
    page.goto((outputs / name).as_uri())
    page.evaluate(axe)
    page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
    found = page.evaluate("axe.run()")["violations"]
    assert [rule["id"] for rule in found if rule["impact"] in {"serious", "critical"}] == []
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    context.close()


def test_one_switch_opens_and_closes_all_code(outputs, browser):
    page = browser.new_page()
    page.goto((outputs / PAGES[1]).as_uri())
    folds = page.locator("details.source")
    count = folds.count()
    assert count > 1
    for words, opened in (("Show all code", count), ("Hide all code", 0)):
        page.get_by_role("button", name=words).click()
        assert page.locator("details.source[open]").count() == opened
    folds.first.locator("summary").click()
    page.get_by_role("button", name="Show all code").click()
    assert page.locator("details.source[open]").count() == count
    page.close()


def test_slider_shows_one_frame_at_a_time(outputs, browser):
    page = browser.new_page()
    page.goto((outputs / PAGES[1]).as_uri())
    frames = page.locator(".frames figure")
    assert frames.count() == 4
    seen = []
    slider = page.get_by_role("slider")
    slider.focus()
    for _ in range(4):
        visible = [k for k in range(4) if frames.nth(k).is_visible()]
        seen += visible
        assert f"epoch {visible[0]}" in slider.get_attribute("aria-valuetext")
        page.keyboard.press("ArrowLeft")
    assert seen == [3, 2, 1, 0]
    page.close()
