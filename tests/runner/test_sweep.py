"""Sweeps of tiny notebooks; those that start kernels or a cluster are slow."""

import _thread
import csv
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from stand_ins import Compare, Finetune, journal, make_project, write_notebook, write_params

from ohlora_lib.runner import sweep, sweep_task
from ohlora_lib.runner.runner import StageDied, StageError
from ohlora_lib.runner.sweep import SweepError, SweepStopped, run_sweep
from ohlora_lib.runner.sweep_task import Outcome, Signal
from ohlora_lib.study import run_folder
from tests.runner.test_runner import Listening

GRID = ["r1_gamma=1,10"]
REPORT = "tiny-sweep-r1_gamma/08_compare_runs"
WORKER_OF_KERNEL = "int(open(f'/proc/{os.getppid()}/stat').read().rsplit(')', 1)[1].split()[1])"


@pytest.fixture
def project(tmp_path, monkeypatch):
    return make_project(tmp_path, monkeypatch)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """One fine-tuning; with GRID: one early stage, then two of each."""
    return make_project(tmp_path, monkeypatch, variants=("v9",))


def finish(task):
    """Leaves a run folder as a notebook would."""
    parameters = task.stage.parameters
    run = run_folder.start_run(
        parameters.NOTEBOOK, parameters.config(), input_runs=parameters.input_runs()
    )
    run.finish(verdict="ended")


class Pretend:
    """Stands in for `run_task`: finishes stages without a kernel, and remembers when."""

    def __init__(self, bad=(), wait_sec=0.05):
        self.bad, self.wait_sec = bad, wait_sec
        self.spans, self.now, self.most, self.lock = {}, 0, 0, threading.Lock()

    def __call__(self, task, root, signal, *, force=False):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        began = time.monotonic()
        time.sleep(self.wait_sec)
        broken = any(text in task.name for text in self.bad)
        if not broken:
            finish(task)
        with self.lock:
            self.now -= 1
            assert task.name not in self.spans, "ran twice"
            self.spans[task.name] = (began, time.monotonic())
        return (
            Outcome("failed", f"{task.stage.name}: cell [3]: bad") if broken else Outcome("done")
        )


def pretend(monkeypatch, **options):
    stand_in = Pretend(**options)
    monkeypatch.setattr(sweep, "run_task", stand_in)
    return stand_in


def test_stages_wait_for_what_they_need_and_run_beside_each_other(project, monkeypatch):
    stand_in, listening = pretend(monkeypatch), Listening()
    page = run_sweep("params/tiny", grid=GRID, seeds="0-1", workers=3, status=listening)
    assert stand_in.most == 3
    assert len(stand_in.spans) == 2 + 4 * 5 + 1
    for name, (began, _) in stand_in.spans.items():
        study, _, stage = name.partition("/")
        if stage.startswith("06") and "sweep" not in study:
            _, trained = stand_in.spans[
                f"{study}/{stage.replace('06_evaluate_samples', '05_finetune_generator')}"
            ]
            assert trained <= began
    report = run_folder.read_summary(project / "outputs" / REPORT)
    config = (project / "outputs" / REPORT / "config.json").read_text()
    assert config.count('"v9 r1_gamma=10"') == 2  # two seeds, pooled
    assert report["inputs"]["evaluation_runs"][-1]["path"] == (
        "outputs/tiny-r1_gamma-10-seed1/06_evaluate_samples-v9"
    )
    assert report["seeds"] == {"seed": 5}  # of the study's own comparison
    assert page == project / "outputs/tiny-sweep-r1_gamma/index.html"
    rows = list(csv.DictReader(page.with_name("points.csv").read_text().splitlines()))
    assert len(rows) == 8
    assert rows[-1]["study"] == "tiny-r1_gamma-10-seed1"
    assert rows[-1] | {"run": "v9", "r1_gamma": "10", "seed": "1"} == rows[-1]
    assert {row["finished"] for row in rows} == {"6 of 6"}
    assert "Points" in page.read_text()
    lines = [line for line in listening.lines if "running" in line]
    assert len(lines) == 22
    assert lines[-1].startswith("[22/22, 0 running, 0 left] ")
    assert "4 points, 22 stages (24 without sharing), 3 workers" in listening.lines[1]


def test_a_failure_takes_only_what_needs_it_along(project, monkeypatch):
    stand_in = pretend(monkeypatch, bad=["tiny-r1_gamma-1/05_finetune_generator-v8"])
    listening = Listening()
    with pytest.raises(
        SweepError, match=r"1 stage failed \(tiny-r1_gamma-1/05.*2 stages .* left out"
    ) as error:
        run_sweep("params/tiny", grid=GRID, workers=2, status=listening)
    assert error.value.exit_status == 1
    assert "\n" not in str(error.value)
    out = [line for line in listening.lines if "left out" in line]
    assert [line.split()[5] for line in out] == [
        "tiny-r1_gamma-1/06_evaluate_samples-v8", "tiny-r1_gamma-1/08_compare_runs"
    ]  # fmt: skip
    failed = [line for line in listening.lines if "  failed  " in line]
    assert len(failed) == 1
    assert "cell [3]: bad" in failed[0]
    assert len(stand_in.spans) == 9 + 1  # all others, and the comparison of what there is
    config = (project / "outputs" / REPORT / "config.json").read_text()
    assert '"v8 r1_gamma=1"' not in config
    assert '"v8 r1_gamma=10"' in config
    page = (project / "outputs/tiny-sweep-r1_gamma/points.csv").read_text()
    assert page.splitlines()[1].startswith("v8,1,3 of 6,05_finetune")


def test_one_seed_of_several_is_not_compared(project, monkeypatch):
    pretend(monkeypatch, bad=["tiny-r1_gamma-1-seed0/05_finetune_generator-v8"])
    listening = Listening()
    with pytest.raises(SweepError):
        run_sweep("params/tiny", grid=GRID, seeds="0,1", workers=4, status=listening)
    assert any("v8 r1_gamma=1: one seed alone" in line for line in listening.lines)
    config = (project / "outputs" / REPORT / "config.json").read_text()
    assert '"v8 r1_gamma=1"' not in config


def test_what_cannot_be_compared_is_not(small, monkeypatch):
    pretend(monkeypatch)
    listening = Listening()
    page = run_sweep("params/tiny", seeds="0-2", status=listening)
    assert any(line.startswith("no comparison") for line in listening.lines)
    assert not (page.parent / "08_compare_runs").exists()
    assert page.parent.name == "tiny-sweep"


def test_mistakes_are_said_before_anything_starts(project, monkeypatch):
    monkeypatch.setattr(sweep, "run_task", lambda *_, **__: pytest.fail("ran a stage"))
    for options in (
        {"grid": ["r1_gama=1"]},
        {"seeds": "2-1"},
        {"only": "03*"},
        {"grid": GRID, "only": "05*"},  # needs a stage that has not run
    ):
        with pytest.raises(ValueError, match=r"^.+$"):
            run_sweep("params/tiny", status=Listening(), **options)
    assert not list((project / "outputs").glob("*/0*")) if (project / "outputs").exists() else True


def one_task(project):
    from ohlora_lib.runner import stages
    from ohlora_lib.runner.sweep_plan import plan_sweep

    plan = plan_sweep(stages.read_study(project / "params/tiny", project), project, [], [])
    return next(iter(plan.tasks.values()))


@pytest.fixture
def going(tmp_path):
    found = Signal(tmp_path / "going")
    found.begin()
    return found


def deaths(monkeypatch, count, kind=StageDied):
    """Lets a stage die so often, then finish; gives the list of its attempts."""
    tries = []

    def run_stage(stage, workers, status, label, why, command):
        tries.append(why.anew)
        if len(tries) <= count:
            raise kind(f"{stage.name}: its kernel died")

    monkeypatch.setattr(sweep_task, "run_stage", run_stage)
    return tries


def test_a_stage_that_dies_is_tried_three_times_and_no_more(project, monkeypatch, going):
    tries = deaths(monkeypatch, 2)
    outcome = sweep_task.run_task(one_task(project), project, going, force=True)
    assert (outcome.state, outcome.attempts) == ("done", 3)
    assert "its kernel died" in outcome.text
    assert tries == [True, False, False]  # what was saved is not thrown away
    tries = deaths(monkeypatch, 9)
    outcome = sweep_task.run_task(one_task(project), project, going)
    assert outcome.state == "failed"
    assert outcome.text.endswith("its kernel died, 3 times")
    assert len(tries) == 3


def test_a_stage_that_fails_by_itself_is_tried_once(project, monkeypatch, going):
    tries = deaths(monkeypatch, 9, StageError)
    assert sweep_task.run_task(one_task(project), project, going).state == "failed"
    assert len(tries) == 1


def test_nothing_starts_once_stopped(project, monkeypatch, going):
    tries = deaths(monkeypatch, 0)
    going.stop()
    assert sweep_task.run_task(one_task(project), project, going).state == "stopped"
    assert tries == []


def test_a_watch_stops_once_for_each_time_it_is_told(going):
    watch = sweep_task.Watch(going)
    watch.tick()
    for _ in range(2):
        going.stop()
        with pytest.raises(KeyboardInterrupt):
            watch.tick()
        watch.tick()


def test_a_folder_that_stays_taken_is_said(tmp_path):
    from ohlora_lib.study.locks import FolderLock

    lock = FolderLock(tmp_path)
    threading.Timer(0.3, lock.release).start()
    sweep_task.wait_until_free(tmp_path, 120)
    lock = FolderLock(tmp_path)
    with pytest.raises(ValueError, match=f"process {os.getpid()}"):
        sweep_task.wait_until_free(tmp_path, 0.1)
    lock.release()


@pytest.mark.slow
def test_kernels_killed_once_and_a_second_start_that_does_nothing(small):
    write_notebook(
        small,
        Finetune,
        "mark = pathlib.Path(f'killed-{r1_gamma}')\n"
        "if r1_gamma == 10 and not mark.exists():\n"
        "    mark.touch()\n    os.kill(os.getppid(), 9)\n    time.sleep(600)",
    )
    write_notebook(small, Compare, "print(names)")
    listening = Listening()
    run_sweep("params/tiny", grid=GRID, workers=2, status=listening)
    expected = ["tiny/01_first", REPORT]
    expected += [f"tiny-r1_gamma-{k}/05_finetune_generator-v9" for k in (1, 10)]
    expected += [f"tiny-r1_gamma-{k}/06_evaluate_samples-v9" for k in (1, 10)]
    assert sorted(journal(small, "end")) == sorted(expected)
    twice = [name for name in expected if journal(small, "start").count(name) == 2]
    assert twice == ["tiny-r1_gamma-10/05_finetune_generator-v9"]
    assert any("(attempt 2; before, 05_finetune" in line for line in listening.lines)
    assert run_folder.read_summary(small / "outputs" / REPORT)["status"] == "finished"
    assert not list(small.glob("outputs/*/.going*"))

    again = Listening()
    run_sweep("params/tiny", grid=GRID, workers=2, status=again)
    assert sorted(journal(small, "end")) == sorted(expected)
    assert sum("unchanged" in line for line in again.lines) == len(expected)
    write_params(small, "01_first", "value: 4\n")
    changed = Listening()
    run_sweep("params/tiny", grid=["r1_gamma=1,10"], workers=2, status=changed)
    assert journal(small, "end").count("tiny/01_first") == 2
    done = [line for line in changed.lines if "  done" in line]
    assert len(done) == 1  # it leaves the same results, so nothing that needs it runs again


@pytest.mark.slow
def test_ctrl_c_lets_stages_save_and_the_next_start_goes_on(small):
    write_notebook(
        small,
        Finetune,
        "mark = pathlib.Path(f'ready-{r1_gamma}')\n"
        "if not mark.exists():\n"
        "    mark.touch()\n"
        "    try:\n        time.sleep(600)\n"
        "    except KeyboardInterrupt:\n        pathlib.Path(f'saved-{r1_gamma}').touch()",
    )

    def press():
        while len(list(small.glob("ready-*"))) < 2:
            time.sleep(0.1)
        _thread.interrupt_main()

    threading.Thread(target=press, daemon=True).start()
    listening = Listening()
    with pytest.raises(SweepStopped, match="stopped by Ctrl-C") as error:
        run_sweep("params/tiny", grid=GRID, workers=2, status=listening)
    assert error.value.exit_status == 130
    assert len(list(small.glob("saved-*"))) == 2
    assert any("2 stages may save" in line for line in listening.lines)
    assert journal(small, "end") == ["tiny/01_first"]
    assert not list(small.glob("outputs/*/.going*"))
    run_sweep("params/tiny", grid=GRID, workers=2, status=Listening())
    assert len(journal(small, "end")) == 6


def await_text(path: Path, seconds: float = 120) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if path.exists() and path.read_text().endswith("\n"):
            return path.read_text()
        time.sleep(0.1)
    raise AssertionError(f"{path} never came")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc whose child it is")
def test_a_dask_worker_killed_at_work_costs_only_what_it_was_doing(small):
    """The kernel tells whose it is, and waits until that worker was killed."""
    distributed = pytest.importorskip("distributed", reason="needs Dask")
    write_notebook(
        small,
        Finetune,
        "if r1_gamma == 10 and not pathlib.Path('go').exists():\n"
        f"    worker = {WORKER_OF_KERNEL}\n"
        "    pathlib.Path('at-work').write_text(f'{worker} {os.getpid()}\\n')\n"
        "    while not pathlib.Path('go').exists():\n        time.sleep(0.1)\n    time.sleep(60)",
    )
    killed = []

    def kill():
        worker, kernel = map(int, await_text(small / "at-work").split())
        killed.append(worker)
        os.kill(worker, signal.SIGKILL)
        while alive(kernel):
            time.sleep(0.1)
        (small / "go").touch()

    killer = threading.Thread(target=kill, daemon=True)
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    listening = Listening()
    with distributed.LocalCluster(processes=True, **options) as cluster:
        pids = {worker.pid for worker in cluster.workers.values()}
        killer.start()
        run_sweep("params/tiny", grid=GRID, scheduler=cluster.scheduler_address, status=listening)
    killer.join(120)
    assert len(killed) == 1
    assert killed[0] in pids
    ended = journal(small, "end")
    assert len(ended) == len(set(ended)) == 6  # each once, and all of them
    again = [name for name in ended if journal(small, "start").count(name) > 1]
    assert again == ["tiny-r1_gamma-10/05_finetune_generator-v9"]
    assert any("2 workers of tcp://" in line for line in listening.lines)


def test_a_scheduler_that_is_not_there_is_one_line(project, monkeypatch):
    pytest.importorskip("distributed", reason="needs Dask")
    monkeypatch.setattr("ohlora_lib.runner.fanout.CONNECT_SEC", 1)
    with pytest.raises(ValueError, match="does not answer.*dask scheduler") as error:
        run_sweep("params/tiny", scheduler="tcp://127.0.0.1:9", status=Listening())
    assert "\n" not in str(error.value)
