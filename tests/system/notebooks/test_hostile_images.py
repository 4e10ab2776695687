"""A folder of broken and hostile pictures through `ohlora run`: each is named, none does harm."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.system.bad_inputs.cases import noise, png_bomb
from tests.system.notebooks.test_smoke_study import ROOT

BAD = {  # name: content and what files.csv says of it
    "bomb.png": (png_bomb(), "pixels"),
    "cut.png": (noise()[:600], "truncated"),
    "empty.jpg": (b"", "its content is of no known format"),
    "page.png": (b"<html>404</html>", "its content is of no known format"),
    "script.png": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nquit\n",
        "its content is of no known format",
    ),
    "drawing.gif": (b"<svg onload='alert(1)'/>", "its content is of no known format"),
    "header.gif": (b"GIF89a", "truncated|broken|known format"),
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a study that imports `faces/`."""
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "01_make_population.ipynb", tmp_path / "notebooks")
    (tmp_path / "params" / "tiny").mkdir(parents=True)
    text = "study: tiny\nsource: folder\nimage_folder: faces\nimage_px: 32\n"
    (tmp_path / "params" / "tiny" / "01_make_population.yaml").write_text(text)
    (tmp_path / "faces").mkdir()
    for name, (content, _) in BAD.items():
        (tmp_path / "faces" / name).write_bytes(content)
    (tmp_path / "faces" / "loop.png").symlink_to("loop.png")
    return tmp_path


def run(project: Path) -> subprocess.CompletedProcess[str]:
    """`ohlora run params/tiny` in a process of its own."""
    command = [sys.executable, "-m", "ohlora_lib", "run", "params/tiny"]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_each_picture_that_is_none_is_named_and_the_others_are_read(project: Path) -> None:
    for mode, name in (("CMYK", "print.jpg"), ("P", "palette.gif"), ("RGBA", "glass.webp")):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(project / "faces" / name)
    done = run(project)
    assert done.returncode == 0, done.stderr
    folder = project / "outputs" / "tiny" / "01_make_population"
    files = pd.read_csv(folder / "files.csv").set_index("file")
    assert sorted(files.index[files["status"] != "unreadable"]) == [
        "glass.webp", "palette.gif", "print.jpg",
    ]  # fmt: skip
    for name, (_, words) in BAD.items():
        assert pd.Series(files.loc[name, "detail"]).str.contains(words).all(), files.loc[name]
    assert "symbolic links" in files.loc["loop.png", "detail"]


@pytest.mark.slow
def test_a_folder_of_nothing_else_ends_in_one_line(project: Path) -> None:
    done = run(project)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "faces: none of its 8 image files can be read; the first is bomb.png" in done.stderr
    folder = project / "outputs" / "tiny" / "01_make_population"
    assert json.loads((folder / "summary.json").read_text())["status"] == "failed"
    assert not (folder / "images").exists() or not list((folder / "images").iterdir())
    assert not list(project.rglob("*.partial*"))
