"""Training logs as tables: reading, checking, what they hold.

A log has one row an evaluation: place in training, losses, and for each property and kind of score
a mean over the samples, `mean_gender_score`, `heldout_gender_score`, and so on.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

NEEDED = ("epoch", "idx", "d_loss", "g_loss", "real_fake_auroc")


def read_log(path: str | Path) -> pd.DataFrame:
    """Reads a training log, published or ours, and adds `time_epochs`.

    Losses and scores may be missing (`stability` calls it); `epoch` and `idx` may not.

    Raises:
        ValueError: If the file is absent, empty, cut off or something else than a log.
    """
    path = Path(path)
    log = pd.read_csv(_whole_table(path), index_col=False)
    log = log.loc[:, [not name.startswith("Unnamed") for name in log.columns]]
    missing = [name for name in NEEDED if name not in log]
    if missing or not properties_of(log):
        what = ", ".join(missing) or "mean_<property>_score"
        raise ValueError(f"{path}: not a training log, column {what} is missing; "
                         "give the train_log.csv of a fine-tuning run")  # fmt: skip
    for name in log.select_dtypes(exclude="number"):
        text = log[name].astype(str)
        odd = text[log[name].notna() & pd.to_numeric(log[name], errors="coerce").isna()]
        if len(odd):
            raise ValueError(f"{path}: {name} in row {odd.index[0]} is {odd.iloc[0]!r}, not a "
                             "number; restore the file from its run folder")  # fmt: skip
    return log.assign(time_epochs=time_epochs(log, where=path))


def _whole_table(path: Path) -> Path:
    """The path itself, once every line of the file has as many fields as its header."""
    remedy = "give the train_log.csv of a fine-tuning run"
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; {remedy}")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error):
        raise ValueError(f"{path}: not a CSV text file; {remedy}") from None
    if len(rows) < 2:
        raise ValueError(f"{path}: {'only a header' if rows else 'empty'}, no rows; {remedy} "
                         "that has evaluated at least once")  # fmt: skip
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(rows[0]):
            raise ValueError(
                f"{path}: line {number} has {len(row)} of {len(rows[0])} fields, the file is cut "
                "off or damaged; delete that line or copy the log again"
            )
    return path


def time_epochs(log: pd.DataFrame, *, where: str | Path = "log") -> pd.Series:
    """Training time of each row: epoch + idx / batches an epoch; must grow.

    The number of batches is not in a log: the last evaluation of an epoch lies somewhere in the
    last interval between evaluations, half of one before the end on average.
    """
    epoch, idx = log["epoch"], log["idx"]
    if not np.isfinite(epoch * idx).all() or (epoch < 0).any() or (idx < 0).any():
        raise ValueError(f"{where}: epoch and idx must be 0 or more in every row; "
                         "copy the log from its run folder again")  # fmt: skip
    steps = np.diff(np.unique(idx))
    batches = idx.max() + (np.median(steps) + 1) / 2 if len(steps) else idx.max() + 1
    time = epoch + idx / batches
    back = np.flatnonzero(np.diff(time) <= 0)
    if len(back):
        raise ValueError(
            f"{where}: row {back[0] + 1} is not later in training than the row before it; "
            "is this two runs in one file? Keep one run's rows"
        )
    return time


def properties_of(log: pd.DataFrame) -> list[str]:
    """Names of the scored properties, in the log's order."""
    found = (re.fullmatch(r"mean_(.+)_score", str(name)) for name in log.columns)
    return [match[1] for match in found if match]


def present(concept: Mapping[str, float], *logs: pd.DataFrame) -> dict[str, float]:
    """The concept's properties that every log scores.

    Raises:
        ValueError: If there are none.
    """
    found = {p: t for p, t in concept.items() if all(p in properties_of(log) for log in logs)}
    if not found:
        raise ValueError(f"concept is {dict(concept)}, the logs score {properties_of(logs[0])}; "
                         "give a concept of those")  # fmt: skip
    return found


def sources_of(log: pd.DataFrame) -> list[str]:
    """Which kinds of scores a log holds for its properties: "mean", "heldout", "fixed", ..."""
    first = properties_of(log)[0]
    kinds = ("mean", "heldout", "fixed", "fixed_heldout")
    return [kind for kind in kinds if f"{kind}_{first}_score" in log]


def log_names(files: Sequence[Path]) -> list[str]:
    """Short names of logs, told apart: `train_log_v8.csv` is v8, else the run folder's name."""
    parts = []
    for file in files:
        short = re.sub(r"^train_log[_-]?", "", file.stem)
        folders = file.resolve().parts[:-1]
        parts.append((*folders, short) if short else folders or (file.stem,))
    for depth in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return unique_names([part[-1] for part in parts])


def unique_names(names: Sequence[str]) -> list[str]:
    """Names told apart: seeds of one run get a number, `v9 (2)`."""
    return [
        f"{name} ({list(names[: k + 1]).count(name)})" if list(names).count(name) > 1 else name
        for k, name in enumerate(names)
    ]
