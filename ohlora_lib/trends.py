"""Statistics on training logs: what moved, by how much, and how sure that is.

A row of a log is noisy (100 samples scored) and rows may hang together, so every statement here
carries an interval. The noise of a window of rows is a circular block bootstrap of the rows'
residuals, in units of the sampling error sqrt(p (1 - p) / 100), the most that 100 scores in [0, 1]
with mean p can have when drawn independently. Three things keep few rows from giving a false
certainty: that sampling error counts as `PRIOR_ROWS` further rows, the width is never under what
an AR(1) process of the rows' autocorrelation would have, and Student's t replaces the normal.
Intervals hold for all properties of a table at once (Bonferroni).

Source of the block length: Politis and White, "Automatic Block-Length Selection for the
Dependent Bootstrap", 2004, doi:10.1081/ETC-120028836, corrected by Patton and them in 2009.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

PUBLISHED_CONCEPT = {"gender": 1.0, "quality": 1.0, "age": 0.0, "glass": 0.0}
NEEDED = ("epoch", "idx", "d_loss", "g_loss", "real_fake_auroc")
MIN_ROWS = 3  # rows of a window, at the least
STRETCH_ROWS = 40  # rows a window's noise is learned from, at the least, where there are so many
PRIOR_ROWS = 10  # weight of the theoretical sampling error against the observed rows
DRAWS = 4000
CONFIDENCE = 0.95
# Rules of `stability`. Two undecided networks have d_loss 2 log 2 = 1.39 and g_loss 0.69.
DIVERGED_LOSS = 5.0
SATURATED_D_LOSS = 0.1
SATURATED_AUROC = 0.995
COLLAPSED_DIVERSITY = 0.7


# ---- reading ------------------------------------------------------------------------------------


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


# ---- smoothing and windows ----------------------------------------------------------------------


def smooth(series: pd.Series, window: int) -> pd.Series:
    """Centred moving mean over `window` rows, fewer at the ends."""
    return series.rolling(window, center=True, min_periods=1).mean()


def smoothing_window(rows: int) -> int:
    """Rows to smooth over: odd, 25 for the published 958 rows, at least 3."""
    return max(3, 2 * (rows // 76) + 1)


def smooth_band(series: pd.Series, window: int) -> pd.DataFrame:
    """About 95 % band (low, high) of the centred moving mean, rows taken as independent."""
    middle = smooth(series, window)
    count = series.rolling(window, center=True, min_periods=1).count()
    wide = max(3 * window, 25)  # a spread from a few rows would jump about
    spread = (series - middle).rolling(wide, center=True, min_periods=2).std()
    half = 1.96 * spread * np.sqrt(window / (window - 1)) / np.sqrt(count.clip(lower=1))
    return pd.DataFrame({"low": middle - half, "high": middle + half})


def start_of(time: np.ndarray) -> np.ndarray:
    """Marks the first rows: one epoch or a tenth of training, the shorter; at least 3 rows."""
    mask = time <= time[0] + min(1.0, 0.1 * (time[-1] - time[0]))
    mask[:MIN_ROWS] = True
    return mask


def end_of(time: np.ndarray) -> np.ndarray:
    """Marks the last rows: ten epochs or a fifth of training, the shorter; at least 3 rows."""
    mask = time > time[-1] - min(10.0, 0.2 * (time[-1] - time[0]))
    mask[-MIN_ROWS:] = True
    return mask


# ---- noise of a window --------------------------------------------------------------------------


@dataclass(frozen=True)
class WindowMean:
    """Mean score of a window of rows, and draws of its error."""

    mean: float
    error: np.ndarray  # (DRAWS,), centred
    rows: int
    block_rows: int
    freedom: float  # rows' worth of knowledge about the error

    def distance(self, target: float) -> float:
        """Distance of the mean from the target."""
        return abs(self.mean - target)

    def distance_error(self, target: float) -> np.ndarray:
        """Draws of the distance's error; signed, so that a mean near its target stays fair."""
        return self.error if self.mean >= target else -self.error


def autocorrelation(values: np.ndarray, lags: int) -> np.ndarray:
    """Autocorrelation at lags 0 to `lags`."""
    x = values - values.mean()
    return np.array([x[: len(x) - lag] @ x[lag:] for lag in range(lags + 1)]) / (x @ x)


def block_length(values: np.ndarray) -> int:
    """Rows in a block, from the values' autocorrelation (Politis and White); at least n^(1/3)."""
    n = len(values)
    least, most = max(1, round(n ** (1 / 3))), max(1, int(min(3 * n**0.5, n / 3)))
    if n < 8 or np.ptp(values) < 1e-9:
        return min(least, most)
    run = 5  # so many small autocorrelations in a row mean that the memory has ended
    lags = min(int(np.ceil(n**0.5)) + run, n // 2)
    rho = autocorrelation(values, lags)
    small = np.abs(rho) < 2 * np.sqrt(np.log10(n) / n)
    memory = next((k for k in range(lags - run + 1) if small[k + 1 : k + 1 + run].all()), lags)
    k = np.arange(1, min(2 * max(memory, 1), lags) + 1)
    taper = np.clip(2 * (1 - k / k[-1]), 0, 1)
    bend = 2 * np.sum(taper * k * rho[k])
    level = 4 / 3 * (1 + 2 * np.sum(taper * rho[k])) ** 2
    length = (2 * bend**2 / max(level, 1e-9)) ** (1 / 3) * n ** (1 / 3)
    return int(np.clip(round(length), min(least, most), most))


def _safe_rho(residual: np.ndarray) -> float:
    """Autocorrelation of neighbours, corrected for short series; 0.75 standard errors up."""
    n = len(residual)
    if n < 8 or np.ptp(residual) < 1e-9:
        return 0.5
    rho = (autocorrelation(residual, 1)[1] * n + 2) / (n - 5)
    return float(np.clip(rho + 0.75 / np.sqrt(n), 0, 0.9))


def _window_mean(
    time: np.ndarray, score: np.ndarray, window: np.ndarray, scores_per_row: int, seed: list[int]
) -> WindowMean:
    """Mean of the marked rows (a stretch at one end of the log) with draws of its error."""
    rows, at_start = int(window.sum()), bool(window[0])
    # At most a third of the log: a longer stretch of a short log holds the change itself, which no
    # smooth trend fits, and would count it as noise.
    reach = max(rows, min(STRETCH_ROWS, len(time) // 3))
    near = slice(0, reach) if at_start else slice(-reach, None)
    t, y, inside = time[near], score[near], window[near]
    basis = np.stack([np.ones_like(t), np.sqrt(t - t[0])], 1)  # (N, 2)
    trend = basis @ np.linalg.lstsq(basis, y, rcond=None)[0]  # (N,)
    p = np.clip(trend, 1 / scores_per_row, 1 - 1 / scores_per_row)
    unit = np.sqrt(p * (1 - p) / scores_per_row)
    residual = (y - trend) / unit
    residual -= residual.mean()

    block, rho, squares = block_length(residual), _safe_rho(residual), residual @ residual
    memory = (1 + rho) / (1 - rho)  # rows that say as much as one independent row
    freedom = max(len(t) - 2 * memory, 2)
    size = np.sqrt((squares + PRIOR_ROWS) / (freedom + PRIOR_ROWS))
    rng = np.random.default_rng(seed)
    if squares < 1e-9:
        residual = rng.standard_normal(len(t))
        squares = residual @ residual
    starts = rng.integers(len(t), size=(DRAWS, -(-rows // block)))
    picks = (starts[:, :, None] + np.arange(block)).reshape(DRAWS, -1)[:, :rows] % len(t)
    draws = residual[picks].mean(1) / np.sqrt(squares / len(t))  # (DRAWS,)
    lag = np.arange(1, rows)
    least = np.sqrt((1 + 2 * np.sum((1 - lag / rows) * rho**lag)) / rows)  # AR(1)
    draws = (draws - draws.mean()) * max(1.0, least / draws.std())
    error = draws * size * unit[inside].mean()
    known = freedom / memory + PRIOR_ROWS
    return WindowMean(float(score[window].mean()), error, rows, block, known)


def _difference(
    a: WindowMean, b: WindowMean, target: float, level: float
) -> tuple[float, float, float, float, float]:
    """Distance of a, distance of b, b less a, and the interval's low and high end."""
    distances = a.distance(target), b.distance(target)
    estimate, tail = distances[1] - distances[0], (1 - level) / 2
    wider = stats.t.isf(tail, min(a.freedom, b.freedom)) / stats.norm.isf(tail)
    error = (b.distance_error(target) - a.distance_error(target)) * wider
    low, high = np.quantile(error, [tail, 1 - tail])
    return *distances, estimate, estimate + float(low), estimate + float(high)


def _effect(low: float, high: float) -> str:
    if high < 0:
        return "closer"
    return "farther" if low > 0 else "not shown"  # NaN is not shown


# ---- verdicts -----------------------------------------------------------------------------------


def _scores(log: pd.DataFrame, source: str, prop: str) -> tuple[np.ndarray, np.ndarray]:
    """Time and score of the rows that have a score."""
    column = f"{source}_{prop}_score"
    if column not in log:
        raise ValueError(
            f"the log has no column {column!r}; it has properties {properties_of(log)} "
            f"and sources {sources_of(log)}. Check `concept` and `source`"
        )
    found = log.loc[np.isfinite(log[column]), ["time_epochs", column]].to_numpy(float)
    return found[:, 0], found[:, 1]


def _ended_early(log: pd.DataFrame, time: np.ndarray) -> bool:
    """Whether scores stop in the last tenth of training or before it, or are too few."""
    last, first = log["time_epochs"].iloc[-1], log["time_epochs"].iloc[0]
    return len(time) < 2 * MIN_ROWS or time[-1] < last - 0.1 * (last - first)


def _checked(concept: Mapping[str, float]) -> dict[str, float]:
    if not concept or not all(0 <= target <= 1 for target in concept.values()):
        raise ValueError(f"concept is {dict(concept)}; give at least one property, targets 0 to 1")
    return {name: float(target) for name, target in concept.items()}


def run_verdict(
    log: pd.DataFrame,
    concept: Mapping[str, float],
    *,
    source: str = "mean",
    seed: int = 0,
    scores_per_row: int = 100,
) -> pd.DataFrame:
    """Says for each property whether training moved its mean score toward the target.

    Args:
        log: From `read_log`.
        concept: Target of each property.
        source: "mean" (selecting ensemble, fresh samples), "heldout", "fixed" or "fixed_heldout".
        seed: Of the bootstrap.
        scores_per_row: Samples scored for each row.

    Returns:
        One row a property: property, target, start and end (mean scores, see `start_of` and
        `end_of`), distance_start, distance_end, change (of distance), change_low, change_high,
        effect ("closer", "farther" or "not shown"), start_rows, end_rows, block_rows, confidence,
        source. Rows too few, or scores that stop early, give NaN and "not shown".
    """
    concept, rows = _checked(concept), []
    level = 1 - (1 - CONFIDENCE) / len(concept)
    for number, (prop, target) in enumerate(concept.items()):
        time, score = _scores(log, source, prop)
        row = {"property": prop, "target": target}
        if _ended_early(log, time):
            row |= dict.fromkeys(RUN_NUMBERS, np.nan) | {"effect": "not shown"}
            row |= dict.fromkeys(("start_rows", "end_rows", "block_rows"), 0)
        else:
            start, end = (
                _window_mean(time, score, window, scores_per_row, [seed, number, side])
                for side, window in enumerate((start_of(time), end_of(time)))
            )
            numbers = (start.mean, end.mean, *_difference(start, end, target, level))
            row |= dict(zip(RUN_NUMBERS, numbers, strict=True)) | {
                "effect": _effect(*numbers[-2:])
            }
            row |= {"start_rows": start.rows, "end_rows": end.rows}
            row |= {"block_rows": max(start.block_rows, end.block_rows)}
        rows.append(row | {"confidence": level, "source": source})
    return pd.DataFrame(rows)


RUN_NUMBERS = (
    "start", "end", "distance_start", "distance_end", "change", "change_low", "change_high",
)  # fmt: skip
COMPARE_NUMBERS = ("distance_a", "distance_b", "difference", "difference_low", "difference_high")


def compare_logs(
    log_a: pd.DataFrame,
    log_b: pd.DataFrame,
    concept: Mapping[str, float],
    *,
    names: Sequence[str] = ("A", "B"),
    source: str = "mean",
    seed: int = 0,
    scores_per_row: int = 100,
) -> pd.DataFrame:
    """Says for each property whether run B ended closer to the target than run A.

    Returns:
        One row a property: property, target, run_a, run_b, distance_a, distance_b (over the end
        of training, see `end_of`), difference (B less A), difference_low, difference_high, effect
        (of B against A), rows_a, rows_b, block_rows, confidence, source.
    """
    concept, rows = _checked(concept), []
    level = 1 - (1 - CONFIDENCE) / len(concept)
    for number, (prop, target) in enumerate(concept.items()):
        row = {"property": prop, "target": target, "run_a": names[0], "run_b": names[1]}
        scores = [_scores(log, source, prop) for log in (log_a, log_b)]
        if _ended_early(log_a, scores[0][0]) or _ended_early(log_b, scores[1][0]):
            row |= dict.fromkeys(COMPARE_NUMBERS, np.nan) | {"effect": "not shown"}
            row |= dict.fromkeys(("rows_a", "rows_b", "block_rows"), 0)
        else:
            a, b = (
                _window_mean(time, score, end_of(time), scores_per_row, [seed, number, side])
                for side, (time, score) in enumerate(scores)
            )
            numbers = _difference(a, b, target, level)
            row |= dict(zip(COMPARE_NUMBERS, numbers, strict=True))
            row |= {"effect": _effect(*numbers[-2:]), "rows_a": a.rows, "rows_b": b.rows}
            row |= {"block_rows": max(a.block_rows, b.block_rows)}
        rows.append(row | {"confidence": level, "source": source})
    return pd.DataFrame(rows)


# ---- stability ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """One broken rule of stable training."""

    rule: str  # "not finite", "diverged", "saturated", "collapsed"
    text: str


def stability(log: pd.DataFrame) -> list[Finding]:
    """What went wrong in training, by stated rules; nothing found means stable.

    not finite: a loss, AUROC or mean score of any row is missing or infinite.
    diverged: the median of d_loss or g_loss over the end of training is over 5.
    saturated: over the end of training the median d_loss is under 0.1, or the median AUROC is
        0.995 or more while the median g_loss is over 5: the generator learns nothing any more.
    collapsed: the mean diversity over the end is under 0.7 of the selected images' own.
    """
    end = log[end_of(log["time_epochs"].to_numpy(float))]
    middle = end.median()
    found = [_not_finite(log)]
    found += [
        Finding("diverged", f"{name} ends at {middle[name]:.2f}, over {DIVERGED_LOSS:g}")
        for name in ("d_loss", "g_loss")
        if middle[name] > DIVERGED_LOSS
    ]
    auroc = middle["pooled_auroc"] if "pooled_auroc" in end else middle["real_fake_auroc"]
    won = auroc >= SATURATED_AUROC and middle["g_loss"] > DIVERGED_LOSS
    if middle["d_loss"] < SATURATED_D_LOSS or won:
        found.append(Finding("saturated", "the discriminator tells real from fake too well: "
                             f"d_loss {middle['d_loss']:.3f}, AUROC {auroc:.3f}"))  # fmt: skip
    diversity = end["diversity"].mean() if "diversity" in end else np.nan
    if diversity < COLLAPSED_DIVERSITY:
        found.append(Finding("collapsed", f"diversity ends at {diversity:.2f} of the selected "
                             f"images' own, under {COLLAPSED_DIVERSITY:g}"))  # fmt: skip
    return [finding for finding in found if finding]


def _not_finite(log: pd.DataFrame) -> Finding | None:
    watched = ["d_loss", "g_loss", "real_fake_auroc"]
    watched += [f"mean_{prop}_score" for prop in properties_of(log)]
    bad = ~np.isfinite(log[watched])
    rows = bad.any(axis=1)
    if not rows.any():
        return None
    first = log[rows].iloc[0]
    where = ", ".join(bad.columns[bad[rows].iloc[0]])
    return Finding("not finite", f"{where} is not a number from epoch {first['epoch']:.0f}, "
                   f"batch {first['idx']:.0f} on ({rows.sum()} of {len(log)} rows)")  # fmt: skip


# ---- words --------------------------------------------------------------------------------------


def listed(names: Sequence[str]) -> str:
    """Names as in a sentence: "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def verdict_sentence(table: pd.DataFrame, findings: Sequence[Finding] | None = None) -> str:
    """Says a table of `run_verdict` or `compare_logs` in plain words.

    Args:
        table: Either table.
        findings: From `stability`, for a run; None says nothing about stability.
    """
    words = [] if findings is None else [stability_sentence(findings)]
    words.append(_comparison_words(table) if "run_a" in table else _run_words(table))
    return " ".join(words)


def stability_sentence(findings: Sequence[Finding]) -> str:
    """Says whether training was stable."""
    if not findings:
        return "Training was stable."
    return f"Training was not stable: {'; '.join(finding.text for finding in findings)}."


def _run_words(table: pd.DataFrame) -> str:
    by = {name: part for name, part in table.groupby("effect")}
    if table["change"].isna().all():
        return "Nothing can be shown: the log has too few scored rows."
    closer = by.get("closer", table[:0])
    head = f"{len(closer)} of {len(table)} properties came closer to their target"
    if len(closer) == len(table):
        head = "Every property came closer to its target" if len(table) > 1 else head
    parts = [head + _moves(closer)]
    if "farther" in by:
        parts.append(f"farther away: {listed(list(by['farther']['property']))}"
                     + _moves(by["farther"], named=False))  # fmt: skip
    if "not shown" in by:
        parts.append(f"not shown: {listed(list(by['not shown']['property']))}")
    return _first_up("; ".join(parts)) + "."


def _moves(part: pd.DataFrame, *, named: bool = True) -> str:
    moves = [
        f"{row.property + ' ' if named else ''}{row.distance_start:.3f} to {row.distance_end:.3f}"
        for row in part.itertuples()
    ]
    return f" (mean distance, start to end: {', '.join(moves)})" if moves else ""


def _comparison_words(table: pd.DataFrame) -> str:
    a, b = table["run_a"].iloc[0], table["run_b"].iloc[0]
    if table["difference"].isna().all():
        return f"{b} against {a}: nothing can be shown, a log has too few scored rows."
    if (table["difference"] == 0).all():
        return f"{b} against {a}: no difference at all; are they the same log?"
    parts = []
    for effect, words in (
        ("closer", "ended closer to the target than"),
        ("farther", "ended farther from the target than"),
    ):
        names = list(table.loc[table["effect"] == effect, "property"])
        if names:
            parts.append(f"{b} {words} {a} on {len(names)} of {len(table)}: {listed(names)}")
    unknown = list(table.loc[table["effect"] == "not shown", "property"])
    if unknown:
        parts.append(f"no difference shown on {listed(unknown)}")
    return _first_up("; ".join(parts)) + "."


def _first_up(text: str) -> str:
    return text[:1].upper() + text[1:] if text[:3] == "no " else text


# ---- files --------------------------------------------------------------------------------------


def compare_files(
    paths: Sequence[str | Path], concept: Mapping[str, float] | None = None, *, seed: int = 0
) -> dict[str, Any]:
    """Judges each log, and each later one against the first; JSON-serialisable.

    Args:
        paths: Logs, or run folders that hold a `train_log.csv`.
        concept: Target of each property; the published one by default.
        seed: Of the bootstrap.
    """
    if not paths:
        raise ValueError("no log given; name at least one train_log.csv or run folder")
    files = [Path(path) / "train_log.csv" if Path(path).is_dir() else Path(path) for path in paths]
    targets = _checked(concept or PUBLISHED_CONCEPT)
    logs = [read_log(file) for file in files]
    for file, log in zip(files, logs, strict=True):
        absent = [prop for prop in targets if prop not in properties_of(log)]
        if absent:
            raise ValueError(f"{file}: no score of {listed(absent)}, it scores "
                             f"{listed(properties_of(log))}; give a concept of those")  # fmt: skip
    names = log_names(files)
    runs = [_run_facts(*each, targets, seed) for each in zip(names, files, logs, strict=True)]
    comparisons = []
    for name, log in list(zip(names, logs, strict=True))[1:]:
        table = compare_logs(logs[0], log, targets, names=(names[0], name), seed=seed)
        comparisons.append({"a": names[0], "b": name, "sentence": verdict_sentence(table),
                            "properties": records_of(table)})  # fmt: skip
    return {"concept": targets, "runs": runs, "comparisons": comparisons}


def _run_facts(
    name: str, file: Path, log: pd.DataFrame, concept: Mapping[str, float], seed: int
) -> dict[str, Any]:
    table, findings = run_verdict(log, concept, seed=seed), stability(log)
    facts: dict[str, Any] = {"name": name, "file": str(file), "rows": len(log)}
    facts |= {"epochs": round(float(log["time_epochs"].iloc[-1]), 2)}
    facts |= {"sentence": verdict_sentence(table, findings), "properties": records_of(table)}
    if "heldout" in sources_of(log):
        facts["heldout"] = records_of(run_verdict(log, concept, source="heldout", seed=seed))
    return facts | {"findings": [asdict(finding) for finding in findings]}


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
    ends = [part[-1] for part in parts]
    return [
        f"{end} ({ends[:k].count(end) + 1})" if ends.count(end) > 1 else end
        for k, end in enumerate(ends)
    ]


def records_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table as plain values; NaN becomes None."""
    return json.loads(table.to_json(orient="records", double_precision=6))
