"""Runs a study's notebooks in order: one worker process, a fresh kernel for each notebook."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ohlora_lib.report.index import write_index
from ohlora_lib.runner import stages
from ohlora_lib.runner.outcomes import GRACE_SEC, Ended, Outcome, of_exit, of_stop
from ohlora_lib.runner.stages import Stage
from ohlora_lib.runner.status import Status
from ohlora_lib.study import records
from ohlora_lib.study.machine import counted, duration
from ohlora_lib.study.run_folder import FolderLock
from ohlora_lib.training.stopping import stop_on_interrupt

WAIT_SEC = 0.5
KILL_SEC = 15
WORKER = "from ohlora_lib.runner import kernel; kernel.main()"
Stops = Callable[[], Sequence[int]]  # returns the signals received so far


class StageError(RuntimeError):
    """A stage did not finish; the message is one line."""

    exit_status = 1


class StageInterrupted(StageError):
    """A stage was stopped by Ctrl-C or SIGTERM; the message is one line."""

    exit_status = 130


def run_study(
    folder: Path | str,
    *,
    only: str = "*",
    force: bool = False,
    seed: int | None = None,
    status: Status | None = None,
    stops: Stops | None = None,
    env: Mapping[str, str] | None = None,
) -> Path:
    """Runs a study's stages that have never finished, or have changed parameters or inputs.

    Args:
        folder: The study's params folder.
        only: Globs of the stages to run, separated by commas.
        force: Run stages from the start even if unchanged; earlier runs move aside.
        seed: Run the study with this seed, under the name `<study>-seed<seed>`.
        status: Where progress is shown; standard output if None.
        stops: Source of stop signals. If None, Ctrl-C and SIGTERM, which needs the main thread.
        env: Additional environment variables for the notebooks.

    Returns the study's page. Raises ValueError, before anything starts, if a parameter or an input
    is invalid; StageError if a stage failed, and StageInterrupted if it was stopped.
    """
    status = status or Status()
    folder, root = stages.find_study(folder)
    chosen = stages.select(stages.read_study(folder, root, seed), only)
    stages.check_study(chosen, root)
    began, outputs = time.monotonic(), chosen[0].folder.parent
    command = f"ohlora run {stages.shown_path(folder, root)}"
    command += "" if seed is None else f" --seed {seed}"
    worker = Worker(root, status, stops, env or {})
    try:
        for number, stage in enumerate(chosen, 1):
            label = f"[{number}/{len(chosen)}] {stage.name}"
            why = "run again from the start" if force else stages.reason_to_run(stage, root)
            if why is None:
                status.say(f"{label}  unchanged, skipped")
                continue
            _run_stage(stage, worker, label, why, command, anew=force)
            write_index(outputs)
    except BaseException:
        with suppress(OSError):  # keep the error that ended the study: the disk may be full
            if outputs.is_dir():  # or unmounted
                write_index(outputs)
        raise
    finally:
        worker.close()
    index = write_index(outputs)
    status.say(f"{counted(len(chosen), 'stage')} in {duration(time.monotonic() - began)}")
    status.say(str(stages.shown_path(index, Path.cwd())))
    return index


class Worker:
    """The process that runs a study's notebooks, started with the first of them."""

    def __init__(
        self, root: Path, status: Status, stops: Stops | None, env: Mapping[str, str]
    ) -> None:
        self.root, self.status, self.stops = root, status, stops
        self.env = {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "OHLORA_ROOT": str(root), **env}
        self.process: subprocess.Popen | None = None

    def _start(self) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self.pipe, there = multiprocessing.Pipe()  # anything may print to standard output
        with there:
            self.process = subprocess.Popen(
                [sys.executable, "-c", WORKER, str(there.fileno())],
                stdin=subprocess.PIPE,  # kept open; its end shows that this process has exited
                stdout=subprocess.DEVNULL,
                stderr=self.errors,
                pass_fds=(there.fileno(),),
                env={**os.environ, **self.env},
                cwd=self.root,
                start_new_session=True,  # Ctrl-C reaches only the runner, which forwards it
            )

    def run(self, job: dict[str, Any]) -> Outcome:
        """Runs a job's notebook; see `kernel.run_notebook` for the keys."""
        if self.process is None:
            self._start()
        with suppress(OSError):  # the worker has exited; `_news` reports it
            self.pipe.send(job)
        with nullcontext() if self.stops else stop_on_interrupt(pass_on=False) as asked:
            return self._follow(self.stops or (lambda: asked))

    def _follow(self, stops: Stops) -> Outcome:
        """Shows progress and forwards stop signals until there is an outcome."""
        deadline, passed = math.inf, 0
        while isinstance(news := self._news(), dict):
            if news:
                self.status.update(**news)
            self.status.tick()
            for number in stops()[passed:]:
                how = " (Ctrl-C again to end it now)" if number == signal.SIGINT else ""
                self.status.say(f"stopping: the stage saves its state{how}")
                deadline = time.monotonic() + (GRACE_SEC[number] if not passed else 1) + 1
                self.process.send_signal(number)
                passed += 1
            if time.monotonic() > deadline:
                self.process.kill()
        asked = stops()
        return of_stop(asked[-1]) if asked else news

    def _news(self) -> dict[str, Any] | Outcome:
        """Returns the next message: empty after half a second of silence, an outcome at exit."""
        ended = self.process.poll() is not None  # its children may still hold the pipe open
        with suppress(EOFError, OSError):
            if self.pipe.poll(WAIT_SEC):
                return self.pipe.recv()
            if not ended:
                return {}
        outcome = of_exit("its process", self.process.wait())
        self.errors.seek(0)
        last = self.errors.read().decode(errors="replace").strip().rpartition("\n")[2]
        return replace(outcome, reason=f"{outcome.reason} {last}".rstrip())

    def close(self) -> None:
        """Ends the worker process, if it is running, and with it the kernel."""
        if self.process is None:
            return
        self.process.stdin.close()
        try:
            self.process.wait(KILL_SEC)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.pipe.close()
        self.errors.close()


def _run_stage(
    stage: Stage, worker: Worker, label: str, why: str, command: str, *, anew: bool
) -> None:
    """Runs one stage, after moving aside earlier results that it must not overwrite."""
    root, status, outcome = worker.root, worker.status, None
    redo = f"{command} --only {stage.name} --force"
    stage.folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(stage.folder, ".runner.lock")
    try:
        if line := stages.make_way(stage, root, anew=anew):
            status.say(f"{label}  {line}")
        stage.folder.mkdir(exist_ok=True)
        status.start(label, "" if line else why)
        outcome = Outcome(Ended.FAILED)
        outcome = worker.run(
            {
                "notebook": str(stage.notebook),
                "output": str(stage.executed),
                "parameters": {**stage.parameters.model_dump(), "start_anew": False},  # done above
                "root": str(root),
                "command": redo,
            }
        )
        # The folder may hold a finished run whatever the outcome: this run, or one shown again.
        there = records.read_json(stage.folder / "summary.json").get("status") == "finished"
        if outcome.ended == Ended.DONE and not there:
            outcome = Outcome(Ended.FAILED, "the notebook ended without run.finish()")
        if outcome.ended != Ended.DONE:
            resume = redo.removesuffix(" --force")
            facts = {"notebook": stage.notebook.stem, "command": resume}
            with suppress(OSError):  # the disk may be full, as the reason says then
                if not there:
                    records.write_failure(stage.folder, outcome.ended, outcome.reason, **facts)
            raise _failure(stage, outcome, root, fresh=anew)
    finally:
        if outcome:  # None if the stage never started
            status.end(outcome.ended)
        lock.release()


def _failure(stage: Stage, outcome: Outcome, root: Path, *, fresh: bool) -> StageError:
    """Returns the error of a stage that did not finish."""
    message = f"{stage.name}: {outcome.reason}"
    if outcome.ended == Ended.INTERRUPTED:
        again = "Without --force, the same command" if fresh else "The same command"
        found: StageError = StageInterrupted(f"{message}. {again} resumes from there.")
    else:
        seen = f" (output so far: {stages.shown_path(stage.executed, root)})"
        found = StageError(message + seen * stage.executed.is_file())
    found.exit_status = outcome.exit_status
    return found
