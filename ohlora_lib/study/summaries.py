"""What `summary.json` of a run folder says, checked before it is believed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ohlora_lib.io.disk import sha256

MOST_NAMES = 6  # changed parameters that an error names
HASHED = {".safetensors", ".pth", ".csv", ".json"}  # of an input; stores and pictures by size


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
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: damaged ({error}). {_remedy(Path(run_folder))}") from error
    if not isinstance(summary, dict) or summary.get("status") != "finished":
        raise ValueError(
            f"{run_folder}: this run has not finished{_how_it_ended(summary)}. "
            f"{_remedy(Path(run_folder))}"
        )
    return summary


def read_failure(run_folder: Path | str) -> dict[str, Any] | None:
    """What `write_failure` wrote: how a run ended that did not finish; None where it did not."""
    try:
        summary = json.loads((Path(run_folder) / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    failed = isinstance(summary, dict) and {"status", "reason"} <= summary.keys()
    return summary if failed and summary["status"] != "finished" else None


def _how_it_ended(summary: Any) -> str:
    if not isinstance(summary, dict) or not {"status", "reason"} <= summary.keys():
        return ""
    return f" ({summary['status']}: {str(summary['reason']).rstrip('.')})"


def check_artefacts(run_folder: Path, summary: Mapping[str, Any]) -> None:
    """Compares the files of a finished run with its summary.

    Sizes always; hashes of tables and of weights, those in `checkpoints/` aside: these, image
    stores and pictures are many or large, and go by their size.

    Raises:
        ValueError: If a file is gone or is another; names it.
    """
    for fact in summary.get("artefacts", []):
        path = run_folder / fact["path"]
        if not path.is_file():
            found = "is gone"
        elif path.stat().st_size != fact["bytes"]:
            found = f"has {path.stat().st_size} bytes instead of {fact['bytes']}"
        elif _is_hashed(fact["path"], path) and sha256(path) != fact["sha256"]:
            found = "was changed: its sha256 is not the one in summary.json"
        else:
            continue
        raise ValueError(f"{path} {found}. {_remedy(run_folder)} --force")


def _is_hashed(name: str, path: Path) -> bool:
    return path.suffix in HASHED and not name.startswith("checkpoints/")


def _remedy(run_folder: Path) -> str:
    """The command that makes a run folder."""
    study, stage = run_folder.parent.name or "<study>", run_folder.name
    return f"Make it with: ohlora run {_study_words(study)} --only {stage}"


def _study_words(study: str) -> str:
    """What `ohlora run` calls a study of `outputs`; one of a seed has no params of its own."""
    name, _, seed = study.rpartition("-seed")
    return f"params/{name} --seed {seed}" if name and seed.isdigit() else f"params/{study}"


def differences(
    saved: Mapping[str, Any], wanted: Mapping[str, Any], names: Sequence[str] | None = None
) -> str:
    """Says in which facts two runs differ: `epochs was 2 and is now 3, base_run is another`.

    Args:
        saved: Facts by name; hashes end in `_sha256`.
        wanted: The other run's.
        names: Which to compare; all if None.

    Returns:
        The first few differences; empty if there are none.
    """
    names = list({**saved, **wanted}) if names is None else names
    names = [name for name in names if saved.get(name) != wanted.get(name)]
    parts = [
        f"{name.removesuffix('_sha256')} is another"
        if name.endswith("_sha256")
        else f"{name} was {saved.get(name)!r} and is now {wanted.get(name)!r}"
        for name in names[:MOST_NAMES]
    ]
    more = f", and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"{', '.join(parts)}{more}"


def start_anew_words() -> str:
    """How to start this stage from the beginning; the earlier run is kept."""
    command = os.environ.get("OHLORA_COMMAND")
    return f"with {command}" if command else "with `start_anew = True` in the parameters cell"
