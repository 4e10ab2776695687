"""A folder of broken and hostile pictures through `ohlora run`: each is named, none does harm."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.system.bad_inputs.cases import noise, png_bomb
from tests.system.notebooks.test_smoke_study import ROOT, ohlora

UNKNOWN = "its content is of no known format"
BAD = {  # name: content and what files.csv says of it
    "bomb.png": (png_bomb(), "pixels"),
    "cut.png": (noise()[:600], "truncated"),
    "empty.jpg": (b"", UNKNOWN),
    "page.png": (b"<html>404</html>", UNKNOWN),
    "script.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nquit\n", UNKNOWN),
    "drawing.gif": (b"<svg onload='alert(1)'/>", UNKNOWN),
    "header.gif": (b"GIF89a", "truncated|broken|known format"),
}


@pytest.mark.slow
def test_each_picture_that_is_none_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    for folder in ("notebooks", "params/tiny", "faces"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "notebooks" / "01_make_population.ipynb", tmp_path / "notebooks")
    text = "study: tiny\nsource: folder\nimage_folder: faces\nimage_px: 32\n"
    (tmp_path / "params" / "tiny" / "01_make_population.yaml").write_text(text)
    for name, (content, _) in BAD.items():
        (tmp_path / "faces" / name).write_bytes(content)
    (tmp_path / "faces" / "loop.png").symlink_to("loop.png")
    done = ohlora(tmp_path, "run", "params/tiny")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "faces: none of its 8 image files can be read; the first is bomb.png" in done.stderr
    folder = tmp_path / "outputs" / "tiny" / "01_make_population"
    assert json.loads((folder / "summary.json").read_text())["status"] == "failed"
    assert not [path for path in folder.rglob("images/*") if path.is_file()]

    for mode, name in (("CMYK", "print.jpg"), ("P", "palette.gif"), ("RGBA", "glass.webp")):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(tmp_path / "faces" / name)
    done = ohlora(tmp_path, "run", "params/tiny")
    assert done.returncode == 0, done.stderr
    files = pd.read_csv(folder / "files.csv").set_index("file")
    read = sorted(files.index[files["status"] != "unreadable"])
    assert read == ["glass.webp", "palette.gif", "print.jpg"]
    for name, (_, words) in BAD.items():
        assert pd.Series(files.loc[name, "detail"]).str.contains(words).all(), files.loc[name]
    assert "symbolic links" in files.loc["loop.png", "detail"]
