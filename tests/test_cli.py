import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

import ohlora_lib
from ohlora_lib import cli, doctor
from ohlora_lib.finetune import run as finetune_run
from ohlora_lib.io.images import save_png
from ohlora_lib.io.weights import save_weights
from ohlora_lib.nets import stylegan2
from ohlora_lib.runner import runner
from ohlora_lib.terminal import as_text
from ohlora_lib.widgets.monitor import Monitor
from tests.checks import same

PACKAGE_ROOT = Path(ohlora_lib.__file__).parents[1]


@pytest.fixture
def call(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        return ended.value.code, *capsys.readouterr()

    return run


def raising(error):
    def run_study(*_, **__):
        raise error

    return run_study


def test_help_imports_nothing_slow():
    code = (
        "import sys\nfrom ohlora_lib.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "slow = 'torch pandas numpy pydantic papermill nbconvert matplotlib'.split()\n"
        "print([m for m in slow if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE_ROOT
    )
    assert "compare" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ValueError("a.yaml: seed is -1:\nmust be positive"), 1, "a.yaml: seed is -1: must be"),
        (OSError(28, "No space left on device", "a.csv"), 1, "a.csv: No space left on device."),
        (runner.StageInterrupted("01_first: stopped"), 130, "01_first: stopped"),
        (ZeroDivisionError("oh"), 1, "unexpected ZeroDivisionError: oh (--debug shows"),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C"),
    ],
)
def test_every_error_is_one_line(call, monkeypatch, error, status, message):
    monkeypatch.setattr(runner, "run_study", raising(error))
    code, out, err = call("run", "params/tiny")
    assert (code, out) == (status, "")
    assert err.startswith(f"ohlora: {message}")
    assert err.count("\n") == 1
    code, _, err = call("run", "params/tiny", "--debug")
    assert code == status
    assert ("Traceback" in err) == (not isinstance(error, KeyboardInterrupt))
    assert err.splitlines()[-1].startswith("ohlora: ")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rum", "No such command 'rum'"),
        ("run", "Missing argument"),
        ("run params/tiny --seed -1", "--seed"),
        ("run params/tiny --farce", "--farce"),
    ],
)
def test_a_wrong_command_line_is_one_line(call, line, message):
    code, out, err = call(*line.split())
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


PASSED = {  # function, command line, arguments besides the study
    "runner.run_study": (
        "run params/tiny --only 05* --force --seed 2", {"only": "05*", "force": True, "seed": 2}
    ),
    "sweep.run_sweep": (
        "sweep params/tiny --grid r1_gamma=1,10 --grid batch=8,16 --seeds 0-4 --workers 2",
        {"grid": ["r1_gamma=1,10", "batch=8,16"], "seeds": "0-4", "workers": 2, "scheduler": ""},
    ),
}  # fmt: skip


@pytest.mark.parametrize("function", PASSED)
def test_options_are_passed_on(call, monkeypatch, function):
    seen, (line, options) = [], PASSED[function]
    monkeypatch.setattr(f"ohlora_lib.runner.{function}", lambda *a, **k: seen.append((a, k)))
    assert call(*line.split())[0] == 0
    assert seen == [((Path("params/tiny"),), options)]


@pytest.mark.parametrize(
    ("launched", "finished", "status"), [(0, True, 0), (0, False, 130), (1, False, 0)]
)
def test_finetune_says_whether_it_finished(call, monkeypatch, launched, finished, status):
    seen = []

    def told(*given, **options):
        seen.append((given, options))
        return finished

    monkeypatch.setattr(finetune_run, "finetune_file", told)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("OHLORA_COMMAND", "ohlora finetune a.yaml --force")  # undone after the test
    if launched:
        monkeypatch.setenv("WORLD_SIZE", "2")
    assert call("finetune", "a.yaml")[0] == status
    assert seen == [((Path("a.yaml"), Monitor), {"start_anew": False})]


@pytest.fixture
def compared(monkeypatch):
    """Replaces `compare_files`; returns its result and the list of calls."""
    row = {"property": "age", "target": 0.0, "start": 0.5, "end": 0.01234, "effect": "closer"}
    facts = {"rows": 9, "epochs": 2.0, "sentence": "It [came] closer.", "properties": [row]}
    against = {"a": "v8", "b": "v9", "sentence": "v9 did better."}
    against["properties"] = [{"property": "age", "distance_a": 0.1, "distance_b": 0.01,
                              "effect": "moved away"}]  # fmt: skip
    runs = [{"name": name, **facts} for name in ("v8", "v9")]
    found, asked = {"concept": {"age": 0.0}, "runs": runs, "comparisons": [against]}, []
    monkeypatch.setattr(
        "ohlora_lib.verdict.comparison.compare_files",
        lambda *given, **options: asked.append((*given, options)) or found,
    )
    return found, asked


def test_compare_prints_sentences_and_tables_or_json(call, compared):
    found, asked = compared
    code, out, _ = call("compare", "a.csv", "b.csv", "--json")
    assert (code, json.loads(out)) == (0, found)
    options = ("--concept", "age=0, glass=0.5", "--names", "x,y", "--column", "d_loss=D")
    code, out, _ = call("compare", "a.csv", "b.csv", *options)
    assert code == 0
    for words in (
        "It [came] closer.",
        "v9 against v8",
        "v9 did better.",
        "0.0123",
        "farther",
        "distance of v9",
    ):
        assert words in out
    logs, concept, options = asked[1]
    assert (logs, concept) == ([Path("a.csv"), Path("b.csv")], {"age": 0.0, "glass": 0.5})
    assert options == {"names": ["x", "y"], "columns": {"d_loss": "D"}, "complete": False}


@pytest.mark.parametrize("concept", ["age", "age=x", "age=0,age=1"])
def test_a_malformed_concept_is_refused(call, compared, concept):
    code, _, err = call("compare", "a.csv", "--concept", concept)
    assert code == 1
    assert "NAME=TARGET" in err
    assert not compared[1]


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (float("nan"), "-"), (-5.6e-17, "0"), (0.00012, "0.00012")]
)
def test_a_missing_value_is_a_dash_and_a_rounding_error_is_0(value, text):
    assert as_text(value) == text


def test_doctor_fails_only_for_what_is_needed(call, monkeypatch):
    checks = [doctor.Check("GPU", "none", "buy one", needed=False), doctor.Check("python", "3.11")]
    monkeypatch.setattr(doctor, "examine", lambda: checks)
    code, out, _ = call("doctor")
    assert code == 0
    assert "buy one" in out
    checks.append(doctor.Check("outputs", "cannot be written", "correct its rights"))
    assert call("doctor")[0] == 1


def test_doctor_looks_at_this_machine(root, monkeypatch):
    (root / "outputs").write_text("in the way")
    monkeypatch.chdir(root)
    monkeypatch.setattr("ohlora_lib.nets.compute.bfloat16_flags", list)
    checks = {check.name: check for check in doctor.examine()}
    assert not checks["packages"].todo
    assert checks["outputs"].todo == f"correct {root / 'outputs'}"
    assert "float32" in checks["number format"].found
    assert {"processor", "memory", "GPU", "project", "disk"} <= checks.keys()
    monkeypatch.setattr(doctor, "PACKAGES", "numpy nonesuch")
    (missing,) = doctor.examine()
    assert (missing.name, missing.todo) == ("nonesuch", "run: make setup")


SCORES = "img_no,gender_score,age_score\n0,0.99,0.0\n1,0.95,0.5\n2,0.2,0.0\n3,0.97,0.001\n"


def test_select_says_what_is_kept_and_what_each_condition_costs(call, tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text(SCORES)
    conditions = ("--keep", "gender>=0.92", "--keep", "age<=0.008", "--skip-first", "1")
    code, out, _ = call("select", str(path), *conditions, "--json")
    assert code == 0
    assert json.loads(out) == {
        "rows": 4, "skipped": 1, "candidates": 3, "unscored": 0, "kept": 1,
        "share": pytest.approx(1 / 3),
        "conditions": [
            {"condition": "gender >= 0.92", "passes": 2, "fails": 1, "lost_only_here": 1,
             "share": pytest.approx(2 / 3)},
            {"condition": "age <= 0.008", "passes": 2, "fails": 1, "lost_only_here": 1,
             "share": pytest.approx(2 / 3)},
        ],
    }  # fmt: skip
    kept = tmp_path / "kept.csv"
    code, out, _ = call("select", str(path), *conditions, "--out", str(kept))
    assert code == 0
    assert "1 of 3 images (33.3%) have the look; the first 1 were left out." in out
    assert kept.read_text().splitlines()[1].startswith("3,")


def test_weights_are_converted_shown_and_published(call, tmp_path):
    sizes = {"z_dim": 8, "w_dim": 8, "mapping_layers": 2, "channel_base": 64, "channel_max": 8}
    names = ("g.safetensors", "g.pt", "b.safetensors", "s.safetensors", "p.safetensors", "out")
    given, theirs, back, split, plain, folder = (str(tmp_path / name) for name in names)
    save_weights(stylegan2.Generator(8, conv_clamp=None, **sizes), given)
    code, out, _ = call("weights", "convert", given, theirs, "--to", "rosinality")
    assert (code, "architecture stylegan2" in out) == (0, True)
    code, out, _ = call("weights", "info", theirs)
    assert code == 0
    assert ["mapping_layers", "2"] in [line.split() for line in out.splitlines()]
    assert "fine-tuning needs one" in out
    assert call("weights", "convert", theirs, back)[0] == 0
    assert same(load_file(given), load_file(back))
    code, out, _ = call("weights", "convert", given, split, "--split", "6")
    assert (code, "wide_dim 6" in out) == (0, True)
    code, out, _ = call("weights", "convert", split, plain, "--plain")
    assert (code, "layer_features 14" in out) == (0, True)
    code, out, _ = call("weights", "publish", split, folder)
    assert code == 0
    assert Path(folder, "README.md").is_file()
    assert out.splitlines()[-1].endswith(f"hf upload USER/NAME {folder}")
    code, _, err = call("weights", "convert", given, theirs, "--to", "tensorflow")
    assert (code, len(err.splitlines())) == (1, 1)
    assert "rosinality" in err


def test_a_film_of_an_interrupted_run_says_so(call, tmp_path):
    save_png(tmp_path / "run/images/fixed-epoch0000-idx00000.png", np.zeros((8, 8, 3), np.uint8))
    code, out, _ = call("film", str(tmp_path / "run"), str(tmp_path / "f.webp"))
    assert (code, "6 frames; the run has not finished" in out) == (0, True)


def test_label_tables_are_merged(call, tmp_path):
    (tmp_path / "mine.csv").write_text("file,hat\na,1\nb,0\n")
    (tmp_path / "hers.csv").write_text("file,hat\na,1\nb,1\n")
    tables = (str(tmp_path / "mine.csv"), str(tmp_path / "hers.csv"))
    code, out, _ = call("labels", "merge", *tables, "--out", str(tmp_path / "both.csv"))
    assert code == 0
    assert "2 images, 1 disagreement left empty" in out
    assert "hat: mine and hers agree on 1 of 2 images; kappa 0.00" in out
    assert (tmp_path / "both.csv").read_text() == "file,hat\na,1\nb,\n"
    by_person = tmp_path / "both-by-person.csv"
    assert by_person.read_text() == "file,property,mine,hers\na,hat,1,1\nb,hat,0,1\n"
    assert f"settle_csv: {by_person}" in out
    (tmp_path / "we.csv").write_text("file,hat\nb,1\n")
    settled = ("--settled", str(tmp_path / "we.csv"))
    code, out, _ = call("labels", "merge", *tables, "--out", str(tmp_path / "both.csv"), *settled)
    assert (code, "2 images, 0 disagreements left empty" in out) == (0, True)
    assert (tmp_path / "both.csv").read_text() == "file,hat\na,1\nb,1\n"
