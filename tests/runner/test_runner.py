"""Runs tiny notebooks in real kernels, each of which takes seconds to start."""

import io
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
from jupyter_client import AsyncKernelManager
from papermill.execute import execute_notebook
from rich.console import Console

from ohlora_lib.io.disk import write_atomic
from ohlora_lib.runner import kernel, runner, stages, status
from ohlora_lib.runner.runner import StageError, StageInterrupted, run_study
from ohlora_lib.runner.status import Status
from ohlora_lib.study import records
from ohlora_lib.study.machine import printable
from ohlora_lib.study.records import read_json
from ohlora_lib.study.run_folder import start_run
from tests.checks import complaint
from tests.stand_ins import (
    PACKAGE_ROOT,
    Finetune,
    First,
    journal,
    make_project,
    write_notebook,
    write_params,
)

TUNE = "05_finetune_generator-v9"
TEXT = "variant: v9\nconcept: {a: 1.0}\nfirst_run: outputs/tiny/01_first\n"
WRITES = "(run.path / 'value.txt').write_text(str(value))"
READS = (
    "value = int((run.inputs['first_run'] / 'value.txt').read_text())\n"
    "(run.path / 'product.txt').write_text(str(int(value * r1_gamma)))"
)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A two-stage project: the second stage multiplies the first one's result by `r1_gamma`."""
    make_project(tmp_path, monkeypatch, variants=("v9",))
    (tmp_path / "params/tiny/06_evaluate_samples-v9.yaml").unlink()
    write_notebook(tmp_path, First, WRITES)
    write_notebook(tmp_path, Finetune, READS)
    write_params(tmp_path, TUNE, f"{TEXT}r1_gamma: 2.0\n")
    return tmp_path


class Listening(Status):
    """Records all lines and can act on text that the kernel prints."""

    def __init__(self, act=None):
        self.file = io.StringIO()
        super().__init__(Console(file=self.file, soft_wrap=True, highlight=False))
        self.act = act or {}

    def update(self, **news):
        super().update(**news)
        for text, action in self.act.items():
            if text in (news.get("text") or ""):
                action()

    @property
    def lines(self):
        return self.file.getvalue().splitlines()


def ran(status):
    """Names of the stages that ran and finished."""
    return [line.split()[1] for line in status.lines if "  done  " in line]


@pytest.mark.slow
def test_runs_then_skips_then_runs_only_what_changed(project, monkeypatch):
    def run(*expected):
        listening = Listening()
        assert run_study("params/tiny", status=listening) == project / "outputs/tiny/index.html"
        assert ran(listening) == list(expected)
        return (folder / "product.txt").read_text(), "\n".join(listening.lines)

    folder = project / "outputs/tiny" / TUNE
    both = ("01_first", TUNE)
    assert run(*both)[0] == "6"
    command = records.read_summary(folder)["command"]
    assert command == f"ohlora run params/tiny --only {TUNE} --force"
    executed = (folder / "05_finetune_generator.ipynb").read_text()
    assert "unencrypted" not in executed
    assert "TCP" not in executed
    assert "A tiny stage" in (folder / "05_finetune_generator.html").read_text()
    assert f"{TUNE} ended" in (project / "outputs/tiny/index.html").read_text()
    assert not list(project.rglob("*.running.ipynb"))
    with monkeypatch.context() as patch:
        patch.setattr(runner.Worker, "_start", lambda _: pytest.fail("started a process"))
        assert run()[1].count("unchanged, skipped") == 2
    write_params(project, TUNE, f"{TEXT}r1_gamma: 5.0\n")
    product, said = run(TUNE)
    assert (product, said.count("r1_gamma was 2.0 and is now 5.0")) == ("15", 1)
    write_params(project, "01_first", "value: 4\n")
    product, said = run(*both)
    assert (product, "first_run changed" in said) == ("20", True)


def finished_stage(project):
    """Makes the files of a finished stage without running it."""
    study = stages.read_study(project / "params/tiny", project)
    run = start_run("01_first", study[0].parameters.config(), root=project)
    write_atomic(run.path / "value.txt", "3")
    run.finish()
    study[0].page.write_text("<p>drawn</p>")
    return study[0]


def touch_notebook(stage):
    node = json.loads(stage.notebook.read_text())
    node["cells"][-1]["source"] += "\nprint('edited')"
    stage.notebook.write_text(json.dumps(node))


CHANGES = {
    "artefact gone": (lambda stage: (stage.folder / "value.txt").unlink(), "value.txt is gone"),
    "artefact cut": (lambda stage: (stage.folder / "value.txt").write_text(""), "value.txt is"),
    "notebook": (touch_notebook, "notebook_code changed"),
    "summary": (lambda stage: (stage.folder / "summary.json").unlink(), "did not finish"),
    "page": (lambda stage: stage.page.unlink(), "has no page yet"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_makes_the_stage_run(project, change):
    stage = finished_stage(project)
    assert stages.reason_to_run(stage, project) is None
    action, reason = CHANGES[change]
    action(stage)
    found = stages.reason_to_run(stage, project)
    assert reason in found


def test_a_study_may_be_a_link_to_another_disk(project, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("shared") / "tiny"
    (project / "params/tiny").rename(elsewhere)
    (project / "params/tiny").symlink_to(elsewhere)
    assert stages.find_study("params/tiny") == (project / "params/tiny", project)
    with pytest.raises(ValueError, match="is not inside a project .*set OHLORA_ROOT to it"):
        stages.find_study(elsewhere)
    monkeypatch.setenv("OHLORA_ROOT", str(project))
    assert stages.find_study(elsewhere) == (elsewhere, project)


def test_a_study_with_a_seed_has_its_own_name_and_outputs(project):
    first, second = stages.read_study(project / "params/tiny", project, seed=7)
    assert first.folder == project / "outputs/tiny-seed7/01_first"
    assert (second.parameters.study, second.parameters.seed) == ("tiny-seed7", 7)
    assert second.parameters.first_run == "outputs/tiny-seed7/01_first"
    nested = {"a": ["outputs/tiny/x", "outputs/tiny2/x"], "b": 3}
    assert stages.repoint(nested, {"outputs/tiny": "outputs/new"}) == {
        "a": ["outputs/new/x", "outputs/tiny2/x"],
        "b": 3,
    }


STUDY = f"study: tiny\n{TEXT}"
CANNOT_RUN = {  # which stages to run, and of what; message
    "only nothing": ("params/tiny", "03*", "no stage.*01_first"),
    "only without input": ("params/tiny", "05*", "--only 01_first"),
    "a file": ("params/tiny/01_first.yaml", "*", "ohlora run params/tiny --only 01_first"),
    "only a number": ("params/tiny", "5", r"Did you mean '05\*'\?"),
    "a typo": ("params/tinny", "*", "tinny: no such folder. Did you mean 'params/tiny'"),
    "the wrong folder": ("params", "*", "no params files .*Name a study in params/: tiny"),
    "empty": ("params/empty", "*", "no params files"),
    "no tag": ("params/tiny", "*", r"^notebooks/05_\S+.ipynb has no cell tagged 'param"),
    "no disk": ("params/tiny", "01*", r"outputs is a link to /mnt/gone, which does not exist"),
    STUDY.replace("tiny", "other", 1): ("params/tiny", "*", "study is 'other', but the folder is"),
    STUDY.replace("01_first", TUNE): ("params/tiny", "*", f"{TUNE}.yaml: .*does not exist"),
    STUDY.replace("01_first", "00_none"): (
        "params/tiny", "*", "first_run is 'outputs/tiny/00_none'.* params/tiny --only 00_none"
    ),
    f"{STUDY}start_file: a.bin\n": ("params/tiny", "*", "start_file is 'a.bin'"),
}  # fmt: skip


@pytest.mark.parametrize("case", CANNOT_RUN)
def test_a_study_that_cannot_run_gives_one_line_before_anything_starts(project, monkeypatch, case):
    monkeypatch.setattr(runner, "_run_stage", lambda *_, **__: pytest.fail("ran a stage"))
    (project / "params/empty").mkdir()
    notebook = project / "notebooks/05_finetune_generator.ipynb"
    if case == "no tag":
        notebook.write_text(notebook.read_text().replace('"parameters"', '"param"'))
    if case == "no disk":
        (project / "outputs").symlink_to("/mnt/gone")
    if case.startswith("study: "):  # the text of a params file
        (project / f"params/tiny/{TUNE}.yaml").write_text(case)
    folder, only, message = CANNOT_RUN[case]
    said = complaint(run_study, folder, only=only, status=Listening())
    assert re.search(message, said)


@pytest.mark.slow
def test_a_failing_cell_is_named_and_kept(project):
    write_notebook(project, First, "raise ValueError('the labels are upside down')")
    with pytest.raises(StageError) as error:
        run_study("params/tiny", status=Listening())
    reason = "cell [4]: ValueError: the labels are upside down"
    assert str(error.value).startswith(f"01_first: {reason}")
    kept = "(output so far: outputs/tiny/01_first/01_first.ipynb)"
    assert str(error.value).endswith(kept)
    folder = project / "outputs/tiny/01_first"
    assert "upside down" in (folder / "01_first.html").read_text()
    failure = read_json(folder / "summary.json")
    assert failure["status"] == "failed"
    assert failure["reason"].startswith(reason)
    assert failure["command"] == "ohlora run params/tiny --only 01_first"  # resumes


@pytest.mark.slow
def test_a_notebook_that_never_calls_finish_has_failed(project):
    write_notebook(project, First, "run.finish = lambda **_: None")
    with pytest.raises(StageError, match="without run.finish"):
        run_study("params/tiny", only="01*", status=Listening())


@pytest.mark.slow
def test_ctrl_c_lets_the_cell_save_and_starts_no_other_cell(project):
    def press():
        signal.raise_signal(signal.SIGINT)

    write_notebook(
        project,
        First,
        "try:\n    print('ready', flush=True)\n    time.sleep(600)\n"  # the stop may be immediate
        "except KeyboardInterrupt:\n    open('saved', 'w').close()",
    )
    with pytest.raises(StageInterrupted, match="stopped by Ctrl-C"):
        run_study("params/tiny", status=Listening({"ready": press}))
    assert (project / "saved").exists()
    assert journal(project, "start") == ["tiny/01_first"]
    assert journal(project, "end") == []
    first = stages.read_study(project / "params/tiny", project)[0]
    assert stages.reason_to_run(first, project).startswith("did not finish")


def test_a_stage_that_another_runner_holds_is_refused(project, monkeypatch):
    """`study/test_run_folder.py` tests the lock itself, with a second process."""

    def held(folder, name):
        raise ValueError(f"{folder.name}{name}: process 7")

    monkeypatch.setattr(runner, "FolderLock", held)
    monkeypatch.setattr(runner.Worker, "_start", lambda _: pytest.fail("started a process"))
    with pytest.raises(ValueError, match="01_first.runner.lock: process 7"):
        run_study("params/tiny", status=Listening())


def test_a_dead_worker_is_noticed_though_its_child_holds_the_pipe_open(tmp_path, monkeypatch):
    left_behind = "import os, time\nif os.fork():\n    os._exit(3)\ntime.sleep(30)"
    monkeypatch.setattr(runner, "WORKER", left_behind)
    began = time.monotonic()
    worker = runner.Worker(tmp_path, Listening(), None, {})
    assert worker.run({}).reason == "its process ended (exit status 3)"
    worker.close()
    assert time.monotonic() - began < 25


@pytest.mark.slow
def test_the_environment_does_not_disturb_a_run(project, monkeypatch):
    """Output at startup once hung the study, and JUPYTER_PATH once replaced the Python."""
    site, kernels = project / "site", project / "jupyter" / "kernels" / "python3"
    site.mkdir()
    (site / "sitecustomize.py").write_text("print('Welcome to the cluster')")
    kernels.mkdir(parents=True)
    spec = {"argv": ["/no/python", "{connection_file}"], "display_name": "P", "language": "python"}
    (kernels / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{PACKAGE_ROOT}")
    monkeypatch.setenv("JUPYTER_PATH", str(project / "jupyter"))
    write_notebook(project, First, "import sys\npathlib.Path('which').write_text(sys.executable)")
    run_study("params/tiny", only="01*", status=Listening())
    assert (project / "which").read_text() == sys.executable


SLOWLY = """
import time
kernel = get_ipython().kernel
answer = kernel.shell_handlers["kernel_info_request"]
async def slowly(*message):
    await answer(*message)
    time.sleep(1)
kernel.shell_handlers["kernel_info_request"] = slowly
"""


@pytest.mark.slow
def test_a_kernel_is_not_interrupted_at_its_end(project, capfd):
    """A busy kernel is still handling its last message after it has sent the reply."""
    write_notebook(project, First, SLOWLY)
    notebook, given = project / "notebooks/01_first.ipynb", {"study": "tiny", "seed": 0}
    execute_notebook(notebook, None, given, engine_name=kernel.ENGINE, progress_bar=False)
    assert "KeyboardInterrupt" not in capfd.readouterr().err


def test_plain_lines_are_never_far_apart(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(status.time, "monotonic", lambda: now[0])
    listening = Listening()
    listening.start("[1/2] 01_first", "has not run yet")
    listening.update(cell="cell 2/9")
    listening.update(text="\x1b[31mepoch 3\x1b[0m of 9\x07")
    spoken = []
    for second in range(1, 61):
        now[0] = float(second)
        before = len(listening.lines)
        listening.tick()
        spoken += [second] * (len(listening.lines) - before)
    assert max(b - a for a, b in zip([0, *spoken], [*spoken, 60], strict=True)) <= 10
    assert listening.lines[1] == "[1/2] 01_first  8 s  cell 2/9  epoch 3 of 9"
    listening.end("done")
    assert listening.lines[-1] == "[1/2] 01_first  done  1 min 0 s"


def test_a_terminal_shows_all_of_the_progress_in_80_columns():
    file = io.StringIO()
    live = Status(Console(file=file, force_terminal=True, width=80, highlight=False))
    live.start("[1/1] 05_finetune_generator-v9", "has not run yet")
    text = "Fine-tuning 100%, 1:23:45 left, gender=0.70, quality=0.55, age=0.25, glass=0.20"
    live.update(cell="cell 10/17")
    live.update(text=text)
    live.tick()
    live.end("done")
    shown = printable(file.getvalue().replace("\n", "/"))
    assert f"[1/1] 05_finetune_generator-v9  0 s  cell 10/17/{text}" in shown


def test_kernels_have_their_own_sockets():
    """Two concurrent kernels with equal socket names would read each other's messages."""
    places = []
    for _ in range(2):
        with kernel.private_sockets() as config:
            manager = AsyncKernelManager(config=config)
            folder = Path(manager.ip).parent
            assert folder.is_absolute()
            assert folder.stat().st_mode & 0o077 == 0
            assert Path(manager.connection_file).parent == folder
            places.append(folder)
    assert places[0] != places[1]
