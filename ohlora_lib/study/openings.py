"""What becomes of a run folder when its stage is started again.

A finished run is never written over. Asked for again as it was, it is shown again; asked for with
other parameters or inputs, it moves whole to `.earlier` before the new run starts. A fine-tuning
that only needs more epochs resumes from the last checkpoint of the one that moved.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ohlora_lib.io.disk import sha256, sync
from ohlora_lib.io.pictures import files_read
from ohlora_lib.study.run_files import read_config
from ohlora_lib.study.summaries import differences, read_failure, read_summary

EARLIER = ".earlier"  # in a study's outputs: the runs that moved aside
STATE = "checkpoints/state.pt"  # what a training resumes from
RESUMED_FROM = ("checkpoints/*", "images/*", "*_log.csv")  # what a longer training needs
PICTURES = {".png", ".webp", ".mp4"}  # drawn from the results, so no part of them


@dataclass(frozen=True)
class Opening:
    """How a run folder was opened.

    Attributes:
        finished: The finished run that is shown again: its summary; None for a run that starts.
        kept: Where the run that was there is now, if it moved.
        line: What to tell the user; may be empty.
    """

    finished: dict[str, Any] | None = None
    kept: Path | None = None
    line: str = ""


def results_sha256(summary: Mapping[str, Any]) -> str:
    """Hash of what a run left for other stages: names and hashes of its files, pictures aside."""
    files = [
        [fact["path"], fact.get("sha256")]
        for fact in summary.get("artefacts", [])
        if Path(fact["path"]).suffix not in PICTURES
    ]
    return hashlib.sha256(json.dumps(sorted(files)).encode()).hexdigest()


def input_facts(folders: Path | Iterable[Path], root: Path) -> Any:
    """Path and results of one finished input run, or of several."""
    if not isinstance(folders, Path):
        return [input_facts(folder, root) for folder in folders]
    path = folders.relative_to(root) if folders.is_relative_to(root) else folders
    return {"path": path.as_posix(), "results_sha256": results_sha256(read_summary(folders))}


def content_hash(path: Path) -> str:
    """Hash of a file; of a folder, of the names, sizes and times of the files a stage may read."""
    if path.is_file():
        return sha256(path)
    digest = hashlib.sha256()
    for file in files_read(path):
        fact = file.stat() if file.exists() else file.lstat()  # a link may lead nowhere
        name = file.relative_to(path).as_posix().encode("utf-8", "surrogateescape")
        digest.update(name + f" {fact.st_size} {fact.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def file_facts(given: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Hashes of input files and folders by parameter; a list for a list."""
    return {
        name: [
            content_hash(root / text) for text in ([value] if isinstance(value, str) else value)
        ]
        for name, value in given.items()
    }


def facts_of(
    config: Mapping[str, Any], inputs: Mapping[str, Any], files: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything a run is made from, flat: parameters, and hashes of its inputs by parameter."""
    hashes: dict[str, Any] = dict(files)
    for name, value in inputs.items():
        hashes[name] = [
            fact.get("results_sha256") for fact in (value if isinstance(value, list) else [value])
        ]
    return {**config, **{f"{name}_sha256": value for name, value in hashes.items()}}


def facts_of_run(folder: Path, summary: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that a finished run was made from."""
    return facts_of(read_config(folder), summary.get("inputs", {}), summary.get("files", {}))


def changed(folder: Path, summary: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Names of the facts in which a finished run differs from the one that is wanted.

    A name that only one of them has says nothing: another version of the package added it.
    """
    saved = facts_of_run(folder, summary)
    return [name for name in wanted if name in saved and saved[name] != wanted[name]]


def open_folder(
    folder: Path, wanted: Mapping[str, Any], *, longer: str = "", anew: str = ""
) -> Opening:
    """Decides what becomes of what a run folder holds, and moves it aside if need be.

    The caller holds the folder's lock.

    Args:
        folder: The run folder; it need not be there.
        wanted: What the new run is to be made from, as `facts_of` gives it.
        longer: The parameter that a finished training may be resumed with if it alone has grown.
        anew: Why to start from the beginning, whatever is there; empty if not to.
    """
    _settle(folder)
    wanted = json.loads(json.dumps(wanted))
    try:
        summary = read_summary(folder)
    except (
        ValueError
    ):  # nothing there, or stopped half-way: its stage resumes it or reports why not
        damaged = (folder / "summary.json").is_file() and read_failure(folder) is None
        kept = move_aside(folder) if anew or damaged else None
        what = "run with a damaged summary.json" if damaged else "unfinished run"
        return Opening(kept=kept, line=f"The {what} is kept in {kept}." if kept else "")
    date = str(summary.get("finished", ""))[:16].replace("T", " ")
    names = changed(folder, summary, wanted)
    if not names and not anew:
        line = (
            f"This run finished on {date} UTC; nothing to do. `start_anew = True` runs it again."
        )
        return Opening(finished=summary, line=line)
    saved = facts_of_run(folder, summary)
    why = differences(saved, wanted, names) or anew
    ready = None
    if not anew and names == [longer] and saved[longer] < wanted[longer]:
        ready = _resumable_copy(folder)
    kept = move_aside(folder)
    if ready:
        ready.rename(folder)
        sync(folder.parent)
    how = " Training resumes from its last checkpoint." if ready else ""
    line = f"The run that finished on {date} UTC is kept in {kept}: {why}.{how}"
    return Opening(kept=kept, line=line)


def move_aside(folder: Path) -> Path | None:
    """Moves a run folder, whole and at once, to where nothing else reads it.

    Returns:
        Where it is now, `outputs/<study>/.earlier/<stage>-<time>`; None if there was nothing.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        return None
    date = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    aside = folder.parent / EARLIER / f"{folder.name}-{date}"
    aside.parent.mkdir(exist_ok=True)
    folder.rename(aside)
    sync(aside.parent)
    return aside


def _copy_place(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.resumable")


def _settle(folder: Path) -> None:
    """Ends a move that was cut off: a copy is whole once the folder it was made of has moved."""
    copy = _copy_place(folder)
    if copy.is_dir() and folder.is_dir():
        shutil.rmtree(copy)
    elif copy.is_dir():
        copy.rename(folder)


def _resumable_copy(folder: Path) -> Path | None:
    """Links what a training resumes from beside its run folder; None without a checkpoint.

    No file of a run folder is ever written in place, so links are as good as copies.
    """
    if not (folder / STATE).is_file():
        return None
    copy = _copy_place(folder)
    for path in (path for pattern in RESUMED_FROM for path in folder.glob(pattern)):
        if path.is_file():
            place = copy / path.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, place)
            except OSError:  # a file system without links
                shutil.copy2(path, place)
    return copy


@dataclass(frozen=True)
class Earlier:
    """A run that moved aside."""

    path: Path
    size: int  # bytes that deleting it frees: files that a newer run shares are not counted


def find_earlier(outputs: Path, study: str = "") -> list[Earlier]:
    """The runs that moved aside, of one study or of all, oldest first in each."""
    found = sorted(outputs.glob(f"{study or '*'}/{EARLIER}/*"))
    return [Earlier(path, _bytes_freed(path)) for path in found if path.is_dir()]


def _bytes_freed(folder: Path) -> int:
    stats = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum(fact.st_size for fact in stats if fact.st_nlink == 1)
