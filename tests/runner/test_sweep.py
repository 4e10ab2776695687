"""Sweeps over a study of tiny notebooks; tests that start kernels or a cluster are slow."""

import csv
import io
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import yaml
from rich.console import Console

from ohlora_lib.runner import stages, sweep
from ohlora_lib.runner.runner import StageError, StageInterrupted
from ohlora_lib.runner.status import Status, SweepProgress
from ohlora_lib.runner.sweep import lay_out, parse_grid, parse_seeds, run_sweep
from ohlora_lib.study import machine, records
from ohlora_lib.study.model import NAME
from ohlora_lib.study.run_folder import start_run
from tests.checks import complaint
from tests.runner.test_runner import Listening
from tests.stand_ins import (
    PACKAGE_ROOT,
    Compare,
    Finetune,
    journal,
    make_project,
    write_notebook,
    write_params,
)

V8, V9 = "05_finetune_generator-v8", "05_finetune_generator-v9"
GRID = ["r1_gamma=1,10"]
REPORT = "tiny-sweep-r1_gamma/08_compare_runs"


@pytest.fixture
def project(tmp_path, monkeypatch):
    return make_project(tmp_path, monkeypatch)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A project with one early stage, one fine-tuning run and its evaluation."""
    return make_project(tmp_path, monkeypatch, variants=("v9",))


def axes_of(root, *grid):
    return parse_grid(grid, stages.read_study(root / "params/tiny", root))


def laid_out(root, *grid, seeds=()):
    return lay_out(root / "params/tiny", root, axes_of(root, *grid), seeds)


def test_a_bare_name_refers_to_the_fine_tunings_even_if_other_stages_have_it(project):
    grid = ["r1_gamma=1,10,1.0e+2", "value=1, 2", "concept={a: 1},{a: 0}"]
    gamma, value, concept = axes_of(project, *grid)
    assert (gamma.stages, gamma.values) == ([V8, V9], [1.0, 10.0, 100.0])
    assert (value.stages, value.values) == (["01_first"], [1, 2])
    assert len(concept.stages) == 5  # has one meaning in every stage
    assert axes_of(project, "*-v9.r1_gamma=1")[0].stages == [V9]


MISTAKES = {
    "r1_gama=1": "Did you mean 'r1_gamma'",
    "r1_gamma=": "must be NAME=VALUE",
    "r1_gamma=-1": "r1_gamma is -1",
    "r1_gamma=1e-4": "write 1.0e-4",
    "r1_gamma=1,2,1.0": "each value once",
    "seed=1,2": "there is --seeds",
    "07*.r1_gamma=1": "'07.' matches no stage that has r1_gamma. Choose from .*'05_finetune_gen",
    "5.r1_gamma=1": r"'5' matches no stage that has r1_gamma. Did you mean '05\*'\?",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_of_a_grid_are_one_line(project, text):
    assert re.search(MISTAKES[text], complaint(axes_of, project, text))


def test_seeds_are_numbers_and_ranges():
    assert parse_seeds("0-2,7") == [0, 1, 2, 7]
    assert parse_seeds("") == []
    for text in ("3-1", "a", "1,", "-1", "0-99999", "1.5", "0-2,1"):
        assert "--seeds has" in complaint(parse_seeds, text)


def test_a_point_has_the_affected_stages_and_reads_the_rest_from_its_parent(project):
    text = "variant: v9\nfirst_run: outputs/tiny/01_first\nconcept: {a: 1.0}\n"
    write_params(project, V9, f"{text}start_file: outputs/tiny/{V8}/a.bin\n")
    parents, points = laid_out(project, "05*-v8.r1_gamma=1,10", seeds=(0, 3))
    assert [point.name for point in points[2:]] == [f"tiny-r1_gamma-{k}-seed3" for k in (1, 10)]
    parent, last = parents[-1], points[-1]
    assert last.shared == parent.stages
    assert [stage.path for stage in last.shared] == ["outputs/tiny-seed3/01_first"]
    first, second = last.stages[:2]
    assert (first.parameters.r1_gamma, second.parameters.r1_gamma) == (10, 10)
    assert {(s.parameters.seed, s.parameters.study) for s in last.stages} == {(3, last.name)}
    assert second.parameters.first_run == "outputs/tiny-seed3/01_first"
    assert second.parameters.start_file == f"outputs/{last.name}/{V8}/a.bin"
    sweep.write_study(last, project)
    read = stages.read_study(project / "params" / last.name, project)
    assert [s.parameters for s in read] == [s.parameters for s in last.stages]
    own = project / "params" / last.name / "notes.yaml"
    own.touch()
    assert "notes.yaml was not written by a sweep" in complaint(sweep.write_study, last, project)
    assert own.exists()
    (parent,), (point,) = laid_out(project, seeds=[4])  # without a grid
    assert (point.name, point.stages, point.shared) == ("tiny-seed4", [], parent.stages)


def test_a_sweep_without_a_grid_or_seeds_is_refused(project):
    assert "needs --grid" in complaint(run_sweep, "params/tiny")
    assert not (project / "outputs").exists()


def test_a_sweep_that_cannot_compare_keeps_no_verdict_of_other_points(small, monkeypatch):
    run = start_run("08_compare_runs", {"study": "tiny-sweep-r1_gamma"}, root=small)
    run.finish(verdict="Point 1 is closer.")
    params = small / "params/tiny-sweep-r1_gamma/08_compare_runs.yaml"
    params.parent.mkdir()
    params.touch()

    def fail(*_):
        raise StageError("a reason " * 50 + "to the end")

    monkeypatch.setattr(sweep, "run_point", fail)
    listening = Listening()
    with pytest.raises(StageError, match="tiny-r1_gamma-10"):
        run_sweep("params/tiny", grid=GRID, status=listening)
    assert all(line.endswith("to the end") for line in listening.lines[1:])
    page = (run.path.parent / "index.html").read_text()
    assert "closer" not in page
    assert "No verdict yet" in page
    assert not params.exists()


@pytest.mark.parametrize("terminal", [False, True])
def test_a_sweep_says_which_stages_have_ended_and_how_many_are_left(tmp_path, terminal):
    log, file = tmp_path / "sweep.log", io.StringIO()
    said = Status(Console(file=file, force_terminal=terminal, width=80))
    lines = ["[1/3] a  unchanged, skipped", "[2/3] b  8 s  done  1", "[2/3] b  done  9 s"]
    log.write_text("\n".join([*lines, "[3/3] c  5 s  cell 2/9"]))
    progress = SweepProgress(said, 4)
    with said.live("sweep"):
        progress.show({"tiny": log})
        progress.show({"tiny": log})
    text = machine.printable(file.getvalue())
    for line, left in ((lines[0], 3), (lines[2], 2)):
        assert text.count(f"tiny  {line}, {left} stages left") == 1
    assert ("0 s  2 stages left  tiny  [3/3] c  5 s  cell 2/9" in text) == terminal


def test_names_are_safe_short_and_unique():
    texts = ["a/../../etc", "a b", "a_b", "x" * 500, "x" * 501]
    names = {stages.seeded(stages.folder_name(text), 10**8) for text in texts}
    assert sum(bool(re.fullmatch(NAME, name)) for name in names) == len(texts)
    assert [sweep.text_of(v) for v in (10.0, 1e-4, True, "v9")] == ["10", "0.0001", "true", "v9"]


def test_processes_share_the_cores(monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: 8)
    for given, share in {"": "2", "5,1": "5,1"}.items():
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        with sweep.threads(3) as (_, env):
            assert env == {"OMP_NUM_THREADS": share}


def test_no_two_threads_parse_a_notebook_at_once(monkeypatch):
    """Before Python 3.13, concurrent calls of `ast.parse` occasionally raise SystemError."""
    real, inside, most = records.ast.parse, [], []

    def parse(source):
        inside.append(source)
        most.append(len(inside))
        time.sleep(0.001)
        inside.remove(source)
        return real(source)

    with monkeypatch.context() as patch, ThreadPoolExecutor(4) as pool:
        patch.setattr(records.ast, "parse", parse)
        list(pool.map(records.notebook_code, PACKAGE_ROOT.glob("notebooks/*.ipynb")))
    assert max(most) == 1


def await_files(root, pattern, count):
    deadline = time.monotonic() + 120
    while len(found := list(root.glob(pattern))) < count:
        assert time.monotonic() < deadline, f"{pattern} never came"
        time.sleep(0.1)
    return found


WAIT = (
    "mark = pathlib.Path(f'at-work-{r1_gamma}-{os.getpid()}')\n"
    "if r1_gamma in HELD and not pathlib.Path('go').exists():\n"
    "    try:\n        mark.touch()\n        time.sleep(600)\n"  # the stop may be immediate
    "    except KeyboardInterrupt:\n        pathlib.Path(f'saved-{r1_gamma}').touch()"
)


@pytest.mark.slow
def test_a_killed_point_fails_alone_and_the_next_start_resumes(small):
    write_notebook(small, Finetune, WAIT.replace("HELD", "[10]"))
    write_notebook(small, Compare, "print(names)")

    def kill():
        (mark,) = await_files(small, "at-work-*", 1)
        kernel = psutil.Process(int(mark.name.split("-")[-1]))
        (small / "go").touch()
        kernel.parents()[0].kill()  # the process that runs the point's notebooks

    threading.Thread(target=kill, daemon=True).start()
    listening = Listening()
    with pytest.raises(StageError, match="did not finish: tiny-r1_gamma-10[.]"):
        run_sweep("params/tiny", grid=GRID, workers=2, status=listening)
    assert re.search(
        r"^tiny  \[1/1\] 01_first  done  \d+ s, 4 stages left$", "\n".join(listening.lines), re.M
    )
    assert any(
        "tiny-r1_gamma-10  failed: 05_finetune_generator-v9: its process died" in line
        for line in listening.lines
    )
    text = (small / "outputs/tiny-sweep-r1_gamma/points.csv").read_text()
    rows = csv.DictReader(text.splitlines())
    assert [row["finished"] for row in rows] == ["3 of 3", "1 of 3"]
    page = run_sweep("params/tiny", grid=GRID, workers=2, status=Listening())
    names = (V9, "06_evaluate_samples-v9")
    ended = [f"tiny-r1_gamma-{k}/{name}" for k in (1, 10) for name in names]
    ended += ["tiny/01_first", REPORT]
    assert sorted(journal(small, "end")) == sorted(ended)  # each once
    written = yaml.safe_load((small / "params" / f"{REPORT}.yaml").read_text())
    assert written["names"] == ["v9 r1_gamma=1", "v9 r1_gamma=10"]
    assert written["evaluation_runs"][1] == f"outputs/tiny-r1_gamma-10/{names[1]}"
    assert '<a href="../tiny-r1_gamma-10/index.html">' in page.read_text()
    run_sweep("params/tiny", grid=GRID, workers=2, status=Listening())
    assert sorted(journal(small, "end")) == sorted(ended)


@pytest.mark.slow
def test_ctrl_c_lets_stages_save(small):
    write_notebook(small, Finetune, WAIT.replace("HELD", "[1, 10]"))

    def press():
        await_files(small, "at-work-*", 2)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

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
    options["processes"] = False  # threads, so that workers see the stand-ins
    with distributed.LocalCluster(**options) as cluster:
        address = cluster.scheduler_address
        run_sweep("params/tiny", grid=GRID, seeds="0,1", scheduler=address, status=Listening())
    assert len(journal(small, "end")) == 2 + 4 * 2 + 1
    written = yaml.safe_load((small / "params" / f"{REPORT}.yaml").read_text())
    assert written["names"] == ["v9 r1_gamma=1"] * 2 + ["v9 r1_gamma=10"] * 2  # seeds are pooled
    said = complaint(run_sweep, "params/tiny", seeds="0", scheduler="nothing://1")
    assert "cannot be reached" in said
