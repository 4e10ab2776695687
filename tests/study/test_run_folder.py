import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from ohlora_lib.io.disk import atomic_path, write_atomic
from ohlora_lib.study import run_folder
from ohlora_lib.study.openings import results_sha256
from ohlora_lib.study.run_folder import project_root, read_summary, start_run
from ohlora_lib.study.summaries import read_failure


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.delenv("OHLORA_ROOT", raising=False)
    monkeypatch.delenv("OHLORA_COMMAND", raising=False)
    (tmp_path / "params").mkdir()
    (tmp_path / "notebooks").mkdir()
    return tmp_path


def start(root, notebook="01_first", **config):
    config = {"study": "tiny", "variant": "", "seed": 3, **config}
    runs = {k: v for k, v in config.items() if k.endswith(("_run", "_runs"))}
    return start_run(notebook, config, input_runs=runs, root=root)


@pytest.mark.parametrize("start_in", [".", "notebooks", "outputs/tiny/01_first"])
def test_root_is_the_same_from_everywhere(root, monkeypatch, start_in):
    (root / start_in).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(root / start_in)
    assert project_root() == root


def test_root_by_environment_and_none(root, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    with pytest.raises(ValueError, match="OHLORA_ROOT"):
        project_root()
    monkeypatch.setenv("OHLORA_ROOT", str(root))
    assert project_root() == root
    monkeypatch.setenv("OHLORA_ROOT", str(root / "gone"))
    with pytest.raises(ValueError, match="no folder"):
        project_root()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write_atomic(tmp_path / "a.txt", "old")
    with contextlib.suppress(RuntimeError), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_atomic_path_keeps_the_suffix_and_folder(tmp_path):
    with atomic_path(tmp_path / "new" / "x.npy") as temporary:
        np.save(temporary, np.arange(3))  # would add .npy to any other suffix
        assert temporary.parent == tmp_path / "new"
    assert np.load(tmp_path / "new" / "x.npy").tolist() == [0, 1, 2]


def test_json_means_the_same_to_yaml():
    data = {"rate": 1e-05, "big": 1e20, "negative": -3e-9, "fine": 2.5e-7, "text": '1e-05 "2e-3'}
    text = run_folder.to_json({**data, "array": np.float32(0.5), "path": Path("a/b")})
    read = yaml.safe_load(text)
    assert read == json.loads(text) == {**data, "array": 0.5, "path": "a/b"}
    assert isinstance(read["rate"], float)


def test_config_is_there_before_the_first_step_and_summary_only_at_the_end(root):
    run = start(root, variant="v9", learning_rate=1e-4)
    assert run.path == root / "outputs" / "tiny" / "01_first-v9"
    assert json.loads((run.path / "config.json").read_text())["learning_rate"] == 1e-4
    with pytest.raises(ValueError, match="has not finished.*--only 01_first-v9"):
        read_summary(run.path)
    run.finish()
    assert read_summary(run.path)["status"] == "finished"


def test_summary_tells_what_was_made_and_how_to_make_it_again(root):
    run = start(root)
    write_atomic(run.path / "images" / "a.bin", b"1234")
    (run.path / ".x.1-0.partial.bin").write_bytes(b"half")
    run.note(precision="float32")
    summary = run.finish(verdict="learned", score=np.float64(0.5))
    assert summary == {**read_summary(run.path), "results": summary["results"]}
    assert read_summary(run.path)["results"] == {"verdict": "learned", "score": 0.5}
    assert summary["artefacts"] == [
        {
            "path": "images/a.bin",
            "bytes": 4,
            "sha256": "03ac674216f3e15c761ee1a5e255f067953623c8b388b4459e13f978d7c846f4",
        }
    ]
    assert summary["seeds"] == {"seed": 3}
    assert summary["facts"] == {"precision": "float32"}
    assert summary["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"torch", "numpy", "pandas", "ohlora_lib"} <= summary["versions"].keys()
    assert summary["hardware"]["cores"] >= 1
    assert summary["wall_sec"] >= 0
    assert summary["started"] <= summary["finished"]
    assert "papermill notebooks/01_first.ipynb" in summary["command"]
    assert "-f outputs/tiny/01_first/config.json" in summary["command"]


def test_inputs_are_recorded_and_must_be_finished(root):
    with pytest.raises(ValueError, match=r"base_run is 'outputs/tiny/01_first'.*does not exist"):
        start(root, "02_second", base_run="outputs/tiny/01_first")
    first = start(root)
    with pytest.raises(ValueError, match="ohlora run params/tiny --only 01_first"):
        start(root, "02_second", base_run="outputs/tiny/01_first")
    first.finish()
    second = start(root, "02_second", base_run="outputs/tiny/01_first", other_runs=[])
    assert second.inputs == {"base_run": first.path, "other_runs": []}
    fact = second.finish()["inputs"]["base_run"]
    assert fact["path"] == "outputs/tiny/01_first"
    assert fact["results_sha256"] == results_sha256(read_summary(first.path))


def test_damaged_summary_is_said(root):
    run = start(root)
    run.finish()
    (run.path / "summary.json").write_text('{"status": "fini')
    with pytest.raises(ValueError, match="damaged"):
        read_summary(run.path)


def test_starting_again_keeps_what_a_stopped_run_goes_on_from(root):
    run = start(root)
    write_atomic(run.path / "checkpoints" / "state.pt", b"state")
    write_atomic(run.path / "images" / "old.png", b"old")
    start(root)
    assert (run.path / "checkpoints" / "state.pt").exists()
    assert (run.path / "images" / "old.png").exists()
    assert (run.path / "config.json").exists()


def test_a_notebook_saved_on_by_who_opens_it_is_no_artefact(root):
    run = start(root)
    write_atomic(run.path / "OUT.ipynb", "{}")
    write_atomic(run.path / ".ipynb_checkpoints" / "OUT-checkpoint.csv", "{}")
    write_atomic(run.path / "kept.csv", "a")
    assert [fact["path"] for fact in run.finish()["artefacts"]] == ["kept.csv"]


def test_the_project_of_a_run_is_found_through_a_linked_outputs(root, tmp_path):
    elsewhere = tmp_path / "disk" / "large"
    elsewhere.mkdir(parents=True)
    (root / "outputs").rmdir() if (root / "outputs").exists() else None
    (root / "outputs").symlink_to(elsewhere, target_is_directory=True)
    run = start(root)
    run.finish()
    assert run_folder.root_of(run.path).resolve() == root.resolve()
    assert (
        run_folder.root_of(run.path.parent / ".earlier" / run.path.name).resolve()
        == root.resolve()
    )


def test_the_remedy_of_a_seeds_study_is_a_command_that_is_there(root):
    with pytest.raises(ValueError, match=r"ohlora run params/tiny --seed 3 --only 01_first"):
        read_summary(root / "outputs" / "tiny-seed3" / "01_first")


def test_a_finished_run_keeps_nothing_to_go_on_from(root):
    run = start(root)
    write_atomic(run.path / "checkpoints" / "state.pt", b"state")
    write_atomic(run.path / "checkpoints" / "generator.bin", b"kept")
    summary = run.finish()
    assert [fact["path"] for fact in summary["artefacts"]] == ["checkpoints/generator.bin"]
    assert not (run.path / "checkpoints" / "state.pt").exists()


def test_second_writer_is_refused_and_a_crash_frees_the_folder(root):
    code = (
        "import os, sys; from pathlib import Path\n"
        "from ohlora_lib.study.run_folder import start_run\n"
        "start_run('01_first', {'study': 'tiny', 'seed': 0}, root=Path(sys.argv[1]))\n"
        "print('open', flush=True); sys.stdin.readline(); os._exit(9)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(run_folder.__file__).parents[1],
    )
    with holder:
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(ValueError, match=rf"process {holder.pid} on .* \(since 20"):
            start(root)
        holder.communicate(b"\n")
    assert holder.returncode == 9
    start(root).finish()


def test_the_same_process_may_start_again(root):
    start(root)
    run = start(root)  # as when a notebook's cell is run twice
    run.finish()
    assert run.path not in run_folder._held


def test_an_outputs_folder_that_cannot_be_written_is_one_line(root):
    (root / "outputs").write_text("a file, so that even root cannot write here")
    with pytest.raises(ValueError, match=r"cannot be written \(") as error:
        start(root)
    assert "\n" not in str(error.value)
    assert root / "outputs/tiny/01_first" not in run_folder._held


def test_imports_nothing_beyond_the_core():
    code = (
        "import sys, ohlora_lib.study.run_folder; "
        "print([m for m in 'torch pandas pydantic rich papermill'.split() if m in sys.modules])"
    )
    folder = Path(run_folder.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=folder, text=True)
    assert done.stdout.strip() == "[]", done.stderr
    assert os.environ.get("OHLORA_ROOT") is None


def changed(path):
    path.write_bytes(path.read_bytes().replace(b"a", b"b"))


def cut(path):
    path.write_bytes(b"a")


TAMPERED = {
    "table changed": (changed, "scores.csv", "scores.csv was changed: its sha256"),
    "table cut": (cut, "scores.csv", "scores.csv has 1 bytes instead of 4"),
    "weights changed": (changed, "g.safetensors", "g.safetensors was changed"),
    "store cut": (cut, "images/x.npy", "x.npy has 1 bytes"),
    "gone": (Path.unlink, "images/x.npy", "x.npy is gone"),
}


def finished_run(root):
    run = start(root)
    for name in ("scores.csv", "g.safetensors", "images/x.npy", "checkpoints/g.safetensors"):
        write_atomic(run.path / name, b"aaa\n")
    run.finish()
    return run.path


@pytest.mark.parametrize("how", TAMPERED)
def test_files_of_an_input_are_those_of_its_summary(root, how):
    folder = finished_run(root)
    start(root, "02_second", base_run="outputs/tiny/01_first").finish()
    action, name, said = TAMPERED[how]
    action(folder / name)
    with pytest.raises(ValueError, match=said) as caught:
        start(root, "02_second", base_run="outputs/tiny/01_first")
    assert str(caught.value).startswith("base_run is 'outputs/tiny/01_first'. ")
    assert str(caught.value).endswith("ohlora run params/tiny --only 01_first --force")


def test_stores_and_kept_checkpoints_go_by_their_size(root):
    """They are many or large: their hashes would take longer than what reads them."""
    folder = finished_run(root)
    changed(folder / "images" / "x.npy")
    changed(folder / "checkpoints" / "g.safetensors")
    start(root, "02_second", base_run="outputs/tiny/01_first").finish()


def test_a_failure_is_no_finished_run_and_goes_when_the_stage_starts(root):
    run = start(root)
    run_folder.write_failure(run.path, "killed", "its kernel died", notebook="01_first")
    with pytest.raises(ValueError, match=r"not finished \(killed: its kernel died\)\. Make it"):
        read_summary(run.path)
    assert read_failure(run.path)["notebook"] == "01_first"
    start(root)
    assert read_failure(run.path) is None
    run.finish()
    assert read_failure(run.path) is None
