"""Reads and checks training logs.

A log has one row per evaluation: its place in training, the losses, and for each property and kind
of score a mean over the samples, `mean_gender_score`, `heldout_gender_score`, and so on.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import pandas as pd

from ohlora_lib.io.tables import check_scores, line_of, numbers, parse, read_header
from ohlora_lib.study.records import read_json

NEEDED = ("epoch", "idx", "d_loss", "g_loss")
SCORES = r"(mean|heldout|fixed|fixed_heldout)_.+_score|.*auroc"  # all in 0 to 1
KNOWN = re.compile(
    r"epoch|idx|step|[dg]_loss|[dg]_train_count|(real|fake)_scores_mean|diversity|recall|"
    rf"images_seen|elapsed_sec|{SCORES}"
)
WHO = {  # who gives the scores of each source
    "mean": "the selecting CNNs",
    "heldout": "the held-out judge",
    "fixed": "the selecting CNNs, on the same latents",
    "fixed_heldout": "the held-out judge, on the same latents",
}


def read_log(
    path: str | Path, *, columns: Mapping[str, str] | None = None, complete: bool = False
) -> pd.DataFrame:
    """Reads a training log and adds `time_epochs`; docs/training-log.md describes the columns.

    Single losses and scores may be missing (`findings.stability` reports them); an empty column
    counts as never logged. Without `epoch` or `idx`, `step` may be anything that grows: the whole
    log then counts as one epoch.

    Args:
        path: The log, or a run folder; the other arguments do not apply to a run folder.
        columns: The log's own column names, keyed by ours; for logs from other programs.
        complete: Whether the caller knows that no row is missing at the end.

    Raises:
        ValueError: If the file is absent, empty, truncated or not a training log.
    """
    path, columns = Path(path), columns or {}
    seed = read_json(path / "config.json").get("seed") if path.is_dir() else None
    if path.is_dir():
        path, columns, complete = path / "train_log.csv", {}, False
    log = parse(path) if read_header(path, kind="file") else pd.DataFrame()
    if log.empty:
        raise ValueError(f"{path}: no rows; give the train_log.csv of a fine-tuning run that has "
                         "evaluated at least once")  # fmt: skip
    log = log.loc[:, ~log.columns.str.startswith("Unnamed")]
    for name, theirs in columns.items():
        there = {name, theirs} & {*log}
        faults = {
            f"docs/training-log.md has no column {name!r}": not KNOWN.fullmatch(name),
            f"the log has no column {theirs!r}; it has {_shown(log)}": not there,
            f"the log has columns of both names; it has {_shown(log)}": len(there) > 1,
        }
        for fault in filter(faults.get, faults):
            raise ValueError(f"{path}: columns maps {name} to {theirs!r}, but {fault}. Correct it")
    log = log.rename(columns={theirs: name for name, theirs in columns.items()})
    log = _as_numbers(log, path).dropna(axis=1, how="all")
    by_step = "step" in log and not {"epoch", "idx"} <= set(log)
    _check_columns(log, NEEDED[2:] if by_step else NEEDED, path)
    if by_step:
        log = log.assign(epoch=0, idx=log["step"])
    log = log.assign(time_epochs=time_epochs(log, where=path))
    foreign = bool(columns) or by_step or complete
    log.attrs = {"file": path, "seed": seed, "complete": complete}
    log.attrs |= {"by_step": by_step, "foreign": foreign}
    return log


def read_logs(
    paths: Sequence[str | Path], names: Sequence[str] | None = None, **options: Any
) -> tuple[list[str], list[pd.DataFrame]]:
    """Reads logs and gives them short names unless `names` gives them; see `read_log`."""
    logs = [read_log(path, **options) for path in paths]
    return list(names or log_names([log.attrs["file"] for log in logs])), logs


def _shown(log: pd.DataFrame) -> str:
    return shorten(", ".join(log), 200, placeholder=" ...")


def _as_numbers(log: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Parses all cells as numbers; drops text columns whose names are unknown here."""
    columns = {}
    for name in log:
        values = numbers(log[name])
        odd = log[name][log[name].notna() & values.isna()]
        if len(odd) and KNOWN.fullmatch(name):
            raise ValueError(f"{path}: {name} in line {line_of(path, odd.index[0])} is "
                             f"{str(odd.iloc[0])[:80]!r}, not a number; correct that cell, or "
                             "restore the file")  # fmt: skip
        if re.fullmatch(SCORES, name):
            check_scores(values, path)
        if odd.empty:
            columns[name] = values
    return pd.DataFrame(columns, index=log.index)


def _check_columns(log: pd.DataFrame, needed: Sequence[str], path: Path) -> None:
    """Raises ValueError if columns are missing, or `idx` never restarts."""
    missing = [name for name in needed if name not in log]
    missing += [] if properties_of(log) else ["mean_<property>_score"]
    say = "use --column {0}={1}, or columns: {{{0}: {1}}} in a params file"
    if missing:
        raise ValueError(f"{path}: not a training log without {', '.join(missing)} (step can "
                         f"replace epoch and idx); it has {_shown(log)}. If its names "
                         f"differ, {say.format(missing[-1], 'NAME')}")  # fmt: skip
    epochs = log["epoch"].nunique() if "epoch" in needed else 1
    if len(log) > 2 * epochs > 2 and (log["idx"].diff().iloc[1:] > 0).all():
        raise ValueError(f"{path}: idx must restart at 0 in each epoch. If it counts from the "
                         f"start of training, {say.format('step', 'idx')}")  # fmt: skip


def time_epochs(log: pd.DataFrame, *, where: str | Path = "log", batches: float = 0) -> pd.Series:
    """Training time of each row: epoch + idx / batches per epoch; must grow.

    A log does not hold the number of batches. If it is unknown (0), an epoch's last evaluation
    is placed half an evaluation interval before its end. `where` begins error messages.
    """
    epoch, idx = log["epoch"], log["idx"]
    if not np.isfinite(epoch * idx).all() or (log[["epoch", "idx"]] < 0).any(axis=None):
        raise ValueError(f"{where}: epoch and idx, or step, must be 0 or more in "
                         "every row; correct them, or copy the log again")  # fmt: skip
    steps = np.diff(np.unique(idx))
    batches = batches or idx.max() + ((np.median(steps) + 1) / 2 if len(steps) else 1)
    time = epoch + idx / batches
    back = np.flatnonzero(np.diff(time) <= 0)
    if len(back):
        raise ValueError(f"{where}: line {line_of(where, back[0] + 1)} is not later in training "
                         "than the row before it; does it hold two runs? Keep the rows of one"
                         )  # fmt: skip
    return time


def place_of(log: pd.DataFrame, row: int) -> str:
    """The row's place in training, in words: a log that counts steps has no epochs."""
    epoch, idx = log[["epoch", "idx"]].iloc[row]
    if log.attrs.get("by_step"):
        return f"step {idx:,.0f}"
    return f"epoch {epoch:.0f}, batch {idx:.0f}"


def properties_of(log: pd.DataFrame) -> list[str]:
    """Names the scored properties, in the log's order."""
    found = (re.fullmatch(r"mean_(.+)_score", str(name)) for name in log.columns)
    return [match[1] for match in found if match]


def present(concept: Mapping[str, float], *logs: pd.DataFrame) -> dict[str, float]:
    """Keeps the properties of a concept that every log scores; ValueError if none is left."""
    found = {p: t for p, t in concept.items() if all(p in properties_of(log) for log in logs)}
    if not found:
        raise ValueError(f"concept is {dict(concept)}, but the logs score "
                         f"{properties_of(logs[0])}; give at least one of these")  # fmt: skip
    return found


def sources_of(log: pd.DataFrame) -> list[str]:
    """Lists the kinds of scores in a log: "mean", "heldout", "fixed", ..."""
    first = properties_of(log)[0]
    return [kind for kind in WHO if f"{kind}_{first}_score" in log]


def who(source: str, *logs: pd.DataFrame) -> str:
    """Says who gave a source's scores; for logs of other programs this is unknown."""
    foreign = any(log.attrs.get("foreign") for log in logs)
    return "the scores as logged" if source == "mean" and foreign else WHO[source]


def judge_of(*logs: pd.DataFrame) -> str:
    """The source a verdict on logs uses: "heldout" if every log has it, else "mean"."""
    return "heldout" if all("heldout" in sources_of(log) for log in logs) else "mean"


def log_names(files: Sequence[Path]) -> list[str]:
    """Short distinct names of logs: `train_log_v8.csv` is v8, else the run folder's name."""
    parts = []
    for file in files:
        short = re.sub(r"^train_log[_-]?", "", file.stem)
        parts.append([*file.resolve().parts[:-1], *filter(None, [short])])
    for depth in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return unique_names([part[-1] for part in parts])


def unique_names(names: Sequence[str], logs: Sequence[pd.DataFrame] = ()) -> list[str]:
    """Makes names distinct by the seeds of the logs, `v9 (seed 1)`, or numbers, `v9 (2)`."""
    marks: list[Any] = [names[: k + 1].count(name) for k, name in enumerate(names)]
    seeds = [log.attrs.get("seed") for log in logs]
    if None not in seeds and len(set(zip(names, seeds, strict=False))) == len(names):
        marks = [f"seed {seed}" for seed in seeds]
    repeated = zip(names, marks, strict=True)
    return [f"{name} ({mark})" if names.count(name) > 1 else name for name, mark in repeated]
