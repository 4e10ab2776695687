"""Parameters: every shipped file loads, cell and model agree, and every mistake is one line."""

import ast
import json
import re
from pathlib import Path

import pytest
from papermill import inspect_notebook
from pydantic_core import PydanticUndefined

from ohlora_lib.study import parameters
from ohlora_lib.study.parameters import MODELS

ROOT = Path(__file__).parents[2]
FILES = sorted(ROOT.glob("params/*/*.yaml"))
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
PLAIN = {"int", "float", "str", "bool", "list", "dict"}  # what papermill can replace


def read_cell(notebook):
    """Name: (annotation, default) of the parameters cell."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == 1
    lines = ast.parse("".join(tagged[0]["source"])).body
    assert all(isinstance(line, ast.AnnAssign) and line.simple for line in lines)
    return {
        line.target.id: (ast.unparse(line.annotation), ast.literal_eval(line.value))
        for line in lines
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"names": ["v9", "v9"]}, "two at least that are not seeds"),
        ({"names": ["v8"]}, "give each run one"),
        ({"names": ["base", "v9"]}, "a run cannot be called 'base'"),
        ({"finetune_runs": [], "names": []}, "two or more runs or logs"),
    ],
)
def test_comparisons_that_could_not_be_made(given, said):
    with pytest.raises(ValueError, match=said):
        parameters.CompareRuns.checked({"concept": {"age": 0.0}} | given, "08_compare_runs.yaml")


def test_there_are_files_and_notebooks():
    assert len(FILES) >= 20
    assert [path.stem for path in NOTEBOOKS] == sorted(MODELS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_params_file_loads(path):
    model = parameters.load(path)
    assert model.study == path.parent.name
    assert model.stage == path.stem
    named = [*getattr(model, "concept", ()), *getattr(model, "properties", ())]
    assert [prop for prop in named if prop not in model.meaning] == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_cell_has_the_fields_of_its_model(notebook):
    cell = read_cell(notebook)
    assert sorted(cell) == sorted(MODELS[notebook.stem].model_fields)
    assert {annotation for annotation, _ in cell.values()} <= PLAIN


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_papermill_reads_every_parameter_of_the_cell(notebook, caplog):
    """It counts `=` in a line, the comment's too, and calls what it cannot read unknown."""
    assert sorted(inspect_notebook(notebook)) == sorted(MODELS[notebook.stem].model_fields)
    assert "Unable to parse" not in caplog.text


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_cell_has_the_defaults_of_its_model(notebook):
    """Where they differ, a run would use other values than the checked parameters say."""
    cell, fields = read_cell(notebook), MODELS[notebook.stem].model_fields
    defaults = {k: f.get_default(call_default_factory=True) for k, f in fields.items()}
    # Opened by hand, a notebook shows the quickstart: its variant, runs and their names.
    by_hand = {k for k in fields if k.endswith(("_run", "_runs"))} | {"variant", "names"}
    differ = {
        k: (cell[k][1], defaults[k])
        for k in fields
        if k not in by_hand and defaults[k] is not PydanticUndefined and defaults[k] != cell[k][1]
    }
    assert differ == {}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_cell_passes_its_own_model(notebook):
    namespace = {name: value for name, (_, value) in read_cell(notebook).items()}
    model = MODELS[notebook.stem].from_cell(namespace | {"unrelated": 3})
    aside = {name: getattr(model, name) for name in ("start_anew", *model.SHOWN)}
    assert model.config() | aside == namespace
    assert list(model.table().index) == [n for n in type(model).model_fields if n != "start_anew"]
    assert (model.table()["meaning"] != "").all()


TRAIN = "02_train_base"
SELECT = "04_select_images"
INPUTS = "base_run: a\ncnn_run: b\n"
LOOK = "concept: {gender: 1.0}\nkeep: {gender: 0.9}\n"
HAT = LOOK.replace("keep: {gender", "keep: {hat")
HIGH = LOOK.replace("1.0", "high")
BAD = {  # file name, text, what the message must name
    "unknown parameter": (TRAIN, "totl_kimg: 3.0", ["'totl_kimg'", "spelling"]),
    "1e-4 as text": (TRAIN, "learning_rate: 1e-4", ["learning_rate", "'1e-4'", "1.0e-4"]),
    "negative size": (TRAIN, "z_dim: -3", ["z_dim", "-3", "greater than or equal to 1"]),
    "no power of two": (TRAIN, "image_px: 48", ["image_px", "48", "power of two"]),
    "wrong type": (TRAIN, "batch: many", ["batch", "'many'", "integer"]),
    "number as text": (TRAIN, "batch: '32'", ["batch", "'32'", "integer"]),
    "float for int": (TRAIN, "batch: 3.5", ["batch", "3.5", "integer"]),
    "not among the choices": (TRAIN, "source: borrowed", ["source", "'borrowed'", "shipped"]),
    "bad device": (TRAIN, "device: gpu", ["device", "'gpu'", "cuda"]),
    "study with a slash": (TRAIN, "study: a/b", ["study", "'a/b'"]),
    "share over 1": (
        "01_make_population", "shares: {age: 1.5}", ["shares", "age is 1.5", "from 0 to 1"]
    ),
    "nothing to learn": (
        "03_train_property_cnn", "population_run: a\nproperties: []", ["properties", "at least 1"]
    ),
    "unknown property": (
        SELECT, INPUTS + HAT, ["'hat'", "not in the concept"]
    ),
    "missing": (SELECT, LOOK + "base_run: a", ["cnn_run", "candidates 'base' need"]),
    "wrong type inside": (SELECT, INPUTS + HIGH, ["concept.gender", "high"]),
    "variant without a file name": (TRAIN, "variant: b", ["'b'", "02_train_base-b.yaml"]),
    "file name without a variant": (f"{TRAIN}-b", "seed: 1", ["''", "02_train_base.yaml"]),
    "no notebook's name": ("09_dream", "seed: 1", ["09_dream", "02_train_base"]),
    "nearly a notebook's name": ("02_train_bases", "seed: 1", ["02_train_bases", "no notebook"]),
    "not YAML": (TRAIN, "seed: [1\nbatch: }", ["not readable YAML"]),
    "a list": (TRAIN, "- seed: 1", ["name: value"]),
    "empty": (TRAIN, "", ["name: value"]),
    "only text": (TRAIN, "hello", ["name: value"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_mistakes_are_one_line(tmp_path, case):
    name, text, wanted = BAD[case]
    path = tmp_path / f"{name}.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        parameters.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in wanted if part not in message] == [], message


def test_unreadable_files(tmp_path):
    with pytest.raises(ValueError, match=r"02_train_base\.yaml: cannot be read"):
        parameters.load(tmp_path / "02_train_base.yaml")
    (tmp_path / "02_train_base.yaml").write_bytes(b"seed: \xff\xfe")
    with pytest.raises(ValueError, match="not readable YAML"):
        parameters.load(tmp_path / "02_train_base.yaml")


def test_parameters_are_frozen():
    model = MODELS[TRAIN].checked({}, "here")
    with pytest.raises(ValueError, match="frozen"):
        model.seed = 3


def test_inputs_are_told_by_their_names():
    given = {
        "finetune_run": "a", "evaluation_run": "", "earlier_csv": "b.csv", "concept": {"age": 0.0},
    }  # fmt: skip
    model = MODELS["07_report_run"].checked(given, "here")
    assert model.input_runs() == {"finetune_run": "a"}
    assert model.input_files() == {"earlier_csv": "b.csv"}
    assert model.pick("seed concept", but="seed") == {"concept": {"age": 0.0}}
