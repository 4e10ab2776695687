"""Runs a sweep: a study's stages for every point of a grid and every seed, several at a time.

Stages that points share run once; a stage starts when what it needs is finished; one that fails
takes only what needs it along. The end is one comparison of all points.
"""

from __future__ import annotations

import fnmatch
import os
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import AbstractContextManager
from pathlib import Path

from ohlora_lib.report.index import write_index
from ohlora_lib.runner import stages, sweep_report
from ohlora_lib.runner.status import Status
from ohlora_lib.runner.sweep_grid import parse_grid, parse_seeds
from ohlora_lib.runner.sweep_plan import Plan, Task, plan_sweep
from ohlora_lib.runner.sweep_task import Outcome, Signal, run_task
from ohlora_lib.selection import fanout
from ohlora_lib.selection.fanout import Pool, counted
from ohlora_lib.study.locks import FolderLock
from ohlora_lib.study.words import duration

QUIET_SEC = 60.0  # longest silence
GOOD = ("done", "unchanged")


class SweepError(RuntimeError):
    """Some stages did not finish; the message is one line."""

    exit_status = 1


class SweepStopped(SweepError):
    """The sweep was stopped by Ctrl-C; the message is one line."""

    exit_status = 130


def run_sweep(
    folder: Path | str,
    *,
    grid: Sequence[str] = (),
    seeds: str = "",
    workers: int = 1,
    scheduler: str = "",
    only: str | None = None,
    force: bool = False,
    status: Status | None = None,
) -> Path:
    """Runs the stages of all points that have not run yet or have changed, then compares them.

    Args:
        folder: The study's params folder.
        grid: Each `NAME=VALUE,VALUE`; all combinations are run.
        seeds: Such as `0-4`; the params files' own if empty.
        workers: Stages at a time on this machine.
        scheduler: Address of a Dask scheduler, whose workers run the stages instead.
        only: Glob of the stages to run.
        force: Run them even if unchanged, from the start.
        status: Where to say how it goes.

    Returns:
        The sweep's page.

    Raises:
        ValueError: If something given is not as it must be; nothing was started.
        SweepError: If a stage failed; all that could be run was.
        SweepStopped: If it was stopped.
    """
    status = status or Status()
    folder, root = stages.find_study(folder)
    study = stages.read_study(folder, root)
    axes = parse_grid(grid, study)
    plan = plan_sweep(study, root, axes, parse_seeds(seeds))
    tasks = _chosen(plan, study, only)
    stages.check_study([task.stage for task in tasks.values()], root)
    for axis in axes:
        status.say(f"{axis.key}: in {', '.join(axis.stages)}")
    home = root / "outputs" / plan.name
    stages.check_writable(home)
    lock = FolderLock(home, ".sweep.lock")
    signal = _new_signal(home)
    try:
        with _pool(workers, scheduler, root) as pool:
            status.say(_beginning(plan, tasks, pool))
            fan = Fan(tasks, pool, root, signal, status, force=force)
            fan.run()
            page = _conclude(plan, fan, only)
    finally:
        signal.clear()
        lock.release()
    _raise_if_incomplete(fan, plan.name)
    status.say(str(stages.shown_path(page, Path.cwd())))
    return page


def _chosen(plan: Plan, study: Sequence[stages.Stage], only: str | None) -> dict[Path, Task]:
    """The tasks whose stage a glob matches."""
    names = {stage.name for stage in stages.select(study, only)}
    return {path: task for path, task in plan.tasks.items() if task.stage.name in names}


def _new_signal(home: Path) -> Signal:
    """A signal of this sweep alone; work of an earlier one that was killed is stopped."""
    for left in home.glob(".going-*"):
        left.unlink()
    signal = Signal(home / f".going-{os.getpid()}-{time.time_ns()}")
    signal.begin()
    return signal


def _pool(workers: int, scheduler: str, root: Path) -> AbstractContextManager[Pool]:
    return fanout.cluster(scheduler, root) if scheduler else fanout.supervisors(workers)


def _beginning(plan: Plan, tasks: dict[Path, Task], pool: Pool) -> str:
    every = sum(folder in tasks for point in plan.points for folder in point.folders)
    return (
        f"{counted(len(plan.points), 'point')}, {counted(len(tasks), 'stage')} "
        f"({every} without sharing), {pool.words}"
    )


class Fan:
    """Gives stages to workers as soon as what they need is finished.

    Args:
        tasks: By run folder, inputs before what needs them.
        pool: The workers.
        root: The project.
        signal: Told to the workers.
        status: Where to say how it goes.
        force: Run stages even if unchanged.

    Attributes:
        outcomes: How each stage ended, by run folder.
        stopped: Whether Ctrl-C was pressed.
    """

    def __init__(
        self,
        tasks: dict[Path, Task],
        pool: Pool,
        root: Path,
        signal: Signal,
        status: Status,
        *,
        force: bool = False,
    ) -> None:
        self.tasks, self.pool, self.root = tasks, pool, root
        self.signal, self.status, self.force = signal, status, force
        self.outcomes: dict[Path, Outcome] = {}
        self.stopped = False
        self._waiting = dict(tasks)
        self._running: dict[Future[Outcome], Task] = {}
        self._untold: list[Task] = []
        self._told = 0
        self._began = self._spoke = time.monotonic()

    def states(self, *wanted: str) -> list[Path]:
        """Run folders of the stages that ended in one of some states."""
        return [path for path, outcome in self.outcomes.items() if outcome.state in wanted]

    def run(self) -> None:
        """Runs all; Ctrl-C lets what is running save its state and end."""
        while self._waiting or self._running or self._untold:
            try:
                self._submit()
                self._tell()
                self._collect()
            except KeyboardInterrupt:
                self.stopped = True
                self.signal.stop()
                self._waiting.clear()
                self.status.say(
                    f"stopping: {counted(self._now_running(), 'stage')} may save their state "
                    f"(Ctrl-C again to end them now)"
                )

    def _submit(self) -> None:
        """Submits every stage whose inputs are finished; gives up those whose inputs failed."""
        for folder, task in list(self._waiting.items()):
            ended = [self.outcomes.get(need) for need in task.needs if need in self.tasks]
            lost = [o for o in ended if o is not None and o.state not in GOOD]
            if not lost and None in ended:
                continue
            del self._waiting[folder]
            if lost:
                self._end(task, Outcome("left out", "what it needs is not finished"))
                continue
            future = self.pool.executor.submit(
                run_task, task, self.root, self.signal, force=self.force
            )
            self._running[future] = task

    def _collect(self) -> None:
        """Waits until a stage ends, and takes how it ended."""
        done, _ = wait(self._running, timeout=1.0, return_when=FIRST_COMPLETED)
        for future in done:
            error = CancelledError() if future.cancelled() else future.exception()
            outcome = future.result() if error is None else Outcome("failed", _lost(error))
            self._end(self._running.pop(future), outcome)
        if not done and time.monotonic() - self._spoke > QUIET_SEC:
            names = [task.name for task in self._running.values()][: self._now_running()]
            self._say(f"{duration(time.monotonic() - self._began)}  at work: {', '.join(names)}")

    def _end(self, task: Task, outcome: Outcome) -> None:
        self.outcomes[task.stage.folder] = outcome
        self._untold.append(task)

    def _tell(self) -> None:
        """A line for each stage that has ended; after what can start now was started."""
        while self._untold:
            task = self._untold.pop(0)
            outcome = self.outcomes[task.stage.folder]
            text = f"  {outcome.text}" if outcome.text else ""
            took = f"  {duration(outcome.sec)}" if outcome.state in ("done", "failed") else ""
            self._told += 1
            self._say(f"{task.name}  {outcome.state}{took}{text}")
            if outcome.state in ("done", "failed") and task.stage.folder.is_dir():
                write_index(task.stage.folder.parent)

    def _say(self, text: str) -> None:
        """One line, with how many stages are done, run and are left."""
        self._spoke = time.monotonic()
        running = self._now_running()
        left = len(self.tasks) - self._told - running
        counts = f"[{self._told}/{len(self.tasks)}, {running} running, {left} left]"
        self.status.say(f"{counts} {text}")

    def _now_running(self) -> int:
        """How many stages run now: no more than there are workers."""
        return min(len(self._running), self.pool.slots())


def _lost(error: BaseException) -> str:
    """Why work came back without an outcome."""
    if type(error).__name__ == "KilledWorker":
        return "its workers died, one after the other; most often the memory ran out"
    if isinstance(error, CancelledError):
        return "the cluster dropped it; see that its scheduler still runs"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _conclude(plan: Plan, fan: Fan, only: str | None) -> Path:
    """Compares the points and writes the sweep's table and page."""
    states = {path: outcome.state for path, outcome in fan.outcomes.items()}
    task, wanted = None, only is None or fnmatch.fnmatchcase(sweep_report.COMPARISON, only)
    if wanted and not fan.stopped:
        task = sweep_report.comparison_task(plan, states, fan.root, fan.status.say)
    if task is not None:
        outcome = run_task(task, fan.root, fan.signal, force=fan.force)
        fan.outcomes[task.stage.folder] = outcome
        fan.stopped = outcome.state == "stopped"
        fan.status.say(f"{task.name}  {outcome.state}  {outcome.text}".rstrip())
    return sweep_report.write_points(plan, states, fan.root)


def _raise_if_incomplete(fan: Fan, name: str) -> None:
    """Raises if the sweep was stopped or a stage failed."""
    if fan.stopped:
        again = "Without --force, the same command" if fan.force else "The same command"
        raise SweepStopped(f"stopped by Ctrl-C. {again} goes on from there.")
    failed, left = fan.states("failed"), fan.states("left out")
    if failed:
        names = ", ".join(f"{path.parent.name}/{path.name}" for path in failed[:3])
        more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
        out = f"; {counted(len(left), 'stage')} that needed them left out" if left else ""
        raise SweepError(
            f"{name}: {counted(len(failed), 'stage')} failed ({names}{more}){out}. "
            f"The same command tries them again."
        )
