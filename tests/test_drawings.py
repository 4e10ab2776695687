"""The drawings of docs/ are what the script draws today, and every notebook shows its own."""

import importlib.util
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOKS = sorted((DOCS.parent / "notebooks").glob("0*.ipynb"))


@pytest.fixture(scope="module")
def drawings():
    spec = importlib.util.spec_from_file_location("drawings", DOCS / "drawings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.drawings()


def test_drawings_are_current(drawings):
    for name, drawn in drawings.items():
        assert (DOCS / name).read_text(encoding="utf-8") == drawn, "run python docs/drawings.py"


def test_letters_can_be_read_on_a_telephone(drawings):
    for drawn in drawings.values():
        width = float(ElementTree.fromstring(drawn).get("width"))
        (size,) = re.findall(r"font: (\d+)px", drawn)
        assert float(size) * 360 / width >= 12


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_begins_with_its_place_in_the_study(path, drawings):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    (picture,) = re.findall(r"!\[(.+)\]\(\.\./docs/(.+)\)", "".join(cells[0]["source"]))
    assert picture[1] == f"study-{int(path.name[:2])}.svg"
    assert picture[1] in drawings
    assert f"stage {int(path.name[:2])}" in picture[0]
