"""The stages of a study: read from its params files, checked together, skipped when unchanged."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ohlora_lib
from ohlora_lib import input_files, params, records
from ohlora_lib.disk import dangling_link
from ohlora_lib.params import NotebookParameters
from ohlora_lib.params_model import shortened
from ohlora_lib.run_files import check_inside

EARLIER = ".earlier"  # in a study's outputs: run folders that were started anew
NOTE = ".runner.json"  # in the run folder: what the stage was run with


@dataclass(frozen=True)
class Stage:
    """One params file, its notebook and its run folder."""

    name: str
    params_file: Path
    notebook: Path
    folder: Path
    parameters: NotebookParameters

    @property
    def executed(self) -> Path:
        """The executed notebook."""
        return self.folder / self.notebook.name

    @property
    def page(self) -> Path:
        """The exported page."""
        return self.executed.with_suffix(".html")


def find_study(folder: Path | str) -> tuple[Path, Path]:
    """Finds a study's params folder and its project; `params`, or a study in it, may be a link.

    Raises:
        ValueError: If it is not there.
    """
    given = Path(folder)
    if given.is_file():
        raise ValueError(
            f"{given} is a file; a study is a folder. For one stage: "
            f"ohlora run {given.parent} --only {given.stem}"
        )
    if not given.is_dir():
        given = records.project_root() / given
    if not given.is_dir():
        raise ValueError(f"{folder}: no such folder. Studies are the folders in params/.")
    given = Path(os.path.abspath(given))
    root = records.project_root(given)
    for path in (given, given.resolve()):
        for home in path.parents:
            if home.resolve() == root:
                return root / path.relative_to(home), root
    return given, root


def read_study(folder: Path, root: Path, seed: int | None = None) -> list[Stage]:
    """Reads and checks every params file of a study, in order of name.

    Args:
        folder: The params folder; its name is the study's.
        root: The project.
        seed: Replaces every seed; the study is then named `<study>-seed<seed>`.

    Raises:
        ValueError: If a file is not allowed; one line.
    """
    files = sorted(folder.glob("*.yaml"))
    other = next(iter(sorted(folder.glob("*.yml"))), None)
    if other is not None:
        raise ValueError(f"{shown_path(other, root)}: params files end in .yaml. Rename it.")
    if not files:
        raise ValueError(f"{folder}: holds no params files (*.yaml), so there is nothing to run.")
    stages = []
    for path in files:
        shown = shown_path(path, root)
        model = load(path, shown)
        if model.study != folder.name:
            raise ValueError(
                f"{shown}: study is {model.study!r}, but the folder is {folder.name!r}. "
                f"Make them the same, so that studies do not write over each other."
            )
        if seed is not None:
            model = reseed(model, seed, str(shown))
        notebook = root / "notebooks" / f"{model.NOTEBOOK}.ipynb"
        if not notebook.is_file():
            raise ValueError(f"{shown}: its notebook {notebook.relative_to(root)} is not there.")
        run_folder = root / "outputs" / model.study / model.stage
        stages.append(Stage(model.stage, shown, notebook, run_folder, model))
    return stages


def shown_path(path: Path, root: Path) -> Path:
    """A path relative to a folder it lies in; else as it is."""
    return path.relative_to(root) if path.is_relative_to(root) else path


def load(path: Path, shown: Path) -> NotebookParameters:
    """Reads one params file; errors name it relative to the project."""
    try:
        return params.load(path)
    except ValueError as error:
        raise ValueError(str(error).replace(str(path), str(shown))) from None


def reseed(model: NotebookParameters, seed: int, source: str) -> NotebookParameters:
    """The same parameters with another seed, in a study of its own."""
    study = f"{model.study}-seed{seed}"
    given = repoint(model.model_dump(), f"outputs/{model.study}/", f"outputs/{study}/")
    return type(model).checked({**given, "study": study, "seed": seed}, f"{source} (seed {seed})")


def repoint(value: Any, old: str, new: str) -> Any:
    """Replaces a path's beginning in a value, lists and mappings included."""
    if isinstance(value, str) and value.startswith(old):
        return new + value.removeprefix(old)
    if isinstance(value, list):
        return [repoint(item, old, new) for item in value]
    if isinstance(value, dict):
        return {name: repoint(item, old, new) for name, item in value.items()}
    return value


def select(stages: Sequence[Stage], only: str | None) -> list[Stage]:
    """The stages whose name, or whose notebook's name, matches a glob.

    Raises:
        ValueError: If none does.
    """
    chosen = [
        stage
        for stage in stages
        if only is None
        or fnmatch.fnmatchcase(stage.name, only)
        or fnmatch.fnmatchcase(stage.notebook.stem, only)
    ]
    if not chosen:
        raise ValueError(
            f"--only {only!r} matches no stage; the study has {[stage.name for stage in stages]}."
        )
    return chosen


def check_study(stages: Sequence[Stage], root: Path) -> None:
    """Checks that all inputs are there or will be made before they are needed.

    Raises:
        ValueError: Naming file, parameter, value and remedy.
    """
    made: list[Path] = []
    for stage in stages:
        for name, text in each_path(stage.parameters.input_runs()):
            if root / text not in made:
                check_input_run(stage, name, text, root)
        for name, text in each_path(stage.parameters.input_files()):
            if made_folder(root / text, made) is None:
                check_input_file(stage, name, text, root)
        check_place(stage, root)
        made.append(stage.folder)
    check_writable(stages[0].folder.parent)


def each_path(given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Parameter and path, one by one, lists included."""
    for name, value in given.items():
        for text in [value] if isinstance(value, str) else value:
            yield name, text


def check_input_run(stage: Stage, name: str, text: str, root: Path) -> None:
    """Raises if a run folder that nothing makes in this run is not finished."""
    try:
        records.check_inputs({name: text}, root)
    except ValueError as error:
        raise ValueError(f"{stage.params_file}: {error}") from None


def check_input_file(stage: Stage, name: str, text: str, root: Path) -> None:
    """Raises if a file that is there before the run is none, or its stage could not read it."""
    path, folder = root / text, name.endswith("_folder")
    try:
        there = path.is_dir() if folder else path.is_file()
    except OSError:  # such as a name too long
        there = False
    if not there:
        if reason := dangling_link(path):
            raise ValueError(f"{stage.params_file}: {name} is {shortened(text)}. {reason}")
        raise ValueError(
            f"{stage.params_file}: {name} is {shortened(text)}, and there is no such "
            f"{'folder' if folder else 'file'}. Correct the path; it is relative to {root}."
        )
    try:
        input_files.check_file(stage.parameters, name, path, root)
    except ValueError as error:
        reason = str(error).replace(f"{root}/", "")
        raise ValueError(f"{stage.params_file}: {name}: {reason}") from None


def check_place(stage: Stage, root: Path) -> None:
    """Raises if a run folder leads out of the project."""
    try:
        check_inside(stage.folder, root, written=True)
    except ValueError as error:
        shown = shown_path(stage.folder, root)
        raise ValueError(f"{stage.params_file}: its run folder is {shown}. {error}") from None


def made_folder(path: Path, made: Sequence[Path]) -> Path | None:
    """The run folder, of those an earlier stage makes, that a path lies in."""
    return next((folder for folder in made if folder in path.parents), None)


def check_writable(folder: Path) -> None:
    """Raises if no file can be written to a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"{folder}: cannot be written ({error.strerror}). "
            f"Correct its rights or free the disk, then start again."
        ) from error


def fingerprint(stage: Stage, root: Path) -> dict[str, Any]:
    """What decides a stage's result, its input runs aside."""
    cells = json.loads(stage.notebook.read_text(encoding="utf-8"))["cells"]
    source = [[cell["cell_type"], "".join(cell["source"])] for cell in cells]
    files = [root / text for _, text in each_path(stage.parameters.input_files())]
    return {
        "parameters": json.loads(records.to_json(stage.parameters.config())),
        "notebook": hashlib.sha256(json.dumps(source).encode()).hexdigest(),
        "ohlora_lib": ohlora_lib.__version__,
        "files": {str(path): content_hash(path) for path in files if path.exists()},
    }


def content_hash(path: Path) -> str:
    """Hash of a file; of a folder, of the names, sizes and times of all files in it."""
    if path.is_file():
        return records.sha256(path)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            fact = file.stat()
            name = file.relative_to(path).as_posix()
            digest.update(f"{name} {fact.st_size} {fact.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def move_aside(folder: Path) -> Path | None:
    """Moves what a run folder holds out of the way, under a dated name that nothing else reads.

    Returns:
        Where it is now, `outputs/<study>/.earlier/<stage>-<time>`; None if there was nothing.
    """
    held = sorted(p for p in folder.iterdir() if not p.name.endswith(".lock"))
    if not held:
        return None
    date = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    aside = folder.parent / EARLIER / f"{folder.name}-{date}"
    aside.mkdir(parents=True)
    # The summary first: half a folder must not be taken for a finished run.
    for path in sorted(held, key=lambda path: path.name != "summary.json"):
        path.rename(aside / path.name)
    return aside


def keep_note(stage: Stage, **facts: Any) -> None:
    """Writes beside the summary what the stage was run with."""
    records.write_atomic(stage.folder / NOTE, records.to_json(facts) + "\n")


def read_note(folder: Path) -> dict[str, Any]:
    """What `keep_note` wrote; empty if there is nothing readable."""
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def reason_to_run(stage: Stage, root: Path) -> str | None:
    """Why a stage must run; None if it has finished and nothing has changed since."""
    note, summary_file = read_note(stage.folder), stage.folder / "summary.json"
    try:
        summary = records.read_summary(stage.folder)
    except ValueError:
        return "did not finish last time" if stage.folder.is_dir() else "has not run yet"
    if note.get("summary_sha256") != records.sha256(summary_file):
        return "was last run by hand, or failed since"
    return (
        changed_fingerprint(note.get("fingerprint", {}), fingerprint(stage, root))
        or changed_input(summary.get("inputs", {}), root)
        or changed_artefact(summary.get("artefacts", []), stage.folder)
    )


def changed_fingerprint(old: dict[str, Any], new: dict[str, Any]) -> str | None:
    """The first difference of two fingerprints, in words."""
    before, after = old.get("parameters", {}), new["parameters"]
    names = [k for k in {**before, **after} if before.get(k) != after.get(k)]
    if names:
        return f"changed: {', '.join(names)}"
    words = {"notebook": "its notebook", "ohlora_lib": "the package", "files": "an input file"}
    return next((f"{words[k]} changed" for k in words if old.get(k) != new[k]), None)


def changed_input(inputs: dict[str, Any], root: Path) -> str | None:
    """The first input run whose summary is not the one that was used."""
    for value in inputs.values():
        for fact in value if isinstance(value, list) else [value]:
            path = root / fact["path"] / "summary.json"
            if not path.is_file() or records.sha256(path) != fact["summary_sha256"]:
                return f"{path.parent.name} changed"
    return None


def changed_artefact(artefacts: list[dict[str, Any]], folder: Path) -> str | None:
    """The first file of the stage that is gone or has another size."""
    for fact in artefacts:
        path = folder / fact["path"]
        if not path.is_file() or path.stat().st_size != fact["bytes"]:
            return f"{fact['path']} is gone or was changed"
    return None
