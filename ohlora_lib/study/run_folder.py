"""Opens, writes and finishes the run folder of a stage.

Files are written atomically. `summary.json`, written last, marks success. A finished run is never
overwritten: the same parameters and inputs show it again; with others, the whole folder moves to
`.earlier` before the new run starts.
"""

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ohlora_lib.io.disk import PARTIAL, locked, make_folder, sha256, write_atomic
from ohlora_lib.study import machine, records

EARLIER = ".earlier"  # folder in a study's outputs for runs that were moved aside
STATE = "checkpoints/state.pt"  # a longer run resumes from this file ...
RESUMED_FROM = ("checkpoints/*", "images/*", "*_log.csv")  # ... and these
STATES = "state*.pt"  # deleted once a stage has finished


class FolderLock:
    """Lock for one writer per folder; the system releases it when its holder exits or crashes.

    The lock file lies next to the folder, so the folder can be moved. The holding process may
    acquire it again, as when a notebook cell runs twice.

    Raises:
        ValueError: If another process holds the lock; names it and the time it started.
        OSError: If the lock file cannot be created or locked.
    """

    def __init__(self, folder: Path, name: str = ".lock") -> None:
        self.path = folder.parent / ".locks" / f"{folder.name}{name}"
        holder = self.path.with_name(f"{self.path.name}.json")
        # Other threads may release the lock.
        self._lock = FileLock(self.path, thread_local=False, is_singleton=True)
        try:
            make_folder(self.path.parent)
            self._lock.acquire(blocking=False)
        except Timeout:
            pid, host, since = list(records.read_json(holder).values()) or "???"
            raise ValueError(f"{folder}: process {pid} on {host} (since {since}) is writing here. "
                             "Wait for it or stop it; then start again.") from None  # fmt: skip
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        facts = {"pid": os.getpid(), "host": socket.gethostname(), "since": records.now()}
        holder.write_text(json.dumps(facts), encoding="utf-8")
        locked[self.path] = folder  # a folder may have several locks

    def release(self) -> None:
        """Releases the lock; a second call does nothing."""
        locked.pop(self.path, None)
        self._lock.release(force=True)


@dataclass
class Run:
    """A stage running in its run folder; created by `start_run`."""

    path: Path
    notebook: str  # stem of its file name
    config: Mapping[str, Any]
    inputs: Mapping[str, Any]  # parameter: run folder, or a list of them
    made_from: Mapping[str, Any] = field(default_factory=dict)
    before: dict[str, Any] | None = None  # summary of a finished run that is shown again
    makes: Sequence[str] = ()  # files without which the run has not finished
    longer: str = ""
    lock: FolderLock | None = None  # held until the run has finished
    _facts: dict[str, Any] = field(default_factory=dict)
    _started: str = field(default_factory=records.now)
    _clock: float = field(default_factory=time.monotonic)

    def __getstate__(self) -> dict[str, Any]:
        """State pickled for the other ranks; the lock stays with rank 0."""
        return {**vars(self), "lock": None}

    @property
    def finished(self) -> bool:
        """Whether this run had already finished and is only shown again."""
        return self.before is not None

    def note(self, **facts: Any) -> None:
        """Records facts for the summary, for instance the precision chosen."""
        self._facts.update(facts)

    def finish(self, **results: Any) -> dict[str, Any]:
        """Writes `summary.json` and releases the lock.

        A finished run that is shown again keeps its original dates, versions and command.

        Args:
            **results: Final numbers; for the study's page also `verdict`, a sentence, and
                `thumbnail`, the path of a PNG relative to the run folder.

        Raises:
            ValueError: If a file is missing, as when cells in between did not run.
        """
        if missing := [name for name in self.makes if not (self.path / name).is_file()]:
            raise ValueError(
                f"{self.path.name} has not finished: it has no {' or '.join(missing)}. Run all "
                f"cells, from the first."
            )
        made = self._how_it_was_made() if self.before is None else self.before
        summary = {**made, "results": results, "artefacts": self._artefacts()}
        write_atomic(self.path / "summary.json", records.to_json(summary) + "\n")
        for path in self.path.rglob(STATES):
            if not self.longer or path != self.path / STATE:
                path.unlink(missing_ok=True)
        if self.lock:
            self.lock.release()
        return summary

    def _how_it_was_made(self) -> dict[str, Any]:
        root, name = self.path.parents[2], self.notebook
        config = (self.path / "config.json").relative_to(root).as_posix()
        by_hand = f"papermill notebooks/{name}.ipynb {name}.ipynb -f {config}"
        return {
            "status": "finished",
            "notebook": name,
            "facts": self._facts,
            "started": self._started,
            "finished": records.now(),
            "wall_sec": round(time.monotonic() - self._clock, 3),
            "seeds": {k: v for k, v in self.config.items() if re.search(r"(^|_)seed$", k)},
            "made_from": self.made_from,
            "versions": machine.versions(),
            "hardware": machine.hardware(),
            "git": machine.git_state(root),
            "command": os.environ.get("OHLORA_COMMAND", by_hand),
        }

    def _artefacts(self) -> list[dict[str, Any]]:
        """Path, size and hash of every file of the stage, except hidden files and its records."""
        own = {"config.json", "summary.json", f"{self.notebook}.html"}
        names = {path.relative_to(self.path): path for path in sorted(self.path.rglob("*"))}
        return [
            {"path": name.as_posix(), "bytes": path.stat().st_size, "sha256": sha256(path)}
            for name, path in names.items()
            if path.is_file() and name.as_posix() not in own and not path.match(STATES)
            if path.suffix != ".ipynb"  # saved again when someone opens it
            if not any(part.startswith(".") for part in name.parts)
        ]


def start_anew_words() -> str:
    """How to start this stage from the beginning, which keeps the earlier run."""
    return f"with {os.environ.get('OHLORA_COMMAND', '`start_anew = True` in the parameters cell')}"


def start_run(
    notebook: str,
    config: Mapping[str, Any],
    *,
    makes: Sequence[str] = (),
    longer: str = "",
    in_place: bool = False,
    start_anew: bool = False,
    root: Path | None = None,
) -> Run:
    """Opens the run folder of a stage: checks inputs, takes the lock, writes `config.json`.

    Keeps the files of an unfinished run, from which the stage may resume.

    Args:
        notebook: Stem of its file name.
        config: Resolved parameters, flat; `study` and `variant` name the folder.
        makes: Files, relative to the folder, without which the run has not finished.
        longer: Parameter that resumes a finished run if it alone changed and has grown.
        in_place: Whether the folder holds manual work and must not be moved.
        start_anew: Whether to start from the beginning even if a run exists.
        root: The project; if None, found by `project_root`.

    Raises:
        ValueError: If an input has not finished or another process holds the folder.
        OSError: If the folder cannot be written.
    """
    root = (root or records.project_root()).resolve()
    stage = "-".join(filter(None, (notebook, config.get("variant"))))
    opened = f"{config['study']}/{stage}"
    inputs: dict[str, Any] = {}
    for name, text in records.input_paths(config, records.RUNS):
        folder = records.check_input(name, text, root)
        several = not isinstance(config[name], str)
        inputs[name] = [*inputs.get(name, []), folder] if several else folder
    path = root / "outputs" / opened
    records.check_inside(path, root)
    wanted, lock = records.made_from(notebook, config, root), FolderLock(path)
    before, line = None, ""
    if start_anew or not in_place:
        before, line = make_way(path, wanted, longer, start_anew, records.CODE)
    path.mkdir(exist_ok=True)
    for left in path.rglob(f".*{PARTIAL}*"):
        left.unlink(missing_ok=True)
    if not before:
        if not in_place:
            (path / "summary.json").unlink(missing_ok=True)
        write_atomic(path / "config.json", records.to_json(dict(config)) + "\n")
    if line:
        print(line.replace(f"{root}/", ""), flush=True)  # noqa: T201
    return Run(path, notebook, config, inputs, wanted, before, makes, longer, lock)


def changes(
    folder: Path, summary: Mapping[str, Any], wanted: Mapping[str, Any], but: Collection[str] = ()
) -> dict[str, str]:
    """Reasons why a finished run is out of date, ignoring facts in `but`; empty if current."""
    older = records.read_json(folder / "config.json")  # of a version that wrote no `made_from`
    if found := records.differences(summary.get("made_from") or older, wanted, but=but):
        return found
    gone = records.changed_file(folder, summary)
    return {"artefacts": gone} if gone else {}


def make_way(
    folder: Path, wanted: Mapping[str, Any], longer: str, anew: bool, but: Collection[str] = ()
) -> tuple[dict[str, Any] | None, str]:
    """Moves aside a run that must not be overwritten; the caller holds the folder's lock.

    A run that only needs more epochs gets its checkpoint linked from the run moved aside.
    For the arguments see `start_run` and `changes`.

    Returns:
        The summary of the finished run to show again, or None if a run starts; and a message for
        the user, which may be empty.
    """
    try:
        summary = records.read_summary(folder)
    except ValueError:  # no run, or an unfinished one that its stage resumes
        kept = move_aside(folder) if anew else None
        return None, f"The unfinished run is kept in {kept}." if kept else ""
    date = f"{summary['finished'][:16].replace('T', ' ')} UTC"
    why = changes(folder, summary, wanted, but)
    if not why and not anew:
        line = f"This run finished on {date}; nothing to do. `start_anew = True` runs it again."
        return summary, line
    kept, how = move_aside(folder), ""
    if not anew and list(why) == [longer] and records.read_config(kept)[longer] < wanted[longer]:
        how = _link_states(kept, folder) * " Training resumes from its last checkpoint."
    words = "run again from the start" if anew else ", ".join(why.values())
    return None, f"The run that finished on {date} is kept in {kept}: {words}.{how}"


def move_aside(folder: Path) -> Path | None:
    """Moves a run folder atomically to a unique path in `.earlier`; None if it is empty."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return None
    date = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    aside = folder.parent / EARLIER / f"{folder.name}-{date}"
    aside.parent.mkdir(exist_ok=True)
    return folder.rename(aside)


def _link_states(kept: Path, folder: Path) -> bool:
    """Links a kept run's resume files; safe, because files are replaced, never modified."""
    if not (kept / STATE).is_file():
        return False
    for path in {path for pattern in RESUMED_FROM for path in kept.glob(pattern)}:
        place = folder / path.relative_to(kept)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, place)
        except OSError:  # a file system without links
            shutil.copy2(path, place)
    return True
