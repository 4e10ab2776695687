"""Reads run folders: parameters, summaries, and the facts a run was made from.

Facts are parameters and, under names ending in `_sha256`, hashes of inputs and code. A single
comparison decides whether a finished run is shown again, whether the runner skips a stage, and
whether a training run resumes from a checkpoint.
"""

import ast
import hashlib
import json
import os
import re
import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ohlora_lib
from ohlora_lib.io.disk import dangling_link, sha256, write_atomic
from ohlora_lib.io.pictures import files_read

CODE = ("ohlora_lib", "notebook_code_sha256")  # facts that only `ohlora run` compares
RUNS = ("_run", "_runs")  # name endings of parameters that hold run folders ...
FILES = ("_csv", "_csvs", "_file", "_files", "_folder")  # ... and files, or folders of files
HASHED = {".csv", ".json", ".safetensors"}
PARSING = threading.Lock()  # before Python 3.13, ast fails when two threads parse at once
PICTURES = {".png", ".webp", ".mp4"}  # drawn from results, so not hashed as results


def project_root(start: Path | None = None) -> Path:
    """Finds the folder that holds `params/` and `notebooks/`; ValueError if no folder does.

    Args:
        start: Where to search from, upwards along the path as written, before OHLORA_ROOT. If
            None, the search starts at OHLORA_ROOT if set, or else at the working directory.
    """
    named = os.environ.get("OHLORA_ROOT")
    places = [start, named] if start else [named or Path.cwd()]
    for place in (Path(os.path.abspath(place)) for place in places if place):
        for folder in (place, *place.parents, *place.resolve().parents):
            if _is_project(folder):
                return folder.resolve()
    raise ValueError(
        f"{place} is not inside a project (a folder with params/ and notebooks/). Change to the "
        f"project's folder, or set OHLORA_ROOT to it."
    )


def _is_project(folder: Path) -> bool:
    return (folder / "params").is_dir() and (folder / "notebooks").is_dir()


def root_of(run_folder: Path) -> Path:
    """The project a run folder belongs to; does not follow links, as `outputs` may be one."""
    parents = Path(os.path.abspath(run_folder)).parents
    return next(filter(_is_project, parents), parents[2])


def in_project(path: str) -> Path:
    """Resolves a path from a params file: relative paths start at the project root."""
    return project_root() / path


def to_json(data: Any) -> str:
    """Writes JSON that YAML parsers read alike: they would take a bare `1e-05` for text."""
    plain = {"default": lambda value: value.tolist() if hasattr(value, "tolist") else str(value)}
    text = json.dumps(data, indent=2, ensure_ascii=False, **plain)
    bare = r'("(?:\\.|[^"\\])*"|-?\d+\.\d+)|(-?\d+)(?=e[-+]\d)'  # group 1 stays as it is
    return re.sub(bare, lambda m: m[1] or f"{m[2]}.0", text)


def now() -> str:
    """The current time in UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object; empty if the file is missing or malformed."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def read_config(run_folder: Path | str) -> dict[str, Any]:
    """Reads the parameters of a run; ValueError if they are missing or malformed."""
    path = Path(run_folder) / "config.json"
    if config := read_json(path):
        return config
    raise ValueError(f"{path}: missing or malformed. Run the stage again.")


def read_summary(run_folder: Path | str) -> dict[str, Any]:
    """Reads the summary of a run; ValueError with the command to run if it has not finished."""
    folder = Path(run_folder)
    summary = read_json(folder / "summary.json")
    if summary.get("status") == "finished":
        return summary
    if not summary and any(folder.glob("*/config.json")):
        raise ValueError(f"{folder}: is a study's folder. Give one of its run folders.")
    state = "has not finished" if folder.is_dir() else "does not exist"
    if "reason" in summary:
        state += f" ({summary['status']}: {summary['reason'].rstrip('.')})"
    raise ValueError(f"{folder}: this run {state}. Make it with: {command(folder)}")


def write_failure(run_folder: Path, status: str, reason: str, **facts: Any) -> None:
    """Writes a `summary.json` that records how and why a run ended early."""
    facts = {"status": status, "reason": reason, "ended": now(), **facts}
    write_atomic(run_folder / "summary.json", to_json(facts) + "\n")


def study_of(outputs: Path) -> tuple[Path, str]:
    """The params folder a folder of outputs is made from, and its `--seed N` or an empty text."""
    folder = outputs.parents[1] / "params" / outputs.name
    name, _, seed = folder.name.rpartition("-seed")
    if name and seed.isdigit() and not folder.is_dir():
        return folder.with_name(name), f" --seed {seed}"
    return folder, ""


def command(folder: Path) -> str:
    """The command that makes a run folder."""
    params, seed = study_of(folder.parent)
    return f"ohlora run params/{params.name}{seed} --only {folder.name}"


def changed_file(folder: Path, summary: Mapping[str, Any]) -> str:
    """Names the first file of a finished run that is missing or changed; empty if all are intact.

    Compares tables and weights by hash, and checkpoints, image stores and pictures, which are
    many or large, by size.
    """
    for fact in summary.get("artefacts", []):
        path = folder / fact["path"]
        if not path.is_file() or path.stat().st_size != fact["bytes"]:
            return f"{fact['path']} is gone or was changed"
        hashed = path.suffix in HASHED and path.parent.name != "checkpoints"
        if hashed and sha256(path) != fact["sha256"]:
            return f"{fact['path']} was changed"
    return ""


def check_inside(folder: Path, root: Path) -> None:
    """Raises ValueError if a run folder is outside the project's outputs or a dangling link."""
    if reason := dangling_link(folder):
        raise ValueError(reason)
    if not folder.resolve().is_relative_to((root / "outputs").resolve()):
        raise ValueError(
            "It is outside the project's outputs. Give a run folder as outputs/STUDY/STAGE; "
            "only outputs itself may be a link."
        )


def input_paths(config: Mapping[str, Any], ends: tuple[str, ...]) -> list[tuple[str, str]]:
    """Pairs of parameter and path, one per input; lists are expanded, empty paths omitted.

    Args:
        config: Parameters.
        ends: Name endings of the wanted parameters: `RUNS` or `FILES`.
    """
    lists = ((k, [v] if isinstance(v, str) else v) for k, v in config.items() if k.endswith(ends))
    return [(name, path) for name, paths in lists for path in paths if path]


def check_input(name: str, text: str, root: Path) -> Path:
    """Resolves a run folder that a parameter names.

    Raises:
        ValueError: If the run has not finished or one of its files has changed; names the command.
    """
    folder = root / text
    try:
        check_inside(folder, root)
        if reason := changed_file(folder, read_summary(folder)):
            raise ValueError(f"{reason}. Make it with: {command(folder)} --force")
    except ValueError as error:
        reason = str(error).replace(str(folder), text)
        raise ValueError(f"{name} is {text!r}. {reason}") from None
    return folder


def made_from(notebook: str, config: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """All facts a run is made from: parameters, and hashes of its inputs and code."""
    facts = json.loads(to_json(dict(config)))
    hashes: dict[str, list[str]] = {}
    for name, text in input_paths(config, RUNS):
        summary = read_json(root / text / "summary.json")
        hashes.setdefault(f"{name}_sha256", []).append(results_sha256(summary))
    for name, text in input_paths(config, FILES):
        hashes.setdefault(f"{name}_sha256", []).append(content_hash(root / text))
    code = notebook_code(root / "notebooks" / f"{notebook}.ipynb")
    return facts | hashes | dict(zip(CODE, (ohlora_lib.__version__, code), strict=True))


def differences(
    saved: Mapping[str, Any], wanted: Mapping[str, Any], *, but: Collection[str] = ()
) -> dict[str, str]:
    """Describes the facts that differ: `epochs was 2 and is now 3`, `base_run changed`.

    Ignores facts that only one side has, as another version of the package added them, and facts
    named in `but`.
    """
    both = [name for name in wanted if name in saved and name not in but]
    given = {n: n.removesuffix("_sha256") for n in both if saved[n] != wanted[n]}
    return {
        name: f"{path} changed"
        if name != path
        else f"{name} was {saved[name]!r} and is now {wanted[name]!r}"
        for name, path in given.items()
        if name == path or path not in given  # another file has other content
    }


def replaced_inputs(run: Path) -> dict[str, str]:
    """Run folders, by parameter, that a finished run has read and that were made again since."""
    made, found = read_json(run / "summary.json").get("made_from", {}), {}
    for name, text in input_paths(made, RUNS):
        now = read_json(root_of(run) / text / "summary.json")
        if now.get("status") == "finished" and results_sha256(now) not in made[f"{name}_sha256"]:
            found[name] = text
    return found


def results_sha256(summary: Mapping[str, Any]) -> str:
    """Hash of a run's results for other stages: names and hashes of all files but pictures."""
    files = {fact["path"]: fact["sha256"] for fact in summary.get("artefacts", [])}
    results = sorted(item for item in files.items() if Path(item[0]).suffix not in PICTURES)
    return hashlib.sha256(json.dumps(results).encode()).hexdigest()


def content_hash(path: Path) -> str:
    """Hash of a file, or of the names, sizes and times of the files a stage reads in a folder."""
    if path.is_file():
        return sha256(path)
    digest = hashlib.sha256()
    for file in files_read(path):
        fact = file.stat() if file.exists() else file.lstat()  # a link may be dangling
        name = os.fsencode(file.relative_to(path).as_posix())
        digest.update(name + f" {fact.st_size} {fact.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def notebook_code(path: Path) -> str:
    """Hash of the code in a notebook; a missing notebook hashes as empty.

    Ignores Markdown, outputs, comments and the parameters cell, whose values are separate facts.
    """
    digest = hashlib.sha256()
    for cell in read_json(path).get("cells", []):
        tags = set(cell["metadata"].get("tags", []))
        if cell["cell_type"] == "code" and not tags & {"parameters", "injected-parameters"}:
            source = "".join(cell["source"])
            with PARSING, suppress(SyntaxError):  # a cell with a magic
                source = ast.dump(ast.parse(source))
            digest.update(f"{source}\n".encode())
    return digest.hexdigest()
