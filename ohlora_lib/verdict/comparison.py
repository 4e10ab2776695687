"""Judges logs by themselves and against one another; several seeds of a run count as seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from ohlora_lib.study.records import read_json
from ohlora_lib.verdict import logs as training_logs
from ohlora_lib.verdict import verdict as trends
from ohlora_lib.verdict.findings import judged_sentence, of_training

COMPARED_COLUMNS = (
    *("distance_a", "distance_b", "difference", "difference_low", "difference_high"),
    *("effect", "rows_a", "rows_b", "near_rows"),
)


def group_logs(
    names: Sequence[str], logs: Sequence[pd.DataFrame]
) -> dict[str, list[pd.DataFrame]]:
    """Logs by name, in order of first appearance; logs of one name are seeds of one run.

    ValueError if there are not as many names as logs, or a log is given twice as two seeds.
    """
    if len(names) != len(logs):
        raise ValueError(f"{len(names)} names for {len(logs)} logs; give each log one, {names}")
    groups = {
        name: [log for n, log in zip(names, logs, strict=True) if n == name] for name in names
    }
    for name, seeds in groups.items():
        # Wall time, and what else was scored, may differ.
        losses = [log[[*training_logs.NEEDED]].reset_index(drop=True) for log in seeds]
        if any(a.equals(b) for a, b in combinations(losses, 2)):
            raise ValueError(f"two logs called {name!r} are the same training, so they are not "
                             "two seeds; give each seed once, or other names")  # fmt: skip
    return groups


def compare_groups(
    groups: Mapping[str, Sequence[pd.DataFrame]],
    a: str,
    b: str,
    concept: Mapping[str, float],
    *,
    source: str = "mean",
    seed: int = 0,
) -> pd.DataFrame:
    """Says for each property whether run B ended closer to the target than run A.

    One log each is compared by its rows. Several logs of a run are pooled as seeds: each gives one
    number, its mean distance over the end of training, and the interval of the difference is
    Welch's, over seeds. A seed's rows say nothing about other seeds, so that it is a ValueError if
    one run has several seeds and the other has one.

    Returns:
        One row per property: property, target, run_a, run_b, `COMPARED_COLUMNS`, confidence,
        source. Distances are over the end of training, see `end_of`; difference is B less A, and
        effect is of B against A. With seeds, rows_a and rows_b count seeds and near_rows is 0.
        Scores that stop early give NaN and "not shown".
    """
    sizes = len(groups[a]), len(groups[b])
    if 1 in sizes and sizes != (1, 1):
        raise ValueError(
            f"{a} has {sizes[0]} seeds and {b} has {sizes[1]}; give two or more of each, or one"
        )
    sides = [[(log, trends.end_of) for log in groups[name]] for name in (a, b)]
    columns = ("run_a", "run_b", *COMPARED_COLUMNS)  # the runs stand where means would
    table = trends.change_table(sides, columns, concept, source, seed)
    return table.assign(run_a=a, run_b=b)


def compare_files(
    paths: Sequence[str | Path],
    concept: Mapping[str, float] | None = None,
    *,
    names: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    complete: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Judges each log, and each later run against the first; JSON-serialisable.

    For paths and names see `read_logs` and `group_logs`, for columns and complete `read_log`; the
    concept is the published one by default, and the seed is the bootstrap's.

    Returns:
        The concept, and what is found of each run and each comparison: `sentence` and `by`, who
        says it; `properties`, by the selecting CNNs; `heldout`, by the held-out judge, where the
        logs have its scores: the sentence is then based on them.
    """
    given = concept or trends.PUBLISHED_CONCEPT
    targets = {prop: float(target) for prop, target in given.items()}
    names, logs = training_logs.read_logs(paths, names, columns=columns, complete=complete)
    for log in logs:
        scored = training_logs.properties_of(log)
        if absent := [prop for prop in targets if prop not in scored]:
            raise ValueError(
                f"{log.attrs['file']}: no score of {trends.listed(absent)}, it scores "
                f"{trends.listed(scored)}. Say their targets, such as --concept {scored[0]}=1"
            )
    groups = group_logs(names, logs)
    runs = []
    for name, path, log in zip(training_logs.unique_names(names), paths, logs, strict=True):
        facts = _run_facts(Path(path), log, targets, seed)
        runs.append({"name": name, "file": str(log.attrs["file"]), **facts})
    first, *others = groups
    comparisons = []
    for other in others:
        both = [*groups[first], *groups[other]]
        table, judged = _judged(both, compare_groups, groups, first, other, targets, seed=seed)
        words = trends.verdict_sentence(table)
        comparisons.append({"a": first, "b": other, "sentence": words, **judged})
    return {"concept": targets, "runs": runs, "comparisons": comparisons}


def _run_facts(
    path: Path, log: pd.DataFrame, concept: Mapping[str, float], seed: int
) -> dict[str, Any]:
    epochs, steps = round(float(log["time_epochs"].iloc[-1]), 2), float(log["idx"].iloc[-1])
    time = {"epochs": None, "steps": steps} if log.attrs["by_step"] else {"epochs": epochs}
    table, judged = _judged([log], trends.run_verdict, log, concept, seed=seed)
    finished = read_json(path / "summary.json").get("status") == "finished"
    findings = of_training(log, path if finished else None, concept)
    said = {"sentence": judged_sentence(table, findings), **judged}
    return {"rows": len(log), **time, **said, "findings": [asdict(found) for found in findings]}


def _judged(
    logs: Sequence[pd.DataFrame], judge: Callable[..., pd.DataFrame], *args: Any, seed: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table that decides; who says it, and the rows by the selecting CNNs and the judge."""
    decides, rows = training_logs.judge_of(*logs), {}
    for source in dict.fromkeys(("mean", decides)):
        table = judge(*args, source=source, seed=seed)
        records = table.to_json(orient="records", double_precision=6)  # NaN becomes None
        rows["properties" if source == "mean" else source] = json.loads(records)
    return table, {"by": table.attrs["by"], **rows}
