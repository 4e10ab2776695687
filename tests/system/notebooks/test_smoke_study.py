"""Every notebook runs, by the runner, with the parameters of `params/smoke`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).parents[3]
REPORT = "outputs/smoke/07_report_run-v9/07_report_run.html"
STAGES = sorted(path.stem for path in (ROOT / "params" / "smoke").glob("*.yaml"))


def ohlora(root: Path, *words: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    env.pop("OHLORA_ROOT", None)
    command = [sys.executable, "-m", "ohlora_lib", *words]
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "notebooks", root / "notebooks")
    shutil.copytree(ROOT / "params" / "smoke", root / "params" / "smoke")
    done = ohlora(root, "run", "params/smoke")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.strip().splitlines()[-1].endswith("outputs/smoke/index.html")
    return root


def summary(root: Path, stage: str) -> dict:
    return json.loads((root / "outputs" / "smoke" / stage / "summary.json").read_text())


@pytest.mark.slow
def test_every_stage_leaves_its_summary_and_page(study: Path) -> None:
    assert len(STAGES) == 11
    for stage in STAGES:
        facts = summary(study, stage)
        assert facts["status"] == "finished", stage
        folder = study / "outputs" / "smoke" / stage
        for artefact in facts["artefacts"]:
            assert (folder / artefact["path"]).stat().st_size == artefact["bytes"]
        pages = list(folder.glob("*.html"))
        assert len(pages) == 1
        assert 'src="http' not in pages[0].read_text(encoding="utf-8")


@pytest.mark.slow
def test_pages_lead_to_pages_and_show_no_warning_and_no_place_of_this_machine(study: Path) -> None:
    pages = sorted((study / "outputs" / "smoke").rglob("*.html"))
    assert len(pages) == 12
    places = {str(place) for place in (study, ROOT, Path.home(), sysconfig.get_path("purelib"))}
    soups = {
        page.resolve(): BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
        for page in pages
    }
    between = 0
    for page, soup in soups.items():
        text = soup.get_text()
        assert "Warning:" not in text, page
        assert not [place for place in [*places, tempfile.gettempdir()] if place in text], page
        for link in soup.select("a[href]"):
            target, _, part = str(link["href"]).partition("#")
            between += bool(target)
            there = soups[(page.parent / target).resolve()] if target else soup
            assert not part or there.find(id=part), link
    assert between > 11 + 11 + 20  # the index's, back to it, and between the stages
    report = soups[(study / REPORT).resolve()]
    links = {a.get_text(): a["href"] for a in report.select("a[href]")}
    page = "../05_finetune_generator-v9/05_finetune_generator.html"
    assert links["5. Fine-tune the generator"] == page


@pytest.mark.slow
def test_a_sweep_takes_what_the_study_has_and_compares_its_points(study: Path) -> None:
    grid = "05_finetune_generator-v9.r1_gamma=1,50"
    done = ohlora(study, "sweep", "params/smoke", "--grid", grid, "--workers", "2")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    changed = [f"{stage}-v9" for stage in ("05_finetune_generator", "06_evaluate_samples")]
    changed += ["07_report_run-v9", "08_compare_runs"]
    for k in (1, 50):
        folders = (study / "outputs" / f"smoke-r1_gamma-{k}").glob("0*")
        assert sorted(folder.name for folder in folders) == changed
    home = study / "outputs" / "smoke-sweep-r1_gamma"
    table = pd.read_csv(home / "08_compare_runs" / "comparison.csv")
    assert set(table["run_b"]) == {"v9 r1_gamma=1", "v9 r1_gamma=50"}
    assert set(table["run_a"]) == {"v8"}
    points = pd.read_csv(home / "points.csv")
    assert points["finished"].tolist() == ["11 of 11"] * 4
    assert points["gender: distance"].between(0, 1).all()
    page = (home / "index.html").read_text(encoding="utf-8")
    assert "../smoke-r1_gamma-50/index.html" in page
