"""Runs a study: its notebooks one after the other, each in a process and a kernel of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from ohlora_lib.report.index import write_index
from ohlora_lib.runner import outcomes, stages
from ohlora_lib.runner.outcomes import Outcome
from ohlora_lib.runner.pipes import Lines, read_event
from ohlora_lib.runner.stages import Stage
from ohlora_lib.runner.status import Status
from ohlora_lib.study import machine, run_folder
from ohlora_lib.study.machine import duration
from ohlora_lib.study.run import FolderLock

STOP_SEC = 300  # how long an interrupted stage may take to save its state
TERMINATE_SEC = 8  # the same after a SIGTERM, where soon afterwards the machine may be gone
KILL_SEC = 15
TERMINATED = 128 + signal.SIGTERM  # exit status


class StageError(RuntimeError):
    """A stage did not finish; the message is one line."""

    exit_status = 1


class StageInterrupted(StageError):
    """A stage was stopped by Ctrl-C; the message is one line."""

    exit_status = 130


class StageTerminated(StageInterrupted):
    """A stage was stopped by SIGTERM; the message is one line."""

    exit_status = TERMINATED


def run_study(
    folder: Path | str,
    *,
    only: str | None = None,
    force: bool = False,
    seed: int | None = None,
    status: Status | None = None,
) -> Path:
    """Runs the stages of a study that have not run yet or whose parameters or inputs changed.

    Args:
        folder: The study's params folder.
        only: Glob of the stages to run.
        force: Run them from the beginning even if unchanged; earlier runs move aside.
        seed: Run the study under the name `<study>-seed<seed>` with this seed.
        status: Where to say how it goes.

    Returns:
        The study's page.

    Raises:
        ValueError: If a parameter or an input is invalid; nothing was started.
        StageError: If a stage failed.
        StageInterrupted: If it was stopped.
        WriteError: If the disk takes no more.
    """
    status = status or Status()
    folder, root = stages.find_study(folder)
    study = stages.read_study(folder, root, seed)
    chosen = stages.select(study, only)
    stages.check_study(chosen, root)
    began, outputs = time.monotonic(), chosen[0].folder.parent
    command = f"ohlora run {stages.shown_path(folder, root)}"
    command += "" if seed is None else f" --seed {seed}"
    workers = Workers(root)
    try:
        for number, stage in enumerate(chosen, 1):
            label = f"[{number}/{len(chosen)}] {stage.name}"
            why = "run again from the start" if force else stages.reason_to_run(stage, root)
            if why is None:
                status.say(f"{label}  unchanged, skipped")
                continue
            workers.more = number < len(chosen)
            with exit_on_sigterm():
                run_stage(stage, workers, status, label, why, command, anew=force)
            write_index(outputs)
    except BaseException:
        with suppress(OSError):  # what ended the study is said, which may be a full disk
            if outputs.is_dir():  # or a lost one
                write_index(outputs)
        raise
    finally:
        workers.close()
    index = write_index(outputs)
    status.say(f"{len(chosen)} stages in {duration(time.monotonic() - began)}")
    status.say(str(stages.shown_path(index, Path.cwd())))
    return index


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Makes a SIGTERM an exit that can be caught, in the main thread, which alone hears it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Workers:
    """Processes that run notebooks; the next one gets ready while the present one works.

    Args:
        root: The project, where they work.

    Attributes:
        more: Whether a further stage may follow.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.more = root, False
        self.spare: Worker | None = None

    def take(self) -> Worker:
        """A process that waits for its job; another one starts to get ready if more may follow."""
        worker, self.spare = self.spare or Worker(self.root), None
        if self.more:
            self.spare = Worker(self.root)
        return worker

    def close(self) -> None:
        """Ends the process that nobody took."""
        if self.spare is not None:
            self.spare.close()
            self.spare = None


class Worker:
    """One process that runs one notebook; what it writes to standard error is kept aside."""

    def __init__(self, root: Path) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        own = {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "OHLORA_ROOT": str(root)}
        here, there = os.pipe()  # for events alone: anything may print to standard output
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ohlora_lib.runner.kernel", str(there)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self.errors,
                pass_fds=(there,),
                env={**os.environ, **own},
                cwd=root,
                start_new_session=True,  # Ctrl-C reaches the runner alone, which passes it on
            )
        finally:
            os.close(there)
        self.lines = Lines(os.fdopen(here, encoding="utf-8", errors="replace"), self.process)

    def tell(self, line: str) -> None:
        """Sends a line: the job, `interrupt` or `terminate`."""
        with suppress(BrokenPipeError):
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()

    def stop(self, seconds: float = KILL_SEC) -> None:
        """Ends the process if it still runs; its kernel ends with it."""
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def last_words(self) -> str:
        """What the process wrote to standard error."""
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def close(self) -> None:
        """Ends the process and forgets what it wrote."""
        self.stop()
        self.errors.close()


def run_stage(
    stage: Stage,
    workers: Workers,
    status: Status,
    label: str,
    why: str,
    command: str,
    *,
    anew: bool,
) -> None:
    """Runs one stage; what it must not write over is moved aside before it starts.

    Raises:
        StageError: If it failed.
        StageInterrupted: If it was stopped.
    """
    root = workers.root
    stage.folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(stage.folder, ".runner.lock")
    outcome = ""
    try:
        if line := stages.make_way(stage, root, anew=anew):
            status.say(f"{label}  {line.replace(f'{root}/', '')}")
        stage.folder.mkdir(exist_ok=True)
        status.start(label, why)
        outcome = "failed"
        redo = f"{command} --only {stage.name} --force"
        ended = supervise(stage, workers, status, redo)
        finished = _has_finished(
            stage
        )  # else no summary is there; then its page alone may be missing
        if ended is None and not finished:
            ended = Outcome("failed", "the notebook ended without run.finish()")
        if ended is not None:
            outcome = {"interrupted": "stopped"}.get(ended.status, ended.status)
            more = "" if finished else _note_failure(stage, ended, redo)
            raise _error(stage, ended, more + _kept(stage, root), fresh=anew)
        outcome = "done"
    finally:
        if outcome:  # else it has not begun
            status.end(outcome)
        lock.release()


def _note_failure(stage: Stage, ended: Outcome, command: str) -> str:
    """Writes how a stage ended into its folder; gives what to add where that is impossible."""
    try:
        run_folder.write_failure(
            stage.folder, ended.status, ended.reason, notebook=stage.notebook.stem, command=command
        )
    except OSError as error:
        return f" (nor could summary.json say so: {error.strerror})"
    return ""


def _error(stage: Stage, ended: Outcome, more: str, *, fresh: bool) -> StageError:
    message = f"{stage.name}: {ended.reason}"
    if ended.status != "interrupted":
        return StageError(message + more)
    kind = StageTerminated if ended.reason == BY_SIGTERM.reason else StageInterrupted
    again = "Without --force, the same command" if fresh else "The same command"
    return kind(f"{message}. {again} resumes from there.")


BY_CTRL_C = Outcome("interrupted", "stopped by Ctrl-C")
BY_SIGTERM = Outcome("interrupted", "stopped by SIGTERM")


def supervise(stage: Stage, workers: Workers, status: Status, command: str) -> Outcome | None:
    """Runs the notebook in another process.

    Returns:
        How it ended if it did not come to its end, else None.
    """
    job = {
        "notebook": str(stage.notebook),
        "output": str(stage.executed),
        "parameters": {**stage.parameters.model_dump(), "start_anew": False},  # done already
        "root": str(workers.root),
        "command": command,
    }
    worker, kills, stop_sec = workers.take(), machine.memory_kills(), KILL_SEC
    try:
        worker.tell(json.dumps(job))
        try:
            last = _follow(worker, stage, status)
            stop_sec = 1 if last.get("event") == "terminated" else KILL_SEC
        finally:
            worker.stop(stop_sec)
        ran_out = kills is not None and machine.memory_kills() != kills
        kind = last.get("event")
        if kind in {"interrupted", "terminated"}:
            return BY_CTRL_C if kind == "interrupted" else BY_SIGTERM
        if kind in {"done", "failed", "died"}:
            return outcomes.of_event(last, memory_ran_out=ran_out)
        code, words = worker.process.returncode, worker.last_words()
        ended = outcomes.of_exit("its process", code, memory_ran_out=ran_out)
        return Outcome(ended.status, f"{ended.reason} {outcomes.of_traceback(words)}".rstrip())
    finally:
        worker.close()


def _follow(worker: Worker, stage: Stage, status: Status) -> dict[str, Any]:
    """Shows the events of the process until it ends; the last event says how."""
    last: dict[str, Any] = {}
    deadline, asked = None, ""
    while True:
        try:
            line = worker.lines.next()
            if line is None:
                ended = asked == "terminated" and last.get("event") != "done"
                return {"event": asked} if ended else last
            event = read_event(line)
            if "event" in event:
                last = event
                _show(event, status)
            status.tick()
            if deadline and time.monotonic() > deadline:
                return {"event": asked}
        except (KeyboardInterrupt, SystemExit) as stop:
            if deadline and asked == "terminated":
                return {"event": asked}
            twice, ctrl_c = bool(deadline), isinstance(stop, KeyboardInterrupt)
            asked = "interrupted" if ctrl_c else "terminated"
            if twice and ctrl_c:
                return {"event": asked}
            deadline = time.monotonic() + (STOP_SEC if ctrl_c else TERMINATE_SEC)
            how = " (Ctrl-C again to end it now)" if ctrl_c else ""
            status.say(f"stopping {stage.name}: it saves its state{how}")
            worker.tell("interrupt" if ctrl_c else "terminate")


def _show(event: dict[str, Any], status: Status) -> None:
    if event["event"] == "cell":
        status.update(cell=f"cell {event['number']}/{event['cells']}")
    elif event["event"] == "progress":
        status.update(text=event["text"])


def _has_finished(stage: Stage) -> bool:
    """Whether a finished run is in the folder: this one, or one that was to be shown again."""
    try:
        run_folder.read_summary(stage.folder)
    except ValueError:
        return False
    return True


def _kept(stage: Stage, root: Path) -> str:
    if not stage.executed.is_file():
        return ""
    return f" (as far as it got: {stages.shown_path(stage.executed, root)})"
