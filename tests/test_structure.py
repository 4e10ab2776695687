"""The package stays small, and notebooks tell rather than compute."""

import ast
import itertools
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "ohlora_lib").rglob("*.py"))
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))


def packages(path):
    """Packages that a module imports from outside the standard library."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"__future__"}


def test_every_import_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *itertools.chain(*extras)]
    declared = {re.match(r"[\w-]+", line)[0].lower().replace("-", "_") for line in lines}
    names = {"sklearn": "scikit_learn", "PIL": "pillow", "yaml": "pyyaml", "bs4": "beautifulsoup4"}
    used = set().union(*map(packages, MODULES)) - {"ohlora_lib"}
    assert {names.get(name, name).lower() for name in used} <= declared


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_stay_small(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


@pytest.fixture
def cells(notebook):
    return notebook["cells"]


def code_of(cells):
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_notebook_defines_nothing(cells):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    for code in code_of(cells):
        assert not [node for node in ast.walk(ast.parse(code)) if isinstance(node, kinds)]


def test_notebook_is_short(cells):
    assert len(cells) <= 25
    for cell in cells:
        code = "".join(cell["source"])
        if cell["cell_type"] != "code" or "parameters" in cell["metadata"].get("tags", []):
            continue
        body = ast.parse(code).body
        if not all(isinstance(node, ast.Import | ast.ImportFrom) for node in body):
            assert len(code.splitlines()) <= 12


def test_notebook_says_what_it_is_runs_on_any_python3_and_finishes(notebook, cells):
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert cells[0]["cell_type"] == "markdown"
    assert "".join(cells[0]["source"]).startswith("# ")
    assert "run.finish(" in code_of(cells)[-1]
    assert all(cell["source"] for cell in cells)  # no empty cell
    prose = ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
    bare = [text for text in prose if all(line[:1] in ("", "#") for line in text.splitlines())]
    assert bare == []  # a heading says what its section is about
