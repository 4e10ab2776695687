"""Sweeps of a study of tiny notebooks; those that start kernels or a cluster are slow."""

import _thread
import csv
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
import yaml

from ohlora_lib.runner import stages, sweep
from ohlora_lib.runner.runner import StageError, StageInterrupted
from ohlora_lib.runner.sweep import lay_out, parse_grid, parse_seeds, run_sweep
from ohlora_lib.study import machine
from ohlora_lib.study.model import NAME
from ohlora_lib.study.run_folder import read_summary
from tests import stand_ins
from tests.runner.test_runner import Listening
from tests.stand_ins import Compare, Finetune, journal, make_project, write_notebook, write_params

V8, V9 = "05_finetune_generator-v8", "05_finetune_generator-v9"
GRID = ["r1_gamma=1,10"]
REPORT = "tiny-sweep-r1_gamma/08_compare_runs"


@pytest.fixture
def project(tmp_path, monkeypatch):
    return make_project(tmp_path, monkeypatch)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """One early stage, one fine-tuning and its evaluation, run by real commands."""
    monkeypatch.setattr(sweep, "OHLORA", (stand_ins.__file__,))
    return make_project(tmp_path, monkeypatch, variants=("v9",))


def study_of(root):
    return stages.read_study(root / "params/tiny", root)


def laid_out(root, *grid, seeds=()):
    return lay_out(root / "params/tiny", root, parse_grid(grid, study_of(root)), seeds)


def axis(text, root):
    (found,) = parse_grid([text], study_of(root))
    return found.stages, found.values


def test_a_bare_name_is_the_fine_tunings_where_others_have_it_too(project):
    assert axis("r1_gamma=1,10,1.0e+2", project) == ([V8, V9], [1.0, 10.0, 100.0])
    assert axis("value=1, 2", project) == (["01_first"], [1, 2])
    assert axis("*-v9.r1_gamma=1", project)[0] == [V9]
    assert len(axis("concept={a: 1},{a: 0}", project)[0]) == 5  # means the same in every stage


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("r1_gama=1", "Did you mean .'r1_gamma'"),
        ("r1_gamma=", "must be NAME=VALUE"),
        ("r1_gamma=[1", "must be NAME=VALUE"),
        ("r1_gamma=-1", "r1_gamma is -1"),
        ("r1_gamma=1e-4", "write 1.0e-4"),
        ("r1_gamma=1,2,1.0", "each value once"),
        ("seed=1,2", "there is --seeds"),
        ("07*.r1_gamma=1", "no stage 07. has a parameter 'r1_gamma'"),
    ],
)
def test_mistakes_of_a_grid_are_one_line(project, text, words):
    with pytest.raises(ValueError, match=words) as error:
        parse_grid([text], study_of(project))
    assert "\n" not in str(error.value)


def test_seeds_are_numbers_and_ranges():
    assert parse_seeds("0-2,7") == [0, 1, 2, 7]
    assert parse_seeds("") == []
    for text in ("3-1", "a", "1,", "-1", "0-99999", "1.5", "0-2,1"):
        with pytest.raises(ValueError, match="--seeds has"):
            parse_seeds(text)


def test_a_point_has_what_the_grid_reaches_and_reads_the_rest_from_its_parent(project):
    text = "variant: v9\nfirst_run: outputs/tiny/01_first\nconcept: {a: 1.0}\n"
    write_params(project, V9, f"{text}start_file: outputs/tiny/{V8}/a.bin\n")
    parents, points = laid_out(project, "05*-v8.r1_gamma=1,10", seeds=(0, 3))
    assert [point.name for point in points] == [
        f"tiny-r1_gamma-{value}-seed{seed}" for seed in (0, 3) for value in (1, 10)
    ]
    parent, last = parents[-1], points[-1]
    assert last.shared == parent.stages
    assert (parent.name, [stage.name for stage in parent.stages]) == ("tiny-seed3", ["01_first"])
    assert parent.command[-2:] == ("--seed", "3")
    first, second = last.stages[:2]
    assert (first.parameters.r1_gamma, second.parameters.r1_gamma) == (10, 10)
    assert {(s.parameters.seed, s.parameters.study) for s in last.stages} == {(3, last.name)}
    assert second.parameters.first_run == "outputs/tiny-seed3/01_first"
    assert second.parameters.start_file == f"outputs/{last.name}/{V8}/a.bin"
    sweep.write_study(last, project)
    read = stages.read_study(project / "params" / last.name, project)
    assert [s.parameters for s in read] == [s.parameters for s in last.stages]
    own = project / "params" / last.name / "notes.yaml"
    own.write_text("mine")
    with pytest.raises(ValueError, match=r"notes.yaml is in the way"):
        sweep.write_study(last, project)
    assert own.exists()


def test_without_a_grid_a_point_is_the_study_with_its_seed(project):
    (parent,), (point,) = laid_out(project, seeds=[4])
    assert (point.name, point.stages, point.shared) == ("tiny-seed4", [], parent.stages)
    assert parent.stages == stages.read_study(project / "params/tiny", project, seed=4)


def test_names_are_safe_short_and_apart():
    texts = ["a/../../etc", "a b", "a_b", "x" * 500, "x" * 501]
    names = {stages.seeded(stages.folder_name(text), 10**8) for text in texts}
    assert len(names) == len(texts)
    assert all(re.fullmatch(NAME, name) for name in names)
    assert [sweep.text_of(v) for v in (10.0, 1e-4, True, "v9")] == ["10", "0.0001", "true", "v9"]


def test_processes_share_the_cores(monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: 8)
    for given, share in {"": {"OMP_NUM_THREADS": "2"}, "5,1": {}}.items():
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        assert sweep.thread_share(3) == share


def await_files(root, pattern, count):
    deadline = time.monotonic() + 120
    while len(found := list(root.glob(pattern))) < count:
        assert time.monotonic() < deadline, f"{pattern} never came"
        time.sleep(0.1)
    return found


WAIT = (
    "mark = pathlib.Path(f'at-work-{r1_gamma}-{os.getpid()}')\n"
    "if r1_gamma in HELD and not pathlib.Path('go').exists():\n"
    "    mark.touch()\n"
    "    try:\n        time.sleep(600)\n"
    "    except KeyboardInterrupt:\n        pathlib.Path(f'saved-{r1_gamma}').touch()"
)


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc whose child it is")
def test_a_point_killed_takes_only_itself_along_and_the_next_start_goes_on(small):
    write_notebook(small, Finetune, WAIT.replace("HELD", "[10]"))
    write_notebook(small, Compare, "print(names)")

    def kill():
        (mark,) = await_files(small, "at-work-*", 1)
        command = parent_of(parent_of(int(mark.name.split("-")[-1])))  # kernel, notebook's process
        (small / "go").touch()
        os.kill(command, signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    listening = Listening()
    with pytest.raises(StageError, match="did not finish: tiny-r1_gamma-10[.]"):
        run_sweep("params/tiny", grid=GRID, workers=2, status=listening)
    assert any("tiny-r1_gamma-10  failed: its process was" in line for line in listening.lines)
    points = small / "outputs/tiny-sweep-r1_gamma/points.csv"
    rows = list(csv.DictReader(points.read_text().splitlines()))
    assert [row["finished"] for row in rows] == ["3 of 3", "1 of 3"]
    page = run_sweep("params/tiny", grid=GRID, workers=2, status=Listening())
    ended = ["tiny/01_first", REPORT]
    ended += [
        f"tiny-r1_gamma-{k}/{stage}" for k in (1, 10) for stage in (V9, "06_evaluate_samples-v9")
    ]
    assert sorted(journal(small, "end")) == sorted(ended)  # each once
    summary = read_summary(small / "outputs" / REPORT)
    assert summary["inputs"]["evaluation_runs"][1]["path"].startswith(
        "outputs/tiny-r1_gamma-10/06"
    )
    written = yaml.safe_load((small / "params" / f"{REPORT}.yaml").read_text())
    assert written["names"] == ["v9 r1_gamma=1", "v9 r1_gamma=10"]
    assert page == small / "outputs/tiny-sweep-r1_gamma/index.html"
    assert '<a href="../tiny-r1_gamma-10/index.html">' in page.read_text()
    again = Listening()
    run_sweep("params/tiny", grid=GRID, workers=2, status=again)
    assert sum("unchanged" in line for line in again.lines) == 4
    assert sorted(journal(small, "end")) == sorted(ended)


@pytest.mark.slow
def test_ctrl_c_lets_stages_save(small):
    write_notebook(small, Finetune, WAIT.replace("HELD", "[1, 10]"))

    def press():
        await_files(small, "at-work-*", 2)
        _thread.interrupt_main()

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(StageInterrupted, match="stopped by Ctrl-C") as error:
        run_sweep("params/tiny", grid=GRID, workers=2, status=Listening())
    assert error.value.exit_status == 130
    assert len(list(small.glob("saved-*"))) == 2
    assert journal(small, "end") == ["tiny/01_first"]


@pytest.mark.slow
def test_a_dask_cluster_runs_the_points(small):
    distributed = pytest.importorskip("distributed", reason="needs Dask")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(processes=True, **options) as cluster:
        address = cluster.scheduler_address
        run_sweep("params/tiny", grid=GRID, seeds="0,1", scheduler=address, status=Listening())
    assert len(journal(small, "end")) == 2 + 4 * 2 + 1
    written = yaml.safe_load((small / "params" / f"{REPORT}.yaml").read_text())
    assert written["names"] == ["v9 r1_gamma=1"] * 2 + ["v9 r1_gamma=10"] * 2  # seeds are pooled
    with pytest.raises(ValueError, match="cannot be reached") as error:
        run_sweep("params/tiny", scheduler="nothing://1", status=Listening())
    assert "\n" not in str(error.value)
