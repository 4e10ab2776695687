"""Statistics on training logs: what moved, by how much, and how sure that is.

Every statement carries an interval, from `trend_noise`. Intervals hold for all properties of a
table at once (Bonferroni).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ohlora_lib.training_logs import log_names, properties_of, read_log, sources_of
from ohlora_lib.trend_noise import distance_change, effect_word, window_mean

PUBLISHED_CONCEPT = {"gender": 1.0, "quality": 1.0, "age": 0.0, "glass": 0.0}
MIN_ROWS = 3  # rows of a window, at the least
CONFIDENCE = 0.95
# Rules of `stability`. Two undecided networks have d_loss 2 log 2 = 1.39 and g_loss 0.69.
DIVERGED_LOSS = 5.0
SATURATED_D_LOSS = 0.1
SATURATED_AUROC = 0.995
COLLAPSED_DIVERSITY = 0.7


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
                window_mean(time, score, window, scores_per_row, [seed, number, side])
                for side, window in enumerate((start_of(time), end_of(time)))
            )
            numbers = (start.mean, end.mean, *distance_change(start, end, target, level))
            row |= dict(zip(RUN_NUMBERS, numbers, strict=True)) | {
                "effect": effect_word(*numbers[-2:])
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
                window_mean(time, score, end_of(time), scores_per_row, [seed, number, side])
                for side, (time, score) in enumerate(scores)
            )
            numbers = distance_change(a, b, target, level)
            row |= dict(zip(COMPARE_NUMBERS, numbers, strict=True))
            row |= {"effect": effect_word(*numbers[-2:]), "rows_a": a.rows, "rows_b": b.rows}
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


def records_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table as plain values; NaN becomes None."""
    return json.loads(table.to_json(orient="records", double_precision=6))
