"""Training logs as tables: reading, checking, what they hold.

A log has one row an evaluation: place in training, losses, and for each property and kind of score
a mean over the samples, `mean_gender_score`, `heldout_gender_score`, and so on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ohlora_lib.csv_files import UNREADABLE, numbers, parse, read_header, reason_of

REMEDY = "give the train_log.csv of a fine-tuning run"
NEEDED = ("epoch", "idx", "d_loss", "g_loss", "real_fake_auroc")
WHO = {  # gives the scores of a source
    "mean": "the selecting CNNs",
    "heldout": "the held-out judge",
    "fixed": "the selecting CNNs, on the same latents",
    "fixed_heldout": "the held-out judge, on the same latents",
}


def read_log(path: str | Path) -> pd.DataFrame:
    """Reads a training log, published or ours, and adds `time_epochs`.

    Losses and scores may be missing (`stability` calls it); `epoch` and `idx` may not.

    Raises:
        ValueError: If the file is absent, empty, cut off or something else than a log.
    """
    path = Path(path)
    log = _read(path)
    log = log.loc[:, [not name.startswith("Unnamed") for name in log.columns]]
    missing = [name for name in NEEDED if name not in log]
    if missing or not properties_of(log):
        what = ", ".join(missing) or "mean_<property>_score"
        raise ValueError(f"{path}: not a training log, column {what} is missing; "
                         f"{REMEDY}")  # fmt: skip
    log = _as_numbers(log, path)
    return log.assign(time_epochs=time_epochs(log, where=path))


def _read(path: Path) -> pd.DataFrame:
    """The table as it stands, once every line has as many fields as the header."""
    try:
        header = read_header(path, kind="file", short_rows=False)
    except UNREADABLE as error:
        raise ValueError(f"{path}: not a CSV text file ({reason_of(error)}); {REMEDY}") from error
    log = parse(path, header) if header else pd.DataFrame()
    if log.empty:
        raise ValueError(f"{path}: {'only a header' if header else 'empty'}, no rows; {REMEDY} "
                         "that has evaluated at least once")  # fmt: skip
    return log


def _as_numbers(log: pd.DataFrame, path: Path) -> pd.DataFrame:
    """All cells as numbers; refuses what is none, and scores that are none from 0 to 1."""
    columns = {}
    for name in log:
        values = numbers(log[name])
        columns[name] = values
        score = re.search(r"^(mean|heldout|fixed|fixed_heldout)_.+_score$|auroc$", name)
        bad = log[name].notna() & values.isna()
        if score:
            bad |= np.isfinite(values) & ~values.between(0, 1)
        odd = log[name][bad]
        if len(odd):
            allowed = "a number from 0 to 1" if score else "a number"
            raise ValueError(f"{path}: {name} in row {odd.index[0]} is {str(odd.iloc[0])[:80]!r}, "
                             f"not {allowed}; restore the file from its run folder")  # fmt: skip
    return pd.DataFrame(columns)


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
    return [kind for kind in WHO if f"{kind}_{first}_score" in log]


def judge_of(*logs: pd.DataFrame) -> str:
    """Whose scores a verdict on logs goes by: the held-out judge's where every log has them."""
    return "heldout" if all("heldout" in sources_of(log) for log in logs) else "mean"


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
