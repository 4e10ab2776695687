"""Statistics on training logs: what moved, by how much, and how sure that is.

Every statement carries an interval. Intervals hold for all properties of a table at once
(Bonferroni).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ohlora_lib.verdict.bootstrap import distance_change, effect_word
from ohlora_lib.verdict.logs import properties_of, sources_of, who
from ohlora_lib.verdict.wander import window_mean

PUBLISHED_CONCEPT = {"gender": 1.0, "quality": 1.0, "age": 0.0, "glass": 0.0}
MIN_ROWS = 3  # least number of rows in a window
CONFIDENCE = 0.95
FARTHER = {"moved away": "farther"}  # in words; nothing moves between two runs' ends
LEAST_SEEDS = 3  # of each run, for a claim about recipes
COLLAPSED_DIVERSITY = 0.7  # share of the selected images' own; less counts as a collapse
RUN_COLUMNS = (
    *("start", "end", "distance_start", "distance_end", "change", "change_low", "change_high"),
    *("effect", "start_rows", "end_rows", "near_rows"),
)


Window = Callable[[np.ndarray], np.ndarray]  # marks rows by time
Scored = tuple[np.ndarray, np.ndarray, np.ndarray]  # see `scores_of`
Change = Callable[[str, float, float, list[int]], list[Any]]  # see `change_table`


def start_of(time: np.ndarray) -> np.ndarray:
    """Marks the first epoch or tenth of training, whichever is shorter; at least 3 rows."""
    mask = time <= time[0] + min(1.0, 0.1 * (time[-1] - time[0]))
    mask[:MIN_ROWS] = True
    return mask


def end_of(time: np.ndarray) -> np.ndarray:
    """Marks the last ten epochs or fifth of training, whichever is shorter; at least 3 rows."""
    mask = time > time[-1] - min(10.0, 0.2 * (time[-1] - time[0]))
    mask[-MIN_ROWS:] = True
    return mask


def scores_of(log: pd.DataFrame, window: Window, source: str, prop: str) -> Scored | None:
    """Time and score of the scored rows, and a mask of the rows in a window.

    None if too few rows are scored, or no row in the last tenth of training.
    """
    column = f"{source}_{prop}_score"
    if column not in log:
        raise ValueError(
            f"{log.attrs.get('file', 'the log')}: no column {column!r}; it has scores of "
            f"{listed(properties_of(log))}, by {listed(sources_of(log))}. Correct the concept."
        )
    found = log.loc[np.isfinite(log[column]), ["time_epochs", column]].to_numpy(float)
    first, last = log["time_epochs"].iloc[[0, -1]]
    if len(found) < 2 * MIN_ROWS or found[-1, 0] < last - 0.1 * (last - first):
        return None
    return found[:, 0], found[:, 1], window(found[:, 0])


def run_verdict(
    log: pd.DataFrame, concept: Mapping[str, float], *, source: str = "mean", seed: int = 0
) -> pd.DataFrame:
    """Says for each property whether training moved its mean score toward the target.

    `source` is "mean" (selecting CNNs, fresh samples), "heldout", "fixed" or "fixed_heldout"; the
    seed is the bootstrap's.

    Returns:
        One row per property: property, target, `RUN_COLUMNS`, confidence, source. start and end
        are mean scores over `start_of` and `end_of`; effect is "closer", "moved away" or "not
        shown". Too few rows, or scores that stop early, give NaN and "not shown".
    """
    sides = (log, start_of), (log, end_of)
    change = partial(rows_change, sides, source)
    return change_table(change, RUN_COLUMNS, concept, source, seed, who(source, log))


def change_table(
    change: Change, columns: Sequence[str], concept: Mapping[str, float], source: str, seed: int,
    by: str,
) -> pd.DataFrame:  # fmt: skip
    """One row per property: how its distance to the target differs between two sides.

    `change` gives the values of `columns` by property, target, confidence and seeds; `by` says who
    gave the scores and is kept in `attrs`. ValueError for an impossible concept.
    """
    if not concept or not all(0 <= target <= 1 for target in concept.values()):
        raise ValueError(f"concept is {dict(concept)}; give one property or more, targets 0 to 1")
    level, rows = 1 - (1 - CONFIDENCE) / len(concept), []
    for number, (prop, target) in enumerate(concept.items()):
        values = dict(zip(columns, change(prop, target, level, [seed, number]), strict=True))
        row = {"property": prop, "target": float(target), **values}
        rows.append(row | {"confidence": level, "source": source})
    table = pd.DataFrame(rows)
    table.attrs["by"] = by
    return table


def rows_change(
    sides: Sequence[tuple[pd.DataFrame, Window]],
    source: str,
    prop: str,
    target: float,
    level: float,
    seed: list[int],
) -> list[Any]:
    """Values of `RUN_COLUMNS` for two windows of rows, one per log."""
    scored = [scores_of(*side, source, prop) for side in sides]
    if None in scored:
        return [*[np.nan] * 7, "not shown", 0, 0, 0]
    a, b = (window_mean(*part, [*seed, side]) for side, part in enumerate(scored))
    change = distance_change((a.mean, b.mean), (a.error, b.error), target, level)
    rows = a.rows, b.rows, min(a.near_rows, b.near_rows)
    return [a.mean, b.mean, *change, effect_word(*change[-2:]), *rows]


def listed(names: Sequence[str]) -> str:
    """Joins names as in a sentence: "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def verdict_sentence(table: pd.DataFrame) -> str:
    """Puts a table of `run_verdict` or `compare_groups` into words; says whose scores it uses."""
    words = _comparison_words if "run_a" in table else _run_words
    effects = ("closer", "moved away", "not shown")
    said = words(table, *(table[table["effect"] == effect] for effect in effects))
    return f"By {table.attrs['by']}: {said}"


def _named(part: pd.DataFrame) -> str:
    return listed(list(part["property"]))


def _run_words(
    table: pd.DataFrame, closer: pd.DataFrame, away: pd.DataFrame, unshown: pd.DataFrame
) -> str:
    if table["change"].isna().all():
        return "nothing can be shown: the log has too few scored rows."
    head = f"{len(closer)} of {len(table)} properties came closer to their target"
    if len(closer) == len(table) > 1:
        head = "every property came closer to its target"
    parts = [head + _moves(closer, "{0.property} ")]
    if len(away):
        parts.append(f"moved away: {_named(away)}{_moves(away)}")
    if len(unshown):
        parts.append(f"not shown: {_named(unshown)}")
    return f"{'; '.join(parts)}."


def _moves(part: pd.DataFrame, name: str = "") -> str:
    words = name + "{0.distance_start:.3f} to {0.distance_end:.3f}"
    moves = ", ".join(words.format(row) for row in part.itertuples())
    return f" (mean distance, start to end: {moves})" if moves else ""


def _comparison_words(
    table: pd.DataFrame, closer: pd.DataFrame, away: pd.DataFrame, unshown: pd.DataFrame
) -> str:
    a, b = table[["run_a", "run_b"]].iloc[0]
    seeds = table.attrs["seeds"]
    if table["difference"].isna().all():
        return f"nothing can be shown of {b} against {a}: a log has too few scored rows."
    if seeds != [1, 1] and min(seeds) < LEAST_SEEDS:
        return (f"nothing can be shown of {b} against {a}, with {seeds[1]} and {seeds[0]} seeds: "
                f"a claim about recipes needs {LEAST_SEEDS} of each.")  # fmt: skip
    if (table["difference"] == 0).all():
        return f"no difference at all between {a} and {b}; are they the same log?"
    parts = [
        f"{b} ended {where} the target than {a} on {len(part)} of {len(table)}: {_named(part)}"
        for where, part in {"closer to": closer, "farther from": away}.items()
        if len(part)
    ]
    if len(unshown):
        between = "" if parts else f" between {a} and {b}"
        parts.append(f"no difference{between} shown on {_named(unshown)}")
    scope = (
        f"This holds for these two runs; a claim about recipes needs {LEAST_SEEDS} seeds of each."
    )
    if seeds != [1, 1]:
        scope = f"This is over {seeds[1]} seeds of {b} and {seeds[0]} of {a}."
    return f"{'; '.join(parts)}. {scope}"
