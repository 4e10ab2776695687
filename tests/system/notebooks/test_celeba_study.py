"""A v9 run on a folder laid out as CelebA goes through every notebook, by parameters alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.population.test_sources import PROPS, celeba
from tests.system.notebooks.test_smoke_study import ROOT, ohlora

COUNT = 160
STAGES = (
    *("01_make_population", "02_train_base", "03_train_property_cnn", "04_select_images"),
    *("05_finetune_generator-v9", "06_evaluate_samples-v9", "07_report_run-v9", "08_compare_runs"),
)
CHANGES = {
    "01_make_population": {"source": "celeba", "image_folder": "celeba"},
    "02_train_base": {"population_run": "outputs/celeba/01_make_population"},
    "04_select_images": {"candidates": "population", "keep": {"gender": 0.1, "age": 0.9}},
    "07_report_run-v9": {"earlier_run": ""},
    "08_compare_runs": {
        "finetune_runs": ["outputs/celeba/05_finetune_generator-v9"] * 2,
        "evaluation_runs": ["outputs/celeba/06_evaluate_samples-v9"] * 2,
    },
}


@pytest.mark.slow
def test_celeba_goes_through_all_notebooks(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    _, faces = celeba(tmp_path, count=COUNT)
    (tmp_path / "params" / "celeba").mkdir(parents=True)
    for name in STAGES:
        text = (ROOT / "params" / "smoke" / f"{name}.yaml").read_text().replace("smoke", "celeba")
        values = {**yaml.safe_load(text), **CHANGES.get(name, {})}
        (tmp_path / "params" / "celeba" / f"{name}.yaml").write_text(yaml.safe_dump(values))
    done = ohlora(tmp_path, "run", "params/celeba")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    folder = tmp_path / "outputs" / "celeba"
    labels = pd.read_csv(folder / "01_make_population" / "labels.csv")
    assert labels[PROPS].equals(faces[PROPS].astype(int).reset_index(drop=True))
    found = {name: json.loads((folder / name / "summary.json").read_text()) for name in STAGES}
    assert {summary["status"] for summary in found.values()} == {"finished"}
    kept = found["04_select_images"]["results"]
    assert 0 < kept["kept"] <= kept["candidates"] == COUNT
