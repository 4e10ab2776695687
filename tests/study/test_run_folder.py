"""Runs are written atomically; a finished run is shown again or moved aside as a whole."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ohlora_lib.io.disk import write_atomic
from ohlora_lib.study.parameters import FinetuneGenerator
from ohlora_lib.study.records import read_config, read_summary, write_failure
from ohlora_lib.study.run_folder import start_run
from tests.checks import complaint

FILES = {"train_log.csv": "log", "g.safetensors": "weights", "checkpoints/state.pt": "state"}


@pytest.fixture(autouse=True)
def _labels(root, monkeypatch):
    (root / "labels.csv").write_text("file\n")
    monkeypatch.setenv("OHLORA_ROOT", str(root))


def start(root, *, epochs=2, rate=0.1, **options):
    config = {"study": "tiny", "seed": 3, "epochs": epochs, "learning_rate": rate}
    config |= {"base_run": "outputs/tiny/02_base", "labels_csv": "labels.csv"}
    return start_run("05_stage", config, longer="epochs", root=root, **options)


def make_base(root, weights="base"):
    run = start_run("02_base", {"study": "tiny"}, root=root, start_anew=True)
    write_atomic(run.path / "generator.safetensors", weights)
    write_atomic(run.path / "samples.png", os.urandom(8))  # pictures are not hashed as results
    run.finish()
    return run.path


@pytest.fixture
def finished(root):
    """A finished run folder."""
    make_base(root)
    run = start(root)
    for name, text in FILES.items():
        write_atomic(run.path / name, text)
    run.finish(verdict="learned")
    return run.path


def held(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def kept_by(finished):
    (kept,) = finished.parent.glob(".earlier/05_stage-*")
    return kept


def test_the_summary_records_results_and_the_command_to_repeat_the_run(root):
    run = start_run("01_first", {"study": "tiny", "variant": "v9", "seed": 3}, root=root)
    assert run.path == root / "outputs" / "tiny" / "01_first-v9"
    assert read_config(run.path)["seed"] == 3  # written before the first step
    with pytest.raises(ValueError, match="has not finished.*--only 01_first-v9"):
        read_summary(run.path)
    hidden = (".x.1-0.partial.bin", ".ipynb_checkpoints/OUT-checkpoint.csv")
    for name in ("images/a.bin", "checkpoints/state.pt", "OUT.ipynb", *hidden):
        write_atomic(run.path / name, "1234")
    run.note(precision="float32")
    run.finish(verdict="learned", score=np.float64(0.5))
    assert not (run.path / "checkpoints" / "state.pt").exists()  # no longer needed
    summary = read_summary(run.path)
    hashed = "03ac674216f3e15c761ee1a5e255f067953623c8b388b4459e13f978d7c846f4"
    assert summary["artefacts"] == [{"path": "images/a.bin", "bytes": 4, "sha256": hashed}]
    assert summary["results"] == {"verdict": "learned", "score": 0.5}
    assert summary["seeds"] == {"seed": 3}
    assert summary["facts"] == {"precision": "float32"}
    assert {"torch", "numpy", "pandas", "ohlora_lib"} <= summary["versions"].keys()
    assert summary["hardware"]["cores"] >= 1
    assert summary["started"] <= summary["finished"]
    assert summary["command"].startswith("papermill notebooks/01_first.ipynb")
    assert summary["command"].endswith("-f outputs/tiny/01_first-v9/config.json")


def test_a_run_without_its_files_has_not_finished(root):
    """In a notebook, someone may run the first cells and then the last."""
    run = start_run("05_stage", {"study": "tiny"}, root=root, makes=["train_log.csv"])
    assert "05_stage has not finished: it has no train_log.csv." in complaint(run.finish)
    assert not (run.path / "summary.json").exists()
    write_atomic(run.path / "train_log.csv", "log")
    run.finish()


def test_inputs_must_be_finished_and_unchanged(root):
    with pytest.raises(ValueError, match=r"base_run is 'outputs/tiny/02_base'\. .*does not exist"):
        start(root)
    base = make_base(root)
    assert start(root).inputs == {"base_run": base}
    for text in ("cut", "bass"):  # another size, then the same size
        (base / "generator.safetensors").write_text(text)
        assert "was changed. Make it with: ohlora run params/tiny" in complaint(start, root)


def test_a_run_cannot_leave_its_project_but_outputs_may_be_a_link(root, tmp_path_factory):
    disk, home = (tmp_path_factory.mktemp(name) for name in ("disk", "home"))
    (root / "outputs").symlink_to(disk)
    assert make_base(root).resolve() == disk / "tiny" / "02_base"
    (disk / "tiny" / "01_first").symlink_to(home)
    with pytest.raises(ValueError, match="outside the project's outputs"):
        start_run("01_first", {"study": "tiny"}, root=root)
    assert not list(home.iterdir())


def test_a_second_writer_is_rejected_and_a_crash_releases_the_lock(root):
    code = (
        "import os, sys; from pathlib import Path\n"
        "from ohlora_lib.study.run_folder import start_run\n"
        "run = start_run('01_first', {'study': 'tiny'}, root=Path(sys.argv[1]))\n"
        "print('open', flush=True); sys.stdin.readline(); os._exit(9)"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command, package = [sys.executable, "-c", code, str(root)], Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=package, **pipes) as holder:
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(ValueError, match=rf"process {holder.pid} on .* \(since 20"):
            start_run("01_first", {"study": "tiny"}, root=root)
        holder.communicate(b"\n")
    runs = [start_run("01_first", {"study": "tiny"}, root=root) for _ in range(2)]  # rerun cell
    runs[1].finish()
    assert not runs[0].lock._lock.is_locked


def test_a_repeated_run_is_shown_again_and_changes_nothing(root, finished, capsys):
    before = held(finished)
    make_base(root)  # run again with the same result
    run = start(root)
    assert run.finished
    assert "This run finished on 20" in capsys.readouterr().out
    assert held(finished) == before
    run.finish(verdict="learned")
    assert held(finished) == before
    assert not list(finished.parent.glob(".earlier/05*"))


def forget(root):
    """Leaves a summary as an earlier version of the package wrote it."""
    path = root / "outputs" / "tiny" / "05_stage" / "summary.json"
    path.write_text(path.read_text().replace("made_from", "inputs"))


CHANGES = {  # change, options of the new run, message
    "a parameter": (str, {"rate": 0.2}, "learning_rate was 0.1 and is now 0.2"),
    "one of an older run": (forget, {"rate": 0.2}, "learning_rate was 0.1 and is now 0.2"),
    "fewer epochs": (str, {"epochs": 1}, "epochs was 2 and is now 1"),
    "an input run": (lambda root: make_base(root, "x"), {}, "base_run changed"),
    "a file": (lambda root: (root / "labels.csv").write_text("x"), {}, "labels_csv changed"),
    "nothing": (str, {"start_anew": True}, "run again from the start"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_run_moves_the_finished_one_aside_as_a_whole(root, finished, change, capsys):
    action, options, said = CHANGES[change]
    action(root)
    before = held(finished)
    run = start(root, **options)
    kept = kept_by(finished)
    assert held(kept) == before
    assert list(held(finished)) == ["config.json"]
    line = capsys.readouterr().out.splitlines()[-1]
    assert f"is kept in outputs/tiny/.earlier/{kept.name}: {said}." in line
    assert not run.finished


def test_more_epochs_resume_from_the_checkpoint_of_the_run_that_is_kept(root, finished, capsys):
    before = held(finished)
    start(root, epochs=3)
    kept = kept_by(finished)
    assert held(kept) == before
    assert set(held(finished)) == {"checkpoints/state.pt", "train_log.csv", "config.json"}
    assert "Training resumes from its last checkpoint." in capsys.readouterr().out
    write_atomic(finished / "train_log.csv", "longer")  # a hard link, but replaced
    assert held(kept) == before
    start(root, epochs=4)  # unfinished, so its stage resumes it
    assert (finished / "train_log.csv").read_text() == "longer"


def test_an_unfinished_run_stays_unless_started_anew(root, finished, capsys):
    run = start(root, rate=0.3)
    write_atomic(run.path / "train_log.csv", "half")
    write_failure(run.path, "killed", "its kernel died", notebook="05_stage")
    assert "not finished (killed: its kernel died). Make it" in complaint(read_summary, run.path)
    start(root, rate=0.4)
    assert not (run.path / "summary.json").exists()
    assert (finished / "train_log.csv").read_text() == "half"
    start(root, rate=0.4, start_anew=True)
    assert "The unfinished run is kept in" in capsys.readouterr().out
    assert not (finished / "train_log.csv").exists()
    assert len(list(finished.parent.glob(".earlier/05_stage-*"))) == 2


def test_manual_work_stays_in_place(root):
    run = start_run("label_images", {"study": "tiny", "count": 5}, in_place=True, root=root)
    write_atomic(run.path / "labels.csv", "file,glass\n")
    run.finish()
    again = start_run("label_images", {"study": "tiny", "count": 9}, in_place=True, root=root)
    assert (again.path / "labels.csv").is_file()
    assert read_summary(again.path)


LACKS = [
    ({"device": "cuda"}, "device is 'cuda'; this machine allows auto, cpu"),
    ({"concept": {"glasses": 0.0}}, "concept names 'glasses', but the CNNs in outputs/tiny/03_cnn "
     "score ['age', 'glass']. Did you mean 'glass'?"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "said"), LACKS)
def test_a_missing_device_or_cnn_is_reported_before_anything_moves(root, monkeypatch, given, said):
    base = "outputs/tiny/02_base"
    make_base(root)
    start_run("03_cnn", {"study": "tiny", "properties": ["age", "glass"]}, root=root).finish()
    config = {"study": "tiny", "concept": {"glass": 0.0}, "cnn_run": "outputs/tiny/03_cnn"}
    config |= {"base_run": base, "selection_run": base}
    run = FinetuneGenerator.checked(config, "a file").open_run()
    for name in run.makes:
        write_atomic(run.path / name, "made")
    run.finish()
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        FinetuneGenerator.checked(config | given, "a file").open_run()
    assert not list((root / "outputs/tiny").glob(".earlier/05*"))
