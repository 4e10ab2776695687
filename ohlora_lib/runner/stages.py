"""The stages of a study: read from its params files, checked together, skipped when unchanged."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ohlora_lib.io.disk import dangling_link
from ohlora_lib.runner import input_files
from ohlora_lib.study import parameters as params
from ohlora_lib.study import run as runs
from ohlora_lib.study import run_folder as records
from ohlora_lib.study.parameters import NotebookParameters
from ohlora_lib.study.run_folder import check_inside


@dataclass(frozen=True)
class Stage:
    """One params file, its notebook and its run folder."""

    name: str
    params_file: Path
    notebook: Path
    folder: Path
    parameters: NotebookParameters

    @property
    def path(self) -> str:
        """The run folder, relative to the project."""
        return f"outputs/{self.parameters.study}/{self.name}"

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
        stages.append(stage_of(model, shown.parent, root))
        notebook = stages[-1].notebook
        if not notebook.is_file():
            raise ValueError(f"{shown}: its notebook {notebook.relative_to(root)} is not there.")
        check_tag(notebook, notebook.relative_to(root))
    return stages


def stage_of(model: NotebookParameters, folder: Path, root: Path) -> Stage:
    """The stage that some parameters are of, whose file lies in a params folder."""
    notebook = root / "notebooks" / f"{model.NOTEBOOK}.ipynb"
    outputs = root / "outputs" / model.study / model.stage
    return Stage(model.stage, folder / f"{model.stage}.yaml", notebook, outputs, model)


def check_tag(notebook: Path, shown: Path) -> None:
    """Raises ValueError if a notebook has no cell that papermill would put parameters after."""
    found = records.read_json(notebook).get("cells", [])
    if not any("parameters" in cell["metadata"].get("tags", []) for cell in found):
        raise ValueError(f"{shown} has no cell tagged 'parameters'; add the tag, or restore it")


def shown_path(path: Path, root: Path) -> Path:
    """A path relative to a folder it lies in; else as it is."""
    return path.relative_to(root) if path.is_relative_to(root) else path


def load(path: Path, shown: Path) -> NotebookParameters:
    """Reads one params file; errors name it relative to the project."""
    try:
        return params.load(path)
    except ValueError as error:
        raise ValueError(str(error).replace(str(path), str(shown))) from None


def seeded(study: str, seed: int | None) -> str:
    """Name of the study that another one is with a seed."""
    return study if seed is None else f"{study}-seed{seed}"


def folder_name(text: str, longest: int = 50) -> str:
    """A text as a study's name, short enough for a seed behind it, and no other text's name."""
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "_", text)
    if safe == text and len(text) <= longest:
        return text
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{safe[: longest - 9].rstrip('_.-')}-{mark}"


def reseed(model: NotebookParameters, seed: int, source: str) -> NotebookParameters:
    """The same parameters with another seed, in a study of its own."""
    study = seeded(model.study, seed)
    places = {f"outputs/{model.study}": f"outputs/{study}"}
    return derive(model, places, f"{source} (seed {seed})", study=study, seed=seed)


def derive(
    model: NotebookParameters, places: Mapping[str, str], source: str, **changes: Any
) -> NotebookParameters:
    """The same parameters with some changed, and with other folders for the inputs.

    Args:
        model: The parameters.
        places: Folder to read from by the folder that the parameters name, relative to the root.
        source: What an error begins with.
        **changes: New values.

    Raises:
        ValueError: If a value is not allowed; one line.
    """
    return type(model).checked(repoint({**model.model_dump(), **changes}, places), source)


def repoint(value: Any, places: Mapping[str, str]) -> Any:
    """Replaces folders, and what lies in them, in a value, lists and mappings included."""
    if isinstance(value, str):
        path = PurePosixPath(value)
        for old, new in places.items():
            if path.is_relative_to(old):
                return PurePosixPath(new, path.relative_to(old)).as_posix()
    if isinstance(value, list):
        return [repoint(item, places) for item in value]
    if isinstance(value, dict):
        return {name: repoint(item, places) for name, item in value.items()}
    return value


def matches(stage: Stage, globs: str) -> bool:
    """Whether a stage's name, or its notebook's, matches one of the globs, given by comma."""
    names = (stage.name, stage.notebook.stem)
    return any(fnmatch.fnmatchcase(name, glob) for name in names for glob in globs.split(","))


def select(stages: Sequence[Stage], only: str | None) -> list[Stage]:
    """The stages whose name, or whose notebook's name, matches one of the globs, given by comma.

    Raises:
        ValueError: If none does.
    """
    chosen = [stage for stage in stages if only is None or matches(stage, only)]
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
        for name, text in records.each_path(records.input_runs(stage.parameters.config())):
            if root / text not in made:
                check_input_run(stage, name, text, root)
        for name, text in records.each_path(stage.parameters.input_files()):
            if made_folder(root / text, made) is None:
                check_input_file(stage, name, text, root)
        check_place(stage, root)
        made.append(stage.folder)
    check_writable(stages[0].folder.parent)


def check_input_run(stage: Stage, name: str, text: str, root: Path) -> None:
    """Raises if a run folder that nothing makes in this run is not finished."""
    try:
        records.check_input(name, text, root)
        if name == "cnn_run":
            stage.parameters.check_trained(root)
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
            raise ValueError(f"{stage.params_file}: {name} is {text!r}. {reason}")
        raise ValueError(
            f"{stage.params_file}: {name} is {text!r}, and there is no such "
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
        check_inside(stage.folder, root)
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


def reason_to_run(stage: Stage, root: Path) -> str | None:
    """Why a stage must run; None if it has finished and nothing has changed since."""
    try:
        summary = records.read_summary(stage.folder)
    except ValueError:
        return "did not finish last time" if stage.folder.is_dir() else "has not run yet"
    changes = runs.changes(stage.folder, summary, wanted_facts(stage, root))
    if changes:
        return ", ".join(changes.values())
    return None if stage.page.is_file() else "has no page yet"


def wanted_facts(stage: Stage, root: Path) -> dict[str, Any]:
    """What a run of the stage would be made from now."""
    return records.made_from(stage.notebook.stem, stage.parameters.config(), root)


def make_way(stage: Stage, root: Path, *, anew: bool) -> str:
    """Moves what the stage's run folder holds aside where its next run must not write over it.

    Returns:
        What to tell the user; empty if nothing moved.

    Raises:
        ValueError: If another process writes to the folder.
    """
    lock = runs.FolderLock(stage.folder)
    try:
        wanted, longer = wanted_facts(stage, root), stage.parameters.LONGER
        shown, line = runs.make_way(stage.folder, wanted, longer, anew)
        return "" if shown else line
    finally:
        lock.release()
