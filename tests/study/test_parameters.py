"""Parameters: all shipped files load, cells and models agree, each error message is one line."""

import ast
import json
from pathlib import Path
from typing import get_args

import pytest
from papermill import inspect_notebook
from pydantic_core import PydanticUndefined

from ohlora_lib.io.disk import write_atomic
from ohlora_lib.study import cells, parameters
from ohlora_lib.study.parameters import MODELS
from ohlora_lib.study.records import FILES as FILE_INPUTS
from ohlora_lib.study.records import RUNS, input_paths
from ohlora_lib.study.run_folder import start_run
from tests.checks import complaint

ROOT = Path(__file__).parents[2]
FILES = sorted(ROOT.glob("params/*/*.yaml"))
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
PLAIN = {"int", "float", "str", "bool", "list", "dict"}  # what papermill can replace


def source_of(notebook):
    """The parameters cell."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    (tagged,) = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    return "".join(tagged["source"])


def test_files_and_notebooks_exist():
    assert len(FILES) >= 20
    assert [path.stem for path in NOTEBOOKS] == sorted(MODELS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_params_file_loads(path):
    model = parameters.load(path)
    assert (model.study, model.stage) == (path.parent.name, path.stem)
    named = [*getattr(model, "concept", ()), *getattr(model, "properties", ())]
    assert [prop for prop in named if prop not in model.meaning] == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_cell_model_and_papermill_agree(notebook, caplog):
    """If defaults differed, a run could use values other than the checked ones."""
    source, model = source_of(notebook), MODELS[notebook.stem]
    lines, fields = ast.parse(source).body, model.model_fields
    assert {ast.unparse(line.annotation) for line in lines} <= PLAIN
    cell = {line.target.id: ast.literal_eval(line.value) for line in lines}
    # papermill counts every `=` in a line, comments included, and skips lines it cannot parse.
    assert sorted(inspect_notebook(notebook)) == sorted(cell) == sorted(fields)
    assert "Unable to parse" not in caplog.text
    defaults = {k: f.get_default(call_default_factory=True) for k, f in fields.items()}
    # A notebook opened by hand uses the quickstart's variant, runs and names.
    by_hand = {k for k in fields if k.endswith(("_run", "_runs"))} | {"variant", "names"}
    by_hand |= {k for k in fields if defaults[k] is PydanticUndefined}
    assert {k: (cell[k], defaults[k]) for k in fields.keys() - by_hand
            if defaults[k] != cell[k]} == {}  # fmt: skip
    taken = model.from_cell(cell | {"unrelated": 3})
    aside = {name: getattr(taken, name) for name in ("start_anew", *model.SHOWN)}
    assert taken.config() | aside == cell
    meanings = cells.comments(source)
    assert meanings.keys() == cell.keys()
    assert all(meanings.values()), meanings
    for condition, names in model.ONLY.items():
        choice, values = condition.split(": ")
        for value in set(get_args(fields[choice].annotation)) - set(values.split(" or ")):
            assert set(names.split()) <= cells.unused(source, cell | {choice: value})
    groups = [line for line in source.splitlines() if line.startswith(cells.ONLY)]
    for name, values in cells.CONDITION.findall("\n".join(groups)):
        assert set(values.split(" or ")) <= set(get_args(fields[name].annotation))


POPULATION, TRAIN = "01_make_population", "02_train_base"
SELECT, COMPARE = "04_select_images", "08_compare_runs"
CNN = "03_train_property_cnn"
PUBLISHED = "population_run: a\nproperties: [hat]\narchitecture: published\n"
INPUTS = "base_run: a\ncnn_run: b\n"
LOOK = "concept: {gender: 1.0}\nkeep: {gender: 0.9}\n"
HAT = LOOK.replace("keep: {gender", "keep: {hat")
AGE = "concept: {age: 0.0}\n"
EVALUATE = "06_evaluate_samples"
OWN = f"{INPUTS}selection_run: c\nfinetune_run: d\n{AGE}onnx_files: [m.onnx]\nonnx_outputs: "
NEW2, SG1 = "source: train\narchitecture: stylegan2\n", "needs `architecture: stylegan1`"
BAD = {  # file name, text, parts of the message
    "unknown parameter": (TRAIN, "totl_kimg: 3.0", ["'totl_kimg'", "'total_kimg'"]),
    "1e-4 as text": (TRAIN, "learning_rate: 1e-4", ["learning_rate", "'1e-4'", "1.0e-4"]),
    "1.0e6 as text": (TRAIN, "learning_rate: 1.0e6", ["'1.0e6'", "1.0e+6"]),
    "a crop that is auto": (CNN, PUBLISHED + "crops: {hat: auto}", ["crops.hat is 'auto': input"]),
    "not a power of two": (TRAIN, "image_px: 48", ["image_px is 48", "32, 64, 128"]),
    "study with a slash": (TRAIN, "study: a/b", ["study", "'a/b'", "letters, digits"]),
    "too large to draw": (POPULATION, "image_px: 1024", ["32 to 512 px"]),
    "nothing to learn": (
        "03_train_property_cnn", "population_run: a\nproperties: []", ["properties", "at least 1"]
    ),
    "unknown property": (SELECT, INPUTS + HAT, ["'hat'", "use ['gender']"]),
    "missing": (SELECT, LOOK + "base_run: a", ["'base' needs cnn_run"]),
    "a new discriminator without images": (
        TRAIN, "source: generator\ngenerator_file: g.pkl", ["'generator' needs population_run"]
    ),
    "a StyleGAN2 does not grow": (TRAIN, NEW2 + 'grow_kimg: {"16": 1.0}', ["grow_kimg", SG1]),
    "a StyleGAN2 without scores": (TRAIN, NEW2 + "num_properties: 3", ["num_properties", SG1]),
    "images that faces would replace": (
        POPULATION, "image_folder: x", ["needs `source: folder` or `celeba`; set that or remove"]
    ),
    "labels that faces would replace": (
        POPULATION, "labels_csv: x.csv", ["needs `source: folder` or `generator`"]
    ),
    "weights beside the shipped base": (
        TRAIN, "generator_file: g.pkl", ["needs `source: files` or `generator`"]
    ),
    "images beside the shipped base": (
        TRAIN, "population_run: a", ["needs `source: generator` or `train`"]
    ),
    "scores of fresh samples": (
        SELECT, INPUTS + LOOK + "scores_csv: x.csv", ["needs `candidates: population` or `table`"]
    ),
    "an output without columns": (EVALUATE, f"{OWN}{{age: old}}", ["'old'", "0[3]"]),
    "an output of no property": (EVALUATE, f"{OWN}{{hat: '0[1]'}}", ["'hat'", "use ['age']"]),
    "a classifier without outputs": (EVALUATE, f"{OWN}{{}}", ["onnx_outputs", "give both"]),
    "a crop with right before left": (
        EVALUATE, f"{OWN}{{age: '0[1]'}}\nonnx_crop: [0, 1, 1, 0]", ["[0.0, 1.0, 1.0, 0.0]"]
    ),
    "only seeds of one run": (COMPARE, AGE + "names: [v9, v9]", ["at least two"]),
    "a run called base": (COMPARE, AGE + "names: [base, v9]", ["'base', which means"]),
    "nothing to compare": (
        COMPARE, AGE + "names: []\nfinetune_runs: []", ["two or more runs or logs"]
    ),
    "two sources": ("label_images", "population_run: a\nimage_folder: b", ["give one of"]),
    "variant without a file name": (TRAIN, "variant: b", ["'b'", "02_train_base-b.yaml"]),
    "almost a notebook's name": ("02_train_bases", "seed: 1", ["02_train_bases", "no notebook"]),
    "not YAML": (TRAIN, "seed: [1\nbatch: }", ["not readable YAML"]),
    "empty": (TRAIN, "", ["name: value"]),
    "a list as a name": (TRAIN, "? [a]\n: 1", ["not readable YAML"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_errors_are_one_line(tmp_path, case):
    name, text, wanted = BAD[case]
    path = tmp_path / f"{name}.yaml"
    path.write_text(text)
    message = complaint(parameters.load, path)
    assert [part for part in (str(path), *wanted) if part not in message] == [], message


def test_a_missing_params_file_or_a_folder_is_named(tmp_path):
    assert "No such file. Correct the path." in complaint(parameters.load, tmp_path / "nope.yaml")
    assert "is a folder" in complaint(parameters.load, tmp_path)


def test_an_input_made_from_an_earlier_population_is_refused(root):
    def make(notebook, weights, **inputs):
        run = start_run(notebook, {"study": "s", **inputs}, root=root, start_anew=True)
        write_atomic(run.path / "labels.csv", weights)
        run.finish()
        return f"outputs/s/{run.path.name}"

    population = make("01_make_population", "400")
    cnns = make("03_train_property_cnn", "", population_run=population)
    given = {"cnn_run": cnns, "base_run": cnns, "concept": {"age": 0.0}, "keep": {"age": 0.1}}
    config = parameters.SelectImages.checked(given, "x")
    config.check_current(root)
    make("01_make_population", "397")
    said = complaint(config.check_current, root)
    assert f"made from an earlier {population}. Make it again with: ohlora run params/s" in said
    assert said.endswith("--only 03_train_property_cnn")


def test_inputs_are_recognised_by_name():
    given = {"finetune_runs": ["a", "b"], "evaluation_runs": [], "log_csvs": ["c.csv"]}
    config = MODELS[COMPARE].checked({**given, "concept": {"age": 0.0}, "names": []}, "here")
    assert input_paths(config.config(), RUNS) == [("finetune_runs", "a"), ("finetune_runs", "b")]
    assert input_paths(config.config(), FILE_INPUTS) == [("log_csvs", "c.csv")]
    assert config.pick("seed concept", but="seed") == {"concept": {"age": 0.0}}
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3
