"""The runner runs every notebook: `params/smoke`, a sweep, and a StyleGAN2 on CelebA's layout."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from bs4 import BeautifulSoup

from ohlora_lib.io.weights import read_tensors
from ohlora_lib.study.records import changed_file, read_summary
from tests.population.test_sources import PROPS, celeba

ROOT = Path(__file__).parents[3]
STAGES = sorted(path.stem for path in (ROOT / "params" / "smoke").glob("*.yaml"))


def ohlora(root, *words):
    """Runs the command, which must succeed; returns its output."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    env.pop("OHLORA_ROOT", None)
    command = [sys.executable, "-m", "ohlora_lib", *words]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "notebooks", root / "notebooks")
    shutil.copytree(ROOT / "params" / "smoke", root / "params" / "smoke")
    said = ohlora(root, "run", "params/smoke")
    assert said.strip().splitlines()[-1].endswith("outputs/smoke/index.html")
    return root


@pytest.mark.slow
def test_every_stage_writes_its_summary_and_page(study):
    assert len(STAGES) == 11
    for stage in STAGES:
        folder = study / "outputs" / "smoke" / stage
        assert changed_file(folder, read_summary(folder)) == ""
        assert len(list(folder.glob("*.html"))) == 1


@pytest.mark.slow
def test_pages_on_one_run_begin_with_the_same_warning(study):
    stages = ("05_finetune_generator", "06_evaluate_samples", "07_report_run")
    found = [read_summary(study / f"outputs/smoke/{stage}-v9")["results"] for stage in stages]
    assert len({results["warning"] for results in found}) == 1
    assert all(results["verdict"].startswith(found[0]["warning"]) for results in found)


@pytest.mark.slow
def test_notebooks_print_progress_and_no_warnings(study):
    seen = 0
    for path in (study / "outputs" / "smoke").glob("0*/*.ipynb"):
        for cell in json.loads(path.read_text())["cells"]:
            for output in cell.get("outputs", []):
                if output.get("name") == "stderr":
                    lines = "".join(output["text"]).strip().splitlines()
                    assert all(re.search(r" \d+%", line) for line in lines), (path, lines)
                    seen += 1
    assert seen > 5


@pytest.mark.slow
def test_pages_link_to_pages_and_show_no_warning_and_no_path_of_this_machine(study):
    pages = sorted((study / "outputs" / "smoke").rglob("*.html"))
    assert len(pages) == 12
    places = {str(place) for place in (study, ROOT, Path.home(), sysconfig.get_path("purelib"))}
    soups = {page.resolve(): BeautifulSoup(page.read_bytes(), "html.parser") for page in pages}
    between = 0
    for page, soup in soups.items():
        text = soup.get_text()
        assert "Warning:" not in text, page
        assert not soup.select("[src^=http]")
        assert not [place for place in [*places, tempfile.gettempdir()] if place in text], page
        for link in soup.select("a[href]"):
            target, _, part = str(link["href"]).partition("#")
            if target.startswith("https://"):  # a paper
                continue
            path = (page.parent / target).resolve() if target else page
            between += bool(target) and path in soups
            assert soups[path].find(id=part) if part else path.is_file(), link
    assert between > 11 + 11 + 20  # from the index, back to it, between stages


@pytest.mark.slow
def test_a_sweep_reuses_the_studys_stages_and_compares_its_points(study, tmp_path):
    root = shutil.copytree(study, tmp_path / "project")
    for path in (root / "params" / "smoke").glob("0[78]*"):
        path.unlink()  # pages of a point would take as long as the sweep
    grid = "05_finetune_generator-v9.r1_gamma=1,50"
    ohlora(root, "sweep", "params/smoke", "--grid", grid, "--workers", "2")
    for k in (1, 50):
        folders = (root / "outputs" / f"smoke-r1_gamma-{k}").glob("0*")
        changed = ["05_finetune_generator-v9", "06_evaluate_samples-v9"]
        assert sorted(folder.name for folder in folders) == changed
    home = root / "outputs" / "smoke-sweep-r1_gamma"
    table = pd.read_csv(home / "08_compare_runs" / "comparison.csv")
    assert set(table["run_b"]) == {"v9 r1_gamma=1", "v9 r1_gamma=50"}
    assert set(table["run_a"]) == {"v8"}
    points = pd.read_csv(home / "points.csv")
    assert points["finished"].tolist() == ["8 of 8"] * 4
    assert points["gender: distance"].between(0, 1).all()


V9 = (
    *("01_make_population", "02_train_base", "03_train_property_cnn", "04_select_images"),
    *("05_finetune_generator-v9", "06_evaluate_samples-v9", "07_report_run-v9", "08_compare_runs"),
)
CHANGES = {
    "01_make_population": {"source": "celeba", "image_folder": "celeba"},
    "02_train_base": {
        "population_run": "outputs/celeba/01_make_population",
        "architecture": "stylegan2",
        **dict.fromkeys(("grow_kimg", "fade_kimg")),  # it does not grow
    },
    "04_select_images": {"candidates": "population", "keep": {"gender": 0.1, "age": 0.9}},
    "07_report_run-v9": {"earlier_run": ""},
    "08_compare_runs": {
        "finetune_runs": ["outputs/celeba/05_finetune_generator-v9"] * 2,
        "evaluation_runs": ["outputs/celeba/06_evaluate_samples-v9"] * 2,
    },
}


@pytest.mark.slow
def test_a_stylegan2_and_a_folder_laid_out_as_celeba_go_through_all_notebooks(tmp_path):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    _, faces = celeba(tmp_path, count=160)
    (tmp_path / "params" / "celeba").mkdir(parents=True)
    for name in V9:
        text = (ROOT / "params" / "smoke" / f"{name}.yaml").read_text().replace("smoke", "celeba")
        values = {**yaml.safe_load(text), **CHANGES.get(name, {})}
        values = {key: value for key, value in values.items() if value is not None}
        (tmp_path / "params" / "celeba" / f"{name}.yaml").write_text(yaml.safe_dump(values))
    ohlora(tmp_path, "run", "params/celeba")
    folder = tmp_path / "outputs" / "celeba"
    labels = pd.read_csv(folder / "01_make_population" / "labels.csv")
    assert labels[PROPS].equals(faces[PROPS].astype(int).reset_index(drop=True))
    found = {name: read_summary(folder / name) for name in V9}  # raises if one has not finished
    kept = found["04_select_images"]["results"]
    assert 0 < kept["kept"] <= kept["candidates"] == 160
    base = read_tensors(folder / "02_train_base" / "generator.safetensors")[0]
    path = folder / "05_finetune_generator-v9" / "generator.safetensors"
    tensors, facts = read_tensors(path)
    assert facts["architecture"] == "stylegan2"
    assert "mapping.fc_new0.weight" in tensors
    same = {name for name in base if torch.equal(base[name], tensors[name])}
    constant = ("resample_filter", "noise_const")
    assert same == {n for n in base if ".b32." in n or n.endswith(constant)}
