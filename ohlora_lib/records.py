"""The run folder: what a stage was asked, what it left behind, and how to do it again.

Files are written whole or not at all. Success is said by `summary.json`, written last.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ohlora_lib import machine
from ohlora_lib.locks import FolderLock
from ohlora_lib.run_files import check_inside, odd_part

PARTIAL = ".partial"  # part of the name of files that are being written
_counter = itertools.count()
_held: dict[Path, FolderLock] = {}  # so that a notebook cell can be run again in its own kernel


def project_root(start: Path | None = None) -> Path:
    """Finds the folder that holds `params/` and `notebooks/`.

    Args:
        start: Where to look from, upwards; the working directory if None. The environment
            variable OHLORA_ROOT, where set, says it instead.

    Raises:
        ValueError: If there is none.
    """
    named = os.environ.get("OHLORA_ROOT")
    if named and start is None:
        root = Path(named).resolve()
        if not is_project(root):
            kind = "a folder without params/ and notebooks/" if root.is_dir() else "no folder"
            raise ValueError(f"OHLORA_ROOT is {named!r}, which is {kind}. Correct or unset it.")
        return root
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if is_project(folder):
            return folder
    raise ValueError(
        f"{start} lies in no project (a folder with params/ and notebooks/). "
        f"Change into the project's folder, or set OHLORA_ROOT to it."
    )


def is_project(folder: Path) -> bool:
    """Whether a folder holds `params/` and `notebooks/`."""
    return (folder / "params").is_dir() and (folder / "notebooks").is_dir()


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Gives a temporary path in the same folder, which takes the name of `path` on success.

    Args:
        path: Where the file shall be; its folder is made. The temporary name keeps the suffix.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(
        f".{path.stem}.{os.getpid()}-{next(_counter)}{PARTIAL}{path.suffix}"
    )
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path | str, data: bytes | str) -> None:
    """Writes a file whole or not at all; text as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def to_json(data: Any) -> str:
    """JSON that YAML readers take for the same: `1e-05` alone would be text to them."""
    text = json.dumps(data, indent=2, ensure_ascii=False, default=_plain)
    bare = r'("(?:\\.|[^"\\])*"|-?\d+\.\d+)|(-?\d+)(?=e[-+]\d)'  # group 1 is left alone
    return re.sub(bare, lambda m: m[1] or f"{m[2]}.0", text)


def _plain(value: Any) -> Any:
    """Paths, NumPy scalars and arrays as plain values."""
    if isinstance(value, Path):
        return value.as_posix()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON: {value!r}")


def sha256(path: Path) -> str:
    """Hash of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def now() -> str:
    """The time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def read_summary(run_folder: Path | str) -> dict[str, Any]:
    """Reads the summary of a finished run.

    Raises:
        ValueError: If the run is not there, not finished, or its summary is damaged.
    """
    path = Path(run_folder) / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        state = "has not finished" if Path(run_folder).is_dir() else "does not exist"
        raise ValueError(f"{run_folder}: this run {state}. {_remedy(Path(run_folder))}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged ({error}). {_remedy(Path(run_folder))}") from error
    if not isinstance(summary, dict) or summary.get("status") != "finished":
        raise ValueError(f"{run_folder}: this run has not finished. {_remedy(Path(run_folder))}")
    odd = odd_part(summary)
    if odd:
        raise ValueError(f"{path}: damaged ({odd!r} is odd). {_remedy(Path(run_folder))}")
    return summary


def _remedy(run_folder: Path) -> str:
    """The command that makes a run folder."""
    study, stage = run_folder.parent.name or "<study>", run_folder.name
    return f"Make it with: ohlora run params/{study} --only {stage}"


def check_inputs(input_runs: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Resolves run folders against the root; a list of them gives a list.

    Raises:
        ValueError: If one is not finished; names the parameter, the path and the command.
    """
    resolved: dict[str, Any] = {}
    for name, given in input_runs.items():
        folders = []
        for text in [given] if isinstance(given, str | Path) else given:
            try:
                check_inside(root / text, root)
                read_summary(root / text)
            except ValueError as error:
                reason = str(error).replace(str(root / text), str(text))
                raise ValueError(f"{name} is {str(text)!r}. {reason}") from None
            folders.append(root / text)
        resolved[name] = folders[0] if isinstance(given, str | Path) else folders
    return resolved


class Run:
    """A stage at work in its run folder; `start_run` makes it.

    Attributes:
        path: The run folder.
        inputs: Run folders of the inputs by parameter; a list where the parameter is a list.
        config: The resolved parameters.
    """

    def __init__(
        self, path: Path, notebook: str, config: Mapping[str, Any], inputs: dict[str, Any]
    ) -> None:
        self.path = path
        self.notebook = notebook
        self.config = dict(config)
        self.inputs = inputs
        self._facts: dict[str, Any] = {}
        self._started = now()
        self._clock = time.monotonic()

    def note(self, **facts: Any) -> None:
        """Keeps facts for the summary, for instance the precision that was chosen."""
        self._facts.update(facts)

    def clear(self, *, keep: tuple[str, ...] = ()) -> None:
        """Removes what an earlier run left, for a stage that starts anew.

        Args:
            keep: Glob patterns, relative to the run folder, of what stays.
        """
        stays = {path for pattern in keep for path in self.path.glob(pattern)}
        for path in sorted(self.path.rglob("*"), reverse=True):
            if stays.isdisjoint((path, *path.parents)) and not self._own(path):
                with suppress(OSError):  # a folder that is not empty stays
                    path.rmdir() if path.is_dir() else path.unlink()

    def finish(self, **results: Any) -> dict[str, Any]:
        """Writes `summary.json` and frees the folder.

        Args:
            **results: Final numbers. Shown on the study's page where they are there: `verdict`,
                a sentence, and `thumbnail`, a PNG's path relative to the run folder.
        """
        root = self.path.parents[2]
        summary = {
            "status": "finished",
            "notebook": self.notebook,
            "results": results,
            "facts": self._facts,
            "started": self._started,
            "finished": now(),
            "wall_sec": round(time.monotonic() - self._clock, 3),
            "seeds": {k: v for k, v in self.config.items() if re.search(r"(^|_)seed$", k)},
            "inputs": {k: _input_facts(v, root) for k, v in self.inputs.items()},
            "artefacts": self._artefacts(),
            "versions": machine.versions(),
            "hardware": machine.hardware(),
            "git": machine.git_state(root),
            "command": self._command(root),
        }
        write_atomic(self.path / "summary.json", to_json(summary) + "\n")
        release(self.path)
        return summary

    def _own(self, path: Path) -> bool:
        """Whether a file is the folder's own: config, notebook, page, lock."""
        own = {"config.json", "summary.json", f"{self.notebook}.ipynb", f"{self.notebook}.html"}
        return path.parent == self.path and (path.name in own or path.name.startswith("."))

    def _artefacts(self) -> list[dict[str, Any]]:
        """Path, size and hash of every file the stage left."""
        files = [
            path
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and not self._own(path) and PARTIAL not in path.name
        ]
        return [
            {
                "path": path.relative_to(self.path).as_posix(),
                "bytes": path.stat().st_size,
                "sha256": sha256(path),
            }
            for path in files
        ]

    def _command(self, root: Path) -> str:
        """How to do it again: with exactly these parameters."""
        config = (self.path / "config.json").relative_to(root).as_posix()
        by_hand = f"papermill notebooks/{self.notebook}.ipynb {self.notebook}.ipynb -f {config}"
        return os.environ.get("OHLORA_COMMAND", by_hand)


def _input_facts(folders: Path | list[Path], root: Path) -> Any:
    """Path and hash of the summary of one input, or of several."""
    if isinstance(folders, list):
        return [_input_facts(folder, root) for folder in folders]
    path = folders.relative_to(root) if folders.is_relative_to(root) else folders
    return {"path": path.as_posix(), "summary_sha256": sha256(folders / "summary.json")}


def release(folder: Path) -> None:
    """Frees a run folder that this process holds."""
    lock = _held.pop(folder, None)
    if lock is not None:
        lock.release()


def start_run(
    notebook: str,
    config: Mapping[str, Any],
    *,
    input_runs: Mapping[str, Any] | None = None,
    root: Path | None = None,
) -> Run:
    """Opens the run folder of a stage: checks inputs, takes the lock, writes `config.json`.

    What an earlier run left stays (resuming is the stage's business), except its summary.

    Args:
        notebook: Stem of the notebook.
        config: Resolved parameters, flat; `study` and `variant` name the folder.
        input_runs: Run folders by parameter, relative to the root.
        root: The project; found from the working directory if None.

    Raises:
        ValueError: If an input is not finished, the folder is taken, or it cannot be written.
    """
    root = (root or project_root()).resolve()
    variant = config.get("variant", "")
    stage = f"{notebook}-{variant}" if variant else notebook
    inputs = check_inputs(input_runs or {}, root)
    path = root / "outputs" / str(config["study"]) / stage
    try:
        check_inside(path, root, written=True)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    release(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        _held[path] = FolderLock(path)
        (path / "summary.json").unlink(missing_ok=True)
        for left in path.rglob(f".*{PARTIAL}*"):
            left.unlink(missing_ok=True)
        write_atomic(path / "config.json", to_json(dict(config)) + "\n")
    except OSError as error:
        release(path)
        raise ValueError(
            f"{path}: cannot be written ({error.strerror or error}). "
            f"Free the disk or correct the rights of {root / 'outputs'}."
        ) from error
    return Run(path, notebook, config, inputs)
