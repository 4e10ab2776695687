"""A finished run is never written over: it is shown again, or moves aside whole."""

import copy
import json
import os
from pathlib import Path

import pytest

from ohlora_lib import cli
from ohlora_lib.io.disk import write_atomic
from ohlora_lib.study import openings
from ohlora_lib.study.parameters import FinetuneGenerator
from ohlora_lib.study.run_folder import notebook_code, read_summary, release, start_run
from ohlora_lib.study.summaries import read_failure

FILES = {"train_log.csv": "log", "g.safetensors": "weights", "checkpoints/state.pt": "state"}


@pytest.fixture
def root(tmp_path, monkeypatch):
    for name in ("params", "notebooks"):
        (tmp_path / name).mkdir()
    (tmp_path / "labels.csv").write_text("file\n")
    monkeypatch.setenv("OHLORA_ROOT", str(tmp_path))
    return tmp_path


def start(root, *, epochs=2, rate=0.1, **options):
    config = {"study": "tiny", "seed": 0, "epochs": epochs, "learning_rate": rate}
    config |= {"base_run": "outputs/tiny/02_base"}
    return start_run(
        "05_stage",
        config,
        input_runs={"base_run": config["base_run"]},
        input_files={"labels_csv": "labels.csv"},
        longer="epochs",
        root=root,
        **options,
    )


def make_base(root, weights="base"):
    run = start_run("02_base", {"study": "tiny"}, root=root, start_anew=True)
    write_atomic(run.path / "generator.safetensors", weights)
    write_atomic(run.path / "samples.png", os.urandom(8))  # a picture is no result
    run.finish()


@pytest.fixture
def finished(root):
    """A finished run folder and what it holds."""
    make_base(root)
    run = start(root)
    for name, text in FILES.items():
        write_atomic(run.path / name, text)
    run.finish(verdict="learned")
    return run.path


def held(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def test_the_same_again_is_shown_and_changes_nothing(root, finished, capsys):
    before = held(finished)
    make_base(root)  # made anew with the same result
    run = start(root)
    assert run.finished
    assert "This run finished on 20" in capsys.readouterr().out
    assert held(finished) == before
    run.finish(verdict="learned")
    assert held(finished) == before
    assert not list(finished.parent.glob(".earlier/05*"))


CHANGES = {
    "a parameter": (lambda root: None, {"rate": 0.2}, "learning_rate was 0.1 and is now 0.2"),
    "fewer epochs": (lambda root: None, {"epochs": 1}, "epochs was 2 and is now 1"),
    "an input run": (lambda root: make_base(root, "x"), {}, "base_run is another"),
    "a file": (lambda root: (root / "labels.csv").write_text("x"), {}, "labels_csv is another"),
    "nothing": (lambda root: None, {"start_anew": True}, "run again from the start"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_run_moves_the_finished_one_aside_whole(root, finished, change, capsys):
    before = held(finished)
    action, options, said = CHANGES[change]
    action(root)
    run = start(root, **options)
    (kept,) = finished.parent.glob(".earlier/05_stage-*")
    assert held(kept) == before
    assert list(held(finished)) == ["config.json"]
    line = capsys.readouterr().out.splitlines()[-1]
    assert f"is kept in outputs/tiny/.earlier/{kept.name}: {said}." in line
    assert not run.finished
    run.finish()
    assert read_summary(kept)["results"] == {"verdict": "learned"}


def test_more_epochs_resume_from_the_checkpoint_of_the_run_that_is_kept(root, finished, capsys):
    before = held(finished)
    start(root, epochs=3)
    (kept,) = finished.parent.glob(".earlier/05_stage-*")
    assert held(kept) == before
    assert set(held(finished)) == {"checkpoints/state.pt", "train_log.csv", "config.json"}
    assert "Training resumes from its last checkpoint." in capsys.readouterr().out
    write_atomic(finished / "train_log.csv", "longer")  # a link, but never written in place
    assert held(kept) == before
    start(root, epochs=4)  # half-way: its stage resumes it
    assert (finished / "train_log.csv").read_text() == "longer"


def test_a_move_that_was_cut_off_is_ended(root, finished, monkeypatch):
    before = held(finished)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            start(root, epochs=3)
    assert held(finished) == before  # before the move: as if nothing had been asked
    release(finished)
    finished.rename(finished.parent / "moved")  # after it, and before the copy is in place
    start(root, epochs=3)
    assert (finished / "checkpoints" / "state.pt").read_text() == "state"


def test_an_unfinished_run_stays_unless_it_is_started_anew(root, finished, capsys):
    run = start(root, rate=0.3)
    write_atomic(run.path / "train_log.csv", "half")
    start(root, rate=0.4)
    assert (finished / "train_log.csv").read_text() == "half"
    start(root, rate=0.4, start_anew=True)
    assert "The unfinished run is kept in" in capsys.readouterr().out
    assert not (finished / "train_log.csv").exists()
    assert len(list(finished.parent.glob(".earlier/05_stage-*"))) == 2


def test_a_run_with_a_damaged_summary_moves_aside(root, finished):
    (finished / "summary.json").write_text('{"status": "fini')
    before = held(finished)
    start(root)
    (kept,) = finished.parent.glob(".earlier/05_stage-*")
    assert held(kept) == before


def test_a_persons_work_stays_in_place(root):
    run = start_run("label_images", {"study": "tiny", "count": 5}, in_place=True, root=root)
    write_atomic(run.path / "labels.csv", "file,glass\n")
    run.finish()
    again = start_run("label_images", {"study": "tiny", "count": 9}, in_place=True, root=root)
    assert (again.path / "labels.csv").is_file()
    assert read_summary(again.path)
    assert read_failure(again.path) is None


def test_clean_says_how_much_and_asks(root, finished, capsys, monkeypatch):
    start(root, epochs=3)  # shares its checkpoint with the run that is kept
    (kept,) = finished.parent.glob(".earlier/05_stage-*")
    own = sum(len(data) for name, data in held(kept).items() if name not in held(finished))
    (found,) = openings.find_earlier(root / "outputs", "tiny")
    assert found.path == kept
    assert found.size in (own, own + len(held(kept)["config.json"]))
    monkeypatch.setattr("typer.confirm", lambda text: "1 earlier run," not in text)
    assert cli.exit_status(["clean", "--earlier", "tiny"], debug=False) == 0
    assert kept.is_dir()
    assert cli.exit_status(["clean"], debug=False) == 1
    assert cli.exit_status(["clean", "--earlier", "--yes"], debug=False) == 0
    assert not kept.exists()
    assert (finished / "checkpoints" / "state.pt").is_file()


def test_only_code_counts_in_a_notebook(tmp_path):
    path = tmp_path / "a.ipynb"
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# A"]},
        {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": ["a = 1"]},
        {"cell_type": "code", "metadata": {}, "source": ["print( a )  # shows it"], "outputs": []},
    ]

    def code_of(*changes):
        changed = copy.deepcopy(cells)
        for number, source in changes:
            changed[number]["source"] = [source]
        path.write_text(json.dumps({"cells": changed}))
        return notebook_code(path)

    assert code_of() == code_of((0, "# B"), (1, "a = 2"), (2, "print(a)"))
    assert code_of() != code_of((2, "print(a + 1)"))
    assert code_of((2, "%matplotlib a")) != code_of((2, "%matplotlib b"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"device": "cuda"}, "device is 'cuda'; this machine knows auto, cpu"),
        (
            {"concept": {"glasses": 0.0}},
            "concept names 'glasses', but the CNNs in outputs/tiny/03_cnn are for "
            "['age', 'glass']. Correct the name, or train its CNNs in 03_train_property_cnn.",
        ),
    ],
)
def test_what_this_machine_or_an_input_lacks_is_said_before_anything_moves(
    root, monkeypatch, given, said
):
    make_base(root)
    cnns = start_run("03_cnn", {"study": "tiny"}, root=root)
    for name in ("age", "glass"):
        write_atomic(cnns.path / "selector" / f"{name}-fold0.safetensors", "weights")
    cnns.finish()
    runs = {"base_run": "02_base", "cnn_run": "03_cnn", "selection_run": "02_base"}
    config = {"study": "tiny", "concept": {"glass": 0.0}}
    config |= {name: f"outputs/tiny/{run}" for name, run in runs.items()}
    FinetuneGenerator.checked(config, "a file").open_run().finish()
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole line is compared
        FinetuneGenerator.checked(config | given, "a file").open_run()
    assert str(error.value) == said
    assert not (root / "outputs/tiny/.earlier").exists()
