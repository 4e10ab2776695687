"""The package imports one way, and notebooks tell rather than compute."""

import ast
import itertools
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ohlora_lib"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
CORE = {"torch", "numpy", "pandas", "sklearn", "safetensors", "PIL", "pillow_heif", "scipy"}
CORE_MODULES = (
    *("nets", "faces", "face_canvas", "face_defects", "face_drawing", "face_features", "images"),
    *("labels", "property_ensemble", "selection", "sampling", "finetune", "base", "base_training"),
    *(
        "distances",
        "records",
        "openings",
        "summaries",
        "disk",
        "run_files",
        "csv_files",
        "picture_files",
        "locks",
        "machine",
        "stopping",
        "weights",
        "weight_files",
        "precision",
        "cores",
        "conditions",
    ),
    *("candidates", "fold_training", "image_files", "weight_conversion"),
)


def imports(path, *, top_only=False):
    """Full names of what a module imports; `from a import b` gives a.b."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def packages(path, **options):
    outside = {name.partition(".")[0] for name in imports(path, **options)}
    return outside - set(sys.stdlib_module_names) - {"__future__"}


def ours(path):
    """Modules of the package that a module imports."""
    found = set()
    for name in imports(path):
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        found |= {name} if name else set()
    return found


def under(*parts):
    heads = tuple(f"ohlora_lib.{part}" for part in parts)
    inside = tuple(f"{head}." for head in heads)
    return {n: p for n, p in MODULES.items() if n in heads or n.startswith(inside)}


def reached(name):
    """All modules that a module leads to, itself included."""
    seen, left = set(), {name}
    while left:
        module = left.pop()
        seen.add(module)
        left |= ours(MODULES[module]) - seen
    return seen


def test_the_reader_of_imports_reads():
    assert "ohlora_lib.nets.layers" in ours(MODULES["ohlora_lib.nets.generator"])
    assert packages(MODULES["ohlora_lib.study.model"]) >= {"pydantic", "pandas"}


def test_nets_import_torch_and_nets_only():
    for name, path in under("nets").items():
        assert packages(path) <= {"torch", "ohlora_lib"}, name
        assert all(module.startswith("ohlora_lib.nets") for module in ours(path)), name


def test_losses_and_recipes_stand_on_nets():
    assert ours(MODULES["ohlora_lib.training.losses"]) == set()
    allowed = {"ohlora_lib.nets"}
    assert ours(MODULES["ohlora_lib.finetune.recipe"]) <= allowed


def test_core_imports_few_packages():
    for name, path in under(*CORE_MODULES).items():
        assert packages(path) <= CORE | {"ohlora_lib"}, name
        for module in ours(path) - {"ohlora_lib"}:
            assert module.split(".")[1] in CORE_MODULES, name


@pytest.mark.parametrize("name", ["trends", "training_logs", "figures", "plots", "captions"])
def test_trends_and_plots_never_reach_torch(name):
    modules = reached(f"ohlora_lib.{name}")
    assert "torch" not in set().union(*(packages(MODULES[m]) for m in modules))


@pytest.mark.parametrize(
    ("package", "where"),
    [
        ("papermill", {"kernel", "papermill_engine", "runner"}),
        ("nbclient", {"kernel", "papermill_engine", "runner"}),
        ("nbconvert", {"runner", "report.page", "report.cleaning"}),
        ("nbformat", {"runner", "report.page", "report.cleaning"}),
        ("pydantic", {"params", "params_model"}),
        ("typer", {"cli", "cli_tables", "cli_weights"}),
        ("rich", {"cli_tables", "runner", "status"}),
        ("matplotlib", {"figures", "plots", "show", "widgets", "doctor"}),
        ("IPython", {"show", "widgets"}),
        ("distributed", {"fanout"}),
    ],
)
def test_a_package_is_imported_in_its_place_only(package, where):
    users = {n.removeprefix("ohlora_lib.") for n, p in MODULES.items() if package in packages(p)}
    assert users <= where


def test_every_import_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *itertools.chain(*extras)]
    declared = {re.match(r"[\w-]+", line)[0].lower().replace("-", "_") for line in lines}
    names = {"sklearn": "scikit_learn", "PIL": "pillow", "yaml": "pyyaml", "bs4": "beautifulsoup4"}
    used = set().union(*map(packages, MODULES.values())) - {"ohlora_lib"}
    assert {names.get(name, name).lower() for name in used} <= declared


def test_nobody_but_the_command_and_its_sweeps_import_the_runner():
    users = {name for name, path in MODULES.items() if "ohlora_lib.runner.runner" in ours(path)}
    assert users <= {"ohlora_lib.cli", "ohlora_lib.runner.sweep_task"}
    for module in ("sweep_task", "sweep_report"):
        users = {n for n, path in MODULES.items() if f"ohlora_lib.{module}" in ours(path)}
        assert users <= {"ohlora_lib.runner.sweep"}, module
    users = {name for name, path in MODULES.items() if "ohlora_lib.runner.sweep" in ours(path)}
    assert users <= {"ohlora_lib.cli"}
    users = {name for name, path in MODULES.items() if "ohlora_lib.cli" in ours(path)}
    assert users <= {"ohlora_lib.__main__"}


def test_imports_make_no_circle():
    for name, path in MODULES.items():
        for module in ours(path) - {name}:
            if module == "ohlora_lib":
                continue  # its own head, which imports nothing
            inside = module.startswith(f"{name}.")  # a package gathers what is in it
            assert inside or name not in reached(module), f"{name} and {module}"
    assert ours(MODULES["ohlora_lib"]) == set()


def test_importing_the_package_is_light():
    heavy = "{'torch', 'numpy', 'pandas', 'matplotlib'}"
    code = f"import sys, ohlora_lib; print(*{heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_importing_trends_leaves_torch_out():
    code = "import sys, ohlora_lib.verdict.verdict; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", MODULES)
def test_modules_stay_small(name):
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= 400


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def cells(request):
    return json.loads(request.param.read_text(encoding="utf-8"))["cells"]


def code_of(cells):
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_notebook_has_no_outputs(cells):
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


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


def test_notebook_says_what_it_is_and_finishes(cells):
    assert cells[0]["cell_type"] == "markdown"
    assert "".join(cells[0]["source"]).startswith("# ")
    assert "run.finish(" in code_of(cells)[-1]
    assert all(cell["source"] for cell in cells)  # no empty cell


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_on_any_python3(notebook):
    metadata = json.loads(notebook.read_text(encoding="utf-8"))["metadata"]
    assert metadata["kernelspec"]["name"] == "python3"
