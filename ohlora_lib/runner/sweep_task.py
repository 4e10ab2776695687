"""Runs one stage of a sweep where a worker is: skips it if it is done, tries again if it dies.

What is told to a worker that may be on another machine lies in the project's folder: a sweep's
`Signal` is a file that is there as long as the sweep shall go on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from ohlora_lib.runner import stages
from ohlora_lib.runner.fanout import ATTEMPTS
from ohlora_lib.runner.runner import StageDied, StageError, StageInterrupted, Workers, run_stage
from ohlora_lib.runner.status import Status
from ohlora_lib.runner.sweep_plan import Task
from ohlora_lib.study.locks import FolderLock
from ohlora_lib.study.run_folder import STARTED_ANEW

FREE_SEC = 60  # how long what a dead worker left running may hold a run folder


@dataclass(frozen=True)
class Outcome:
    """How a stage ended: done, unchanged, failed or stopped; why; how long it took."""

    state: str
    text: str = ""
    sec: float = 0.0
    attempts: int = 1


@dataclass(frozen=True)
class Signal:
    """Tells the workers of a sweep whether to go on.

    Args:
        path: A file that no other sweep has; it is there as long as work shall go on.
    """

    path: Path

    @property
    def _hurry(self) -> Path:
        return self.path.with_name(f"{self.path.name}-now")

    def begin(self) -> None:
        """Lets work go on."""
        self.path.touch()

    def stop(self) -> None:
        """Lets running stages save their state and end; a second call ends them now."""
        if self.path.exists():
            self.path.unlink()
        else:
            self._hurry.touch()

    def clear(self) -> None:
        """Removes what there is of it, once nothing runs."""
        self.path.unlink(missing_ok=True)
        self._hurry.unlink(missing_ok=True)

    @property
    def level(self) -> int:
        """How often the work was told to stop: 0, 1 or 2."""
        return 0 if self.path.exists() else 1 + self._hurry.exists()


class Watch(Status):
    """Says nothing, and stops a stage as Ctrl-C would once the sweep's signal says so."""

    def __init__(self, signal: Signal) -> None:
        super().__init__()
        self.signal, self._obeyed = signal, 0

    def say(self, text: str) -> None:
        """Says nothing: the sweep has one line a stage."""

    def start(self, label: str, why: str) -> None:
        """Says nothing."""

    def end(self, outcome: str) -> None:
        """Says nothing."""

    def tick(self) -> None:
        """Raises KeyboardInterrupt, once for each time the sweep was stopped."""
        if self._obeyed < self.signal.level:
            self._obeyed += 1
            raise KeyboardInterrupt


def run_task(task: Task, root: Path, signal: Signal, *, force: bool = False) -> Outcome:
    """Runs a stage unless it is finished and unchanged; to be called by a worker.

    A stage whose process dies is tried again, as a fine-tuning goes on from what it has saved. A
    stage that fails by itself would fail again.
    """
    began, attempt, died = time.monotonic(), 1, ""
    while True:
        state, text = _attempt(task, root, signal, fresh=force and attempt == 1)
        if state != "died" or attempt == ATTEMPTS:
            break
        attempt, died = attempt + 1, text
    if state == "died":
        state, text = "failed", f"{text}, {attempt} times"
    elif died:
        text = f"{text} (attempt {attempt}; before, {died})".strip()
    return Outcome(state, text, time.monotonic() - began, attempt)


def _attempt(task: Task, root: Path, signal: Signal, *, fresh: bool) -> tuple[str, str]:
    """State and text of one attempt."""
    stage = task.stage
    if signal.level:
        return "stopped", ""
    try:
        wait_until_free(stage.folder)
        why = stages.Reason(STARTED_ANEW, anew=True) if fresh else None
        why = why or stages.reason_to_run(stage, root)
        if why is None:
            return "unchanged", ""
        run_stage(stage, Workers(root), Watch(signal), task.name, why, task.command)
    except StageInterrupted as error:
        return "stopped", str(error)
    except StageDied as error:
        return "died", str(error)
    except (StageError, ValueError, OSError) as error:
        return "failed", str(error)
    return "done", ""


def wait_until_free(folder: Path, most_sec: float = FREE_SEC) -> None:
    """Waits while another process writes to a run folder.

    Raises:
        ValueError: If it does not end; says which process.
    """
    if not folder.parent.is_dir():
        return
    deadline = time.monotonic() + most_sec
    for name in (".runner.lock", ".lock"):
        while True:
            try:
                FolderLock(folder, name).release()
                break
            except ValueError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
