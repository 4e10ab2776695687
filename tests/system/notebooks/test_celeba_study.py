"""A v9 run on a folder laid out as CelebA goes through every notebook, by parameters alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image

from ohlora_lib.population.faces.faces import draw_attributes, render_faces
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


def write_celeba(folder: Path) -> pd.DataFrame:
    """Built-in faces as 178 x 218 files, with CelebA's header and values."""
    (folder / "img_align_celeba").mkdir(parents=True)
    faces = draw_attributes(range(COUNT))
    for k, image in enumerate(render_faces(range(COUNT), image_px=64)):
        tall = Image.new("RGB", (178, 218))
        tall.paste(Image.fromarray(image).resize((178, 178)), (0, 20))
        tall.save(folder / "img_align_celeba" / f"{k + 1:06d}.jpg", quality=95)
    table = pd.DataFrame({
        "Blurry": 1 - 2 * faces["quality"], "Eyeglasses": 2 * faces["glass"] - 1,
        "Male": 1 - 2 * faces["gender"], "Young": 1 - 2 * faces["age"],
    }).astype(int)  # fmt: skip
    lines = [
        f"{k + 1:06d}.jpg {' '.join(map(str, row))}" for k, row in enumerate(table.to_numpy())
    ]
    text = "\n".join([str(COUNT), " ".join(table.columns), *lines])
    (folder / "list_attr_celeba.txt").write_text(text + "\n")
    return faces


@pytest.mark.slow
def test_celeba_goes_through_all_notebooks(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    faces = write_celeba(tmp_path / "celeba")
    (tmp_path / "params" / "celeba").mkdir(parents=True)
    for name in STAGES:
        text = (ROOT / "params" / "smoke" / f"{name}.yaml").read_text().replace("smoke", "celeba")
        values = {**yaml.safe_load(text), **CHANGES.get(name, {})}
        (tmp_path / "params" / "celeba" / f"{name}.yaml").write_text(yaml.safe_dump(values))
    done = ohlora(tmp_path, "run", "params/celeba")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    folder = tmp_path / "outputs" / "celeba"
    labels = pd.read_csv(folder / "01_make_population" / "labels.csv")
    for prop in ("gender", "quality", "age", "glass"):
        assert labels[prop].tolist() == faces[prop].astype(int).tolist()
    for name in STAGES:
        summary = json.loads((folder / name / "summary.json").read_text())
        assert summary["status"] == "finished", name
    kept = json.loads((folder / "04_select_images" / "summary.json").read_text())["results"]
    assert 0 < kept["kept"] <= kept["candidates"] == COUNT
