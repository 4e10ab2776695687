"""Statistics on training logs: what moved, by how much, and how sure that is.

Every statement carries an interval, from `trend_noise`. Intervals hold for all properties of a
table at once (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ohlora_lib.verdict.bootstrap import distance_change, effect_word, window_mean
from ohlora_lib.verdict.logs import WHO, properties_of, sources_of, who

PUBLISHED_CONCEPT = {"gender": 1.0, "quality": 1.0, "age": 0.0, "glass": 0.0}
MIN_ROWS = 3  # rows of a window, at the least
CONFIDENCE = 0.95
COLLAPSED_DIVERSITY = 0.7  # of the selected images' own; lower counts as a collapse


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


def scores_of(log: pd.DataFrame, source: str, prop: str) -> tuple[np.ndarray, np.ndarray]:
    """Time and score of the rows that have a score."""
    column = f"{source}_{prop}_score"
    if column not in log:
        raise ValueError(
            f"the log has no column {column!r}; it has properties {properties_of(log)} "
            f"and sources {sources_of(log)}. Check `concept` and `source`"
        )
    found = log.loc[np.isfinite(log[column]), ["time_epochs", column]].to_numpy(float)
    return found[:, 0], found[:, 1]


def ended_early(log: pd.DataFrame, time: np.ndarray) -> bool:
    """Whether scores stop in the last tenth of training or before it, or are too few."""
    last, first = log["time_epochs"].iloc[-1], log["time_epochs"].iloc[0]
    return len(time) < 2 * MIN_ROWS or time[-1] < last - 0.1 * (last - first)


def checked(concept: Mapping[str, float]) -> dict[str, float]:
    """Targets as floats; raises ValueError if there are none or one is not in 0 to 1."""
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
        source: "mean" (selecting CNNs, fresh samples), "heldout", "fixed" or "fixed_heldout".
        seed: Of the bootstrap.
        scores_per_row: Samples scored for each row.

    Returns:
        One row a property: property, target, start and end (mean scores, see `start_of` and
        `end_of`), distance_start, distance_end, change (of distance), change_low, change_high,
        effect ("closer", "moved away", "not shown"), start_rows, end_rows,
        block_rows, confidence, source. Rows too few, or scores that stop early, give NaN and
        "not shown".
    """
    concept, rows = checked(concept), []
    level = 1 - (1 - CONFIDENCE) / len(concept)
    for number, (prop, target) in enumerate(concept.items()):
        time, score = scores_of(log, source, prop)
        row = {"property": prop, "target": target}
        if ended_early(log, time):
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
    return judged_by(source, rows, log)


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
    concept, rows = checked(concept), []
    level = 1 - (1 - CONFIDENCE) / len(concept)
    for number, (prop, target) in enumerate(concept.items()):
        row = {"property": prop, "target": target, "run_a": names[0], "run_b": names[1]}
        scores = [scores_of(log, source, prop) for log in (log_a, log_b)]
        if ended_early(log_a, scores[0][0]) or ended_early(log_b, scores[1][0]):
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
    return judged_by(source, rows, log_a, log_b)


def judged_by(source: str, rows: list[dict[str, Any]], *logs: pd.DataFrame) -> pd.DataFrame:
    """A table of verdicts that knows who gave the scores (`attrs["by"]`)."""
    table = pd.DataFrame(rows)
    table.attrs["by"] = who(source, *logs)
    return table


# ---- words --------------------------------------------------------------------------------------


def listed(names: Sequence[str]) -> str:
    """Names as in a sentence: "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def verdict_sentence(table: pd.DataFrame) -> str:
    """Says a table of `run_verdict` or `compare_logs` in plain words, and by whom."""
    words = _comparison_words(table) if "run_a" in table else _run_words(table)
    return f"By {table.attrs.get('by', WHO[table['source'].iloc[0]])}: {words}"


def _run_words(table: pd.DataFrame) -> str:
    by = {name: part for name, part in table.groupby("effect")}
    if table["change"].isna().all():
        return "nothing can be shown: the log has too few scored rows."
    closer = by.get("closer", table[:0])
    head = f"{len(closer)} of {len(table)} properties came closer to their target"
    if len(closer) == len(table):
        head = "every property came closer to its target" if len(table) > 1 else head
    parts = [head + _moves(closer)]
    if "moved away" in by:
        parts.append(f"moved away: {listed(list(by['moved away']['property']))}"
                     + _moves(by["moved away"], named=False))  # fmt: skip
    if "not shown" in by:
        parts.append(f"not shown: {listed(list(by['not shown']['property']))}")
    return "; ".join(parts) + "."


def _moves(part: pd.DataFrame, *, named: bool = True) -> str:
    moves = [
        f"{row.property + ' ' if named else ''}{row.distance_start:.3f} to {row.distance_end:.3f}"
        for row in part.itertuples()
    ]
    return f" (mean distance, start to end: {', '.join(moves)})" if moves else ""


def _comparison_words(table: pd.DataFrame) -> str:
    a, b = table["run_a"].iloc[0], table["run_b"].iloc[0]
    if table["difference"].isna().all():
        return f"nothing can be shown of {b} against {a}: a log has too few scored rows."
    if (table["difference"] == 0).all():
        return f"no difference at all between {a} and {b}; are they the same log?"
    parts = []
    for effect, words in (
        ("closer", "ended closer to the target than"),
        ("moved away", "ended farther from the target than"),
    ):
        names = list(table.loc[table["effect"] == effect, "property"])
        if names:
            parts.append(f"{b} {words} {a} on {len(names)} of {len(table)}: {listed(names)}")
    unknown = list(table.loc[table["effect"] == "not shown", "property"])
    if unknown:
        between = "" if parts else f" between {a} and {b}"
        parts.append(f"no difference{between} shown on {listed(unknown)}")
    return "; ".join(parts) + "."
