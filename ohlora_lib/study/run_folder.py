"""The run folder: what a stage was asked, what it left behind, and how to do it again.

Files are written whole or not at all. Success is said by `summary.json`, written last.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ohlora_lib
from ohlora_lib.io.disk import PARTIAL, make_folder, sha256, write_atomic
from ohlora_lib.study import machine, openings
from ohlora_lib.study.locks import FolderLock
from ohlora_lib.study.run_files import check_inside
from ohlora_lib.study.summaries import check_artefacts, read_summary

STARTED_ANEW = "run again from the start"
STATES = "state*.pt"  # what a stage resumes from; of no use once it has finished
_held: dict[Path, FolderLock] = {}  # so that a notebook cell can be run again in its own kernel


def project_root(start: Path | None = None) -> Path:
    """Finds the folder that holds `params/` and `notebooks/`.

    Args:
        start: Where to look from, upwards, as the path is written; then OHLORA_ROOT, where set.
            If None, OHLORA_ROOT counts first, then the working directory.

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
    start = Path(os.path.abspath(start or Path.cwd()))
    for folder in (start, *start.parents, *start.resolve().parents):
        if is_project(folder):
            return folder.resolve()
    if named:
        return project_root()
    raise ValueError(
        f"{start} lies in no project (a folder with params/ and notebooks/). "
        f"Change into the project's folder, or set OHLORA_ROOT to it."
    )


def is_project(folder: Path) -> bool:
    """Whether a folder holds `params/` and `notebooks/`."""
    return (folder / "params").is_dir() and (folder / "notebooks").is_dir()


def root_of(run_folder: Path) -> Path:
    """The project a run folder belongs to; links are not followed, `outputs` may be one."""
    parents = Path(os.path.abspath(run_folder)).parents
    return next((parent for parent in parents if is_project(parent)), parents[2])


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


def now() -> str:
    """The time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write_failure(run_folder: Path, status: str, reason: str, **facts: Any) -> None:
    """Writes a `summary.json` that says how a run ended; nothing takes it for a finished one.

    Args:
        run_folder: Its run folder.
        status: failed, interrupted or killed.
        reason: One line.
        **facts: More to say, plain.
    """
    facts = {"status": status, "reason": reason, "ended": now(), **facts}
    write_atomic(run_folder / "summary.json", to_json(facts) + "\n")


def check_inputs(input_runs: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Resolves run folders against the root; a list of them gives a list.

    Raises:
        ValueError: If one is not finished, or a file of it was changed since; names the
            parameter, the path and the command.
    """
    resolved: dict[str, Any] = {}
    for name, given in input_runs.items():
        folders = []
        for text in [given] if isinstance(given, str | Path) else given:
            try:
                check_inside(root / text, root)
                check_artefacts(root / text, read_summary(root / text))
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
        files: Hashes of input files by parameter.
        before: Summary of the finished run that is shown again; None for a run that starts.
        longer: The parameter that may grow later: what the training resumes from then is kept.
    """

    def __init__(
        self,
        path: Path,
        notebook: str,
        config: Mapping[str, Any],
        inputs: dict[str, Any],
        *,
        files: Mapping[str, Any] | None = None,
        before: dict[str, Any] | None = None,
        longer: str = "",
    ) -> None:
        self.path = path
        self.notebook = notebook
        self.config = dict(config)
        self.inputs = inputs
        self.files, self.before, self.longer = dict(files or {}), before, longer
        self._facts: dict[str, Any] = {}
        self._code = {
            "notebook": notebook_code(path.parents[2] / "notebooks" / f"{notebook}.ipynb"),
            "ohlora_lib": ohlora_lib.__version__,
        }
        self._started = now()
        self._clock = time.monotonic()

    @property
    def finished(self) -> bool:
        """Whether this is a finished run that is shown again, and nothing is to be made."""
        return self.before is not None

    def note(self, **facts: Any) -> None:
        """Keeps facts for the summary, for instance the precision that was chosen."""
        self._facts.update(facts)

    def finish(self, **results: Any) -> dict[str, Any]:
        """Writes `summary.json` and frees the folder.

        The summary of a finished run that was shown again keeps its dates, its versions and how
        it was made; only its results and files are those of now.

        Args:
            **results: Final numbers. Shown on the study's page where they are there: `verdict`,
                a sentence, and `thumbnail`, a PNG's path relative to the run folder.
        """
        if self.before is not None:
            now_there = {"results": results, "artefacts": self._artefacts()}
            summary = {**self.before, **now_there}
        else:
            summary = self._summary(results)
        write_atomic(self.path / "summary.json", to_json(summary) + "\n")
        drop_states(self.path, keep=openings.STATE if self.longer else "")
        release(self.path)
        return summary

    def _summary(self, results: Mapping[str, Any]) -> dict[str, Any]:
        root = self.path.parents[2]
        return {
            "status": "finished",
            "notebook": self.notebook,
            "results": results,
            "facts": self._facts,
            "started": self._started,
            "finished": now(),
            "wall_sec": round(time.monotonic() - self._clock, 3),
            "seeds": {k: v for k, v in self.config.items() if re.search(r"(^|_)seed$", k)},
            "inputs": {k: openings.input_facts(v, root) for k, v in self.inputs.items()},
            "files": self.files,
            "code": self._code,
            "artefacts": self._artefacts(),
            "versions": machine.versions(),
            "hardware": machine.hardware(),
            "git": machine.git_state(root),
            "command": self._command(root),
        }

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
            if not path.match(STATES) and path.suffix != ".ipynb"  # saved on by who opens it
            if not any(part.startswith(".") for part in path.relative_to(self.path).parts)
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


def notebook_code(path: Path) -> str:
    """Hash of the code that a notebook's stage runs; empty if the notebook is not there.

    Markdown, outputs, comments and the parameters cell, whose values are facts of their own, do
    not count.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError):
        return ""
    digest = hashlib.sha256()
    for cell in cells:
        tags = set(cell["metadata"].get("tags", []))
        if cell["cell_type"] == "code" and not tags & {"parameters", "injected-parameters"}:
            source = "".join(cell["source"])
            with suppress(SyntaxError):  # a magic, say
                source = ast.dump(ast.parse(source))
            digest.update(f"{source}\n".encode())
    return digest.hexdigest()


def drop_states(folder: Path, keep: str = "") -> None:
    """Removes what a finished stage resumed from, but for one file, relative to the folder."""
    for path in folder.rglob(STATES):
        if path != folder / keep:
            path.unlink(missing_ok=True)


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
    input_files: Mapping[str, Any] | None = None,
    longer: str = "",
    in_place: bool = False,
    start_anew: bool = False,
    root: Path | None = None,
) -> Run:
    """Opens the run folder of a stage: checks inputs, takes the lock, writes `config.json`.

    A finished run of the same parameters and inputs is left as it is, to be shown again; one of
    others moves to `.earlier` and a line says so. What an unfinished run left stays: resuming is
    the stage's business.

    Args:
        notebook: Stem of the notebook.
        config: Resolved parameters, flat; `study` and `variant` name the folder.
        input_runs: Run folders by parameter, relative to the root.
        input_files: Files and folders by parameter, relative to the root.
        longer: The parameter that a finished training may be resumed with if it alone has grown.
        in_place: Whether the folder holds a person's work, which stays where it is.
        start_anew: Whether to start from the beginning; the earlier run moves to `.earlier`.
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
    files = openings.file_facts(input_files or {}, root)
    release(path)
    try:
        make_folder(path.parent)
        _held[path] = lock = FolderLock(path)
        opening = openings.Opening()
        if start_anew or not in_place:
            facts = {k: openings.input_facts(v, root) for k, v in inputs.items()}
            wanted = openings.facts_of(dict(config), facts, files)
            opening = openings.open_folder(
                path, wanted, longer=longer, anew=STARTED_ANEW * start_anew
            )
        path.mkdir(exist_ok=True)
        lock.watch()
        for left in path.rglob(f".*{PARTIAL}*"):
            left.unlink(missing_ok=True)
        if opening.finished is None:
            if not in_place:
                (path / "summary.json").unlink(missing_ok=True)
            write_atomic(path / "config.json", to_json(dict(config)) + "\n")
    except OSError as error:
        release(path)
        raise ValueError(
            f"{path}: cannot be written ({error.strerror or error}). "
            f"Free the disk or correct the rights of {root / 'outputs'}."
        ) from error
    if opening.line:
        print(opening.line.replace(f"{root}/", ""), flush=True)  # noqa: T201
    return Run(path, notebook, config, inputs, files=files, before=opening.finished, longer=longer)
