"""Runs a study: its notebooks one after the other, each in a process and a kernel of its own."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ohlora_lib import records, stages
from ohlora_lib.locks import FolderLock
from ohlora_lib.report.index import write_index
from ohlora_lib.stages import Stage
from ohlora_lib.status import Status, clock

STOP_SEC = 300  # how long an interrupted stage may take to save its state
KILL_SEC = 15


class StageError(RuntimeError):
    """A stage did not finish; the message is one line."""

    exit_status = 1


class StageDied(StageError):
    """A process of the stage was ended from outside; trying again may help."""


class StageInterrupted(StageError):
    """A stage was stopped by Ctrl-C; the message is one line."""

    exit_status = 130


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
        force: Run them even if unchanged, from the start.
        seed: Run the study under the name `<study>-seed<seed>` with this seed.
        status: Where to say how it goes.

    Returns:
        The study's page.

    Raises:
        ValueError: If a parameter or an input is not as it must be; nothing was started.
        StageError: If a stage failed.
        StageInterrupted: If it was stopped.
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
            why = "is run again" if force else stages.reason_to_run(stage, root)
            if why is None:
                status.say(f"{label}  unchanged, skipped")
                continue
            workers.more = number < len(chosen)
            run_stage(stage, workers, status, label, why, command, fresh=force)
            write_index(outputs)
    finally:
        workers.close()
        index = write_index(outputs)
    status.say(f"{len(chosen)} stages in {clock(time.monotonic() - began)}")
    status.say(str(stages.shown_path(index, Path.cwd())))
    return index


@dataclass(frozen=True)
class Problem:
    """What went wrong with a stage, one line; whether its process died of it."""

    text: str
    died: bool = False


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
        quiet = {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "JUPYTER_PREFER_ENV_PATH": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ohlora_lib.kernel"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={**os.environ, "OHLORA_ROOT": str(root), **quiet},
            cwd=root,
            start_new_session=True,  # Ctrl-C reaches the runner alone, which passes it on
        )

    def tell(self, line: str) -> None:
        """Sends a line: the job, or `interrupt`."""
        with suppress(BrokenPipeError):
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()

    def stop(self) -> None:
        """Ends the process if it still runs; its kernel ends with it."""
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(KILL_SEC)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def last_line(self) -> str:
        """The last line of what the process wrote to standard error."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

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
    fresh: bool,
) -> None:
    """Runs one stage and keeps a note of what it was run with.

    Raises:
        StageError: If it failed; StageDied if its process died.
        StageInterrupted: If it was stopped.
    """
    root = workers.root
    stage.folder.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(stage.folder, ".runner.lock")
    fingerprint = stages.fingerprint(stage, root)
    summary_before = _summary_hash(stage)
    (stage.folder / stages.NOTE).unlink(missing_ok=True)
    if fresh:
        shutil.rmtree(stage.folder / "checkpoints", ignore_errors=True)
    status.start(label, why)
    outcome = "failed"
    try:
        problem = supervise(stage, workers, status, f"{command} --only {stage.name} --force")
        summary = _summary_hash(stage)
        if problem is None and (summary is None or summary == summary_before):
            problem = Problem("the notebook ended without run.finish()")
        if problem is not None:
            stages.keep_note(stage, error=problem.text)
            kind = StageDied if problem.died else StageError
            raise kind(f"{stage.name}: {problem.text}{_kept(stage, root)}")
        stages.keep_note(stage, fingerprint=fingerprint, summary_sha256=summary)
        outcome = "done"
    except StageInterrupted:
        outcome = "stopped"
        stages.keep_note(stage, error="stopped before it finished")
        raise
    finally:
        status.end(outcome)
        lock.release()


def supervise(stage: Stage, workers: Workers, status: Status, command: str) -> Problem | None:
    """Runs the notebook in another process.

    Returns:
        What went wrong, or None.

    Raises:
        StageInterrupted: If Ctrl-C ended it.
    """
    job = {
        "notebook": str(stage.notebook),
        "output": str(stage.executed),
        "parameters": stage.parameters.model_dump(),
        "root": str(workers.root),
        "command": command,
    }
    worker = workers.take()
    try:
        worker.tell(json.dumps(job))
        try:
            last = _follow(worker, stage, status)
        finally:
            worker.stop()
        kind = last.get("event")
        if kind == "interrupted":
            raise StageInterrupted(
                f"{stage.name}: stopped by Ctrl-C. The same command goes on from there."
            )
        if kind == "done":
            return None
        if kind == "failed":
            place = "" if last["cell"] is None else f"cell [{last['cell']}]: "
            return Problem(f"{place}{last['error']}")
        if kind == "died":
            return Problem(f"its kernel died{_cause(last['exit_code'])}", died=True)
        cause = _cause(worker.process.returncode)
        return Problem(f"its process ended{cause} {worker.last_line()}".rstrip(), died=True)
    finally:
        worker.close()


def _follow(worker: Worker, stage: Stage, status: Status) -> dict[str, Any]:
    """Shows the events of the process until it ends; the last event says how."""
    events: queue.Queue[dict[str, Any] | None] = queue.Queue()
    threading.Thread(target=_read, args=(worker.process.stdout, events), daemon=True).start()
    last: dict[str, Any] = {}
    deadline = None
    while True:
        try:
            event = _next_event(events)
            if event is None:
                return last
            if event:
                last = event
                _show(event, status)
            status.tick()
            if deadline and time.monotonic() > deadline:
                return {"event": "interrupted"}
        except KeyboardInterrupt:
            if deadline:
                return {"event": "interrupted"}
            deadline = time.monotonic() + STOP_SEC
            status.say(f"stopping {stage.name}: it saves its state (Ctrl-C again to end it now)")
            worker.tell("interrupt")


def _next_event(events: queue.Queue[dict[str, Any] | None]) -> dict[str, Any] | None:
    """The next event; empty if none comes for half a second, None at the end."""
    try:
        return events.get(timeout=0.5)
    except queue.Empty:
        return {}


def _read(stream: IO[bytes], events: queue.Queue[dict[str, Any] | None]) -> None:
    """Reads events from a process until its output ends."""
    for line in stream:
        events.put(json.loads(line))
    events.put(None)


def _show(event: dict[str, Any], status: Status) -> None:
    if event["event"] == "cell":
        status.update(cell=f"cell {event['number']}/{event['cells']}")
    elif event["event"] == "progress":
        status.update(text=event["text"])


def _cause(exit_code: int | None) -> str:
    """Why a process ended, as far as its exit status tells."""
    if exit_code is None:
        return ""
    if exit_code == -9:
        return " (killed; most often the memory ran out: use a smaller batch or fewer samples)"
    return f" (signal {-exit_code})" if exit_code < 0 else f" (exit status {exit_code})"


def _summary_hash(stage: Stage) -> str | None:
    path = stage.folder / "summary.json"
    return records.sha256(path) if path.is_file() else None


def _kept(stage: Stage, root: Path) -> str:
    if not stage.executed.is_file():
        return ""
    return f" (as far as it got: {stages.shown_path(stage.executed, root)})"
