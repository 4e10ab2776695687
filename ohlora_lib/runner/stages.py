"""Reads a study's stages from its params files, checks them, and finds which ones must run."""

import fnmatch
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ohlora_lib.io.disk import dangling_link, file_name
from ohlora_lib.population import inputs
from ohlora_lib.study import parameters, records, run_folder
from ohlora_lib.study.cells import did_you_mean
from ohlora_lib.study.look import conditions
from ohlora_lib.study.parameters import NotebookParameters
from ohlora_lib.verdict.logs import read_log


@dataclass(frozen=True)
class Stage:
    """A params file with its notebook and its run folder."""

    name: str
    params_file: Path
    notebook: Path
    folder: Path
    parameters: NotebookParameters

    @property
    def path(self) -> str:
        """The run folder, relative to the project root."""
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
    """Finds a study's params folder and project root; ValueError if the folder does not exist.

    `params` or the study may be a symlink.
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
        raise ValueError(f"{folder}: no such folder. {_which_study(given)}")
    given = Path(os.path.abspath(given))  # a symlink stays one
    return given, records.project_root(given)


def _which_study(given: Path) -> str:
    """Suggests the study that a wrong folder may stand for, or lists the project's studies."""
    files = records.project_root(given).glob("params/*/*.yaml")
    names = sorted({path.parent.name for path in files})
    listed = f"Name a study in params/: {', '.join(names)}."
    return did_you_mean(given.name, names, listed, prefix="params/")


def read_study(folder: Path, root: Path, seed: int | None = None) -> list[Stage]:
    """Reads and checks every params file of a study, in order of name.

    A seed replaces the seed in each file and names the study `<study>-seed<seed>`. An invalid file
    raises a one-line ValueError.
    """
    for other in sorted(folder.glob("*.yml")):
        raise ValueError(f"{shown_path(other, root)}: params files end in .yaml. Rename it.")
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise ValueError(f"{folder}: has no params files (*.yaml). {_which_study(folder)}")
    return [_read_stage(path, root, seed) for path in files]


def _read_stage(path: Path, root: Path, seed: int | None) -> Stage:
    shown, study = shown_path(path, root), path.parent.name
    try:
        model = parameters.load(path)
    except ValueError as error:
        raise ValueError(str(error).replace(str(path), str(shown))) from None
    if model.study != study:
        raise ValueError(
            f"{shown}: study is {model.study!r}, but the folder is {study!r}. "
            f"Make them the same, so that studies do not overwrite each other."
        )
    if seed is not None:
        name = seeded(study, seed)
        places = {f"outputs/{study}": f"outputs/{name}"}
        model = derive(model, places, f"{shown} (seed {seed})", study=name, seed=seed)
    stage = stage_of(model, shown.parent, root)
    where = stage.notebook.relative_to(root)
    if not stage.notebook.is_file():
        raise ValueError(f"{shown}: its notebook {where} is missing. Restore it.")
    found = records.read_json(stage.notebook).get("cells", [])
    if not any("parameters" in cell["metadata"].get("tags", []) for cell in found):
        raise ValueError(f"{where} has no cell tagged 'parameters'. Add the tag.")
    return stage


def stage_of(model: NotebookParameters, folder: Path, root: Path) -> Stage:
    """Returns the stage for these parameters, with its params file in `folder`."""
    name, notebook = model.stage, root / "notebooks" / f"{model.NOTEBOOK}.ipynb"
    outputs = root / "outputs" / model.study / name
    return Stage(name, folder / f"{name}.yaml", notebook, outputs, model)


def shown_path(path: Path, root: Path) -> Path:
    """Returns a path relative to `root` if it lies inside, or else unchanged."""
    return path.relative_to(root) if path.is_relative_to(root) else path


def seeded(study: str, seed: int | None) -> str:
    """Returns the name of a study when it runs with a seed."""
    return study if seed is None else f"{study}-seed{seed}"


def folder_name(text: str) -> str:
    """Turns a text into a unique study name, short enough for a seed suffix."""
    return file_name(text, kept="A-Za-z0-9_.-", longest=50)


def derive(
    model: NotebookParameters, places: Mapping[str, str], source: str, **changes: Any
) -> NotebookParameters:
    """Returns a copy of parameters with some changed and input paths replaced (see `repoint`).

    Error messages begin with `source`.
    """
    return type(model).checked(repoint({**model.model_dump(), **changes}, places), source)


def repoint(value: Any, places: Mapping[str, str]) -> Any:
    """Replaces folder prefixes of the paths in a value, including in lists and mappings."""
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
    """Whether a stage's name or its notebook's matches any of the comma-separated globs."""
    names = (stage.name, stage.notebook.stem)
    return any(fnmatch.filter(names, glob) for glob in globs.split(","))


def select(stages: Sequence[Stage], only: str, kind: str = "stage") -> list[Stage]:
    """Returns the stages that match comma-separated globs; ValueError if no stage matches.

    `kind` says in the message what the stages have in common.
    """
    if chosen := [stage for stage in stages if matches(stage, only)]:
        return chosen
    names = [stage.name for stage in stages]
    listed = f"Choose from {names}."
    wider = (f"{only}*", f"0{only}*")  # for `5`, `05*`
    globs = [glob for glob in wider if any(matches(stage, glob) for stage in stages)]
    remedy = f"Did you mean {globs[0]!r}?" if globs else did_you_mean(only, names, listed)
    raise ValueError(f"{only!r} matches no {kind}. {remedy}")


def check_study(stages: Sequence[Stage], root: Path) -> None:
    """Checks that every input is readable or will be made by an earlier stage.

    If not, the ValueError names the params file, parameter, value and remedy.
    """
    made: set[Path] = set()
    for stage in stages:
        try:
            records.check_inside(stage.folder, root)
            _check_inputs(stage.parameters, made, root)
        except ValueError as error:
            raise ValueError(f"{stage.params_file}: {error}") from None
        made.add(stage.folder)


def _check_inputs(model: NotebookParameters, made: Collection[Path], root: Path) -> None:
    for name, text in records.input_paths(model.config(), records.RUNS):
        if root / text not in made:
            records.check_input(name, text, root)
            if name == "cnn_run":
                model.check_trained(root)
    for name, text in records.input_paths(model.config(), records.FILES):
        path = root / text
        if not made.isdisjoint(path.parents):
            continue
        kind = "folder" if name.endswith("_folder") else "file"
        if not (path.is_dir() if kind == "folder" else path.is_file()):
            reason = dangling_link(path) or f"Correct the path; it is relative to {root}."
            raise ValueError(f"{name} is {text!r}, but there is no such {kind}. {reason}")
        try:
            look(name, model, path, root)
        except ValueError as error:
            raise ValueError(f"{name}: {str(error).replace(f'{root}/', '')}") from None


def look(name: str, model: Any, path: Path, root: Path) -> None:
    """Checks an input, named by its parameter, as its stage will read it hours later."""
    match name:  # what imports torch is imported only if needed
        case "log_csv" | "log_csvs" | "earlier_csv":
            read_log(path, **model.pick("columns complete"))
        case "image_folder":
            inputs.check_images(model, path, root)
        case "labels_csv":
            inputs.check_labels(model, path, root)
        case "scores_csv":
            from ohlora_lib.selection.select import read_scores

            read_scores(path, conditions(model.concept, model.keep))
        case "onnx_files":
            from ohlora_lib.evaluation.independent import load_independent

            load_independent(model, root)
        case "generator_file" | "discriminator_file":
            from ohlora_lib.io.weights import check_weights

            check_weights(path, name.removesuffix("_file"))
            if getattr(model, "source", "") == "files" and not model.discriminator_file:
                check_weights(path, "discriminator")  # the file must hold both


def reason_to_run(stage: Stage, root: Path) -> str | None:
    """Returns why a stage must run; None if it has finished and nothing has changed since."""
    try:
        summary = records.read_summary(stage.folder)
    except ValueError:
        return "did not finish last time" if stage.folder.is_dir() else "has not run yet"
    if changes := run_folder.changes(stage.folder, summary, _made_from(stage, root)):
        return ", ".join(changes.values())
    return None if stage.page.is_file() else "has no page yet"


def _made_from(stage: Stage, root: Path) -> dict[str, Any]:
    return records.made_from(stage.notebook.stem, stage.parameters.config(), root)


def make_way(stage: Stage, root: Path, *, anew: bool) -> str:
    """Moves aside earlier results that the stage must not overwrite; returns the user's message.

    Raises ValueError if another process is writing to the folder.
    """
    lock, longer = run_folder.FolderLock(stage.folder), stage.parameters.LONGER
    try:
        shown, line = run_folder.make_way(stage.folder, _made_from(stage, root), longer, anew)
        return "" if shown else line.replace(f"{root}/", "")
    finally:
        lock.release()
