"""Judges logs by themselves and against one another; several seeds of a run count as seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ohlora_lib.study.run_folder import read_failure
from ohlora_lib.verdict.bootstrap import effect_word
from ohlora_lib.verdict.findings import judged_sentence, of_training
from ohlora_lib.verdict.logs import (
    NEEDED,
    judge_of,
    log_names,
    properties_of,
    read_log,
    unique_names,
)
from ohlora_lib.verdict.verdict import (
    COMPARED_COLUMNS,
    PUBLISHED_CONCEPT,
    checked,
    compare_logs,
    end_of,
    ended_early,
    listed,
    run_verdict,
    scores_of,
    verdict_sentence,
    verdict_table,
)


def group_logs(
    names: Sequence[str], logs: Sequence[pd.DataFrame]
) -> dict[str, list[pd.DataFrame]]:
    """Logs by name, in order of first appearance; logs of one name are seeds of one run.

    Raises:
        ValueError: If there are not as many names as logs, or a log is given twice as two seeds.
    """
    if len(names) != len(logs):
        raise ValueError(f"{len(names)} names for {len(logs)} logs; give each log one, {names}")
    groups = {
        name: [log for n, log in zip(names, logs, strict=True) if n == name] for name in names
    }
    for name, seeds in groups.items():
        # Wall time, and what else was scored, may differ.
        losses = [log[[*NEEDED]].reset_index(drop=True) for log in seeds]
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

    One log each is compared by its rows (`verdict.compare_logs`). Several logs of a run are pooled
    as seeds: each gives one number, its mean distance over the end of training, and the interval
    of the difference is Welch's, over seeds. A seed's rows say nothing about other seeds.

    Returns:
        As of `verdict.compare_logs`; with seeds, rows_a and rows_b count seeds, block_rows is 0. A
        seed whose scores stop early gives NaN and "not shown".

    Raises:
        ValueError: If one run has several seeds and the other has one.
    """
    sizes = len(groups[a]), len(groups[b])
    if sizes == (1, 1):
        pair = groups[a][0], groups[b][0]
        return compare_logs(*pair, concept, names=(a, b), source=source, seed=seed)
    if 1 in sizes:
        raise ValueError(
            f"{a} has {sizes[0]} seeds and {b} has {sizes[1]}; give two or more of each, or one"
        )

    def judge(_: int, prop: str, target: float, level: float) -> list[Any]:
        mine, theirs = (
            np.array([_end_distance(log, source, prop, target) for log in groups[name]])
            for name in (a, b)
        )
        means = mine.mean(), theirs.mean()
        ends = stats.ttest_ind(theirs, mine, equal_var=False).confidence_interval(level)
        return [*means, means[1] - means[0], *ends, effect_word(*ends), *sizes, 0]

    logs = [*groups[a], *groups[b]]
    return verdict_table(judge, COMPARED_COLUMNS, concept, source, logs, (a, b))


def _end_distance(log: pd.DataFrame, source: str, prop: str, target: float) -> float:
    """Distance to the target of the mean score over the end; NaN if scores stop early."""
    time, score = scores_of(log, source, prop)
    return np.nan if ended_early(log, time) else abs(score[end_of(time)].mean() - target)


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

    Args:
        paths: Logs, or run folders that hold a `train_log.csv`.
        concept: Target of each property; the published one by default.
        names: What to call them; logs of one name are seeds of one run.
        columns: As of `read_log`, like `complete` for logs that are in no run folder.
        complete: As of `read_log`.
        seed: Of the bootstrap.

    Returns:
        The concept, and what is found of each run and each comparison: `sentence` and `by`, who
        says it; `properties`, by the selecting CNNs; `heldout`, by the held-out judge, where the
        logs have its scores: the sentence is then based on them.
    """
    folders = [Path(path) if Path(path).is_dir() else None for path in paths]
    files = [Path(path) / "train_log.csv" if Path(path).is_dir() else Path(path) for path in paths]
    targets = checked(concept or PUBLISHED_CONCEPT)
    foreign = {"columns": columns, "complete": complete}
    logs = [
        read_log(file, **({} if folder else foreign))
        for file, folder in zip(files, folders, strict=True)
    ]
    for file, log in zip(files, logs, strict=True):
        absent = [prop for prop in targets if prop not in properties_of(log)]
        if absent:
            raise ValueError(f"{file}: no score of {listed(absent)}, it scores "
                             f"{listed(properties_of(log))}. Say their targets, such as "
                             f"--concept {properties_of(log)[0]}=1")  # fmt: skip
    names = names or log_names(files)
    groups = group_logs(names, logs)
    runs = [
        {"name": name, "file": str(file), **_run_facts(folder, log, targets, seed)}
        for name, file, folder, log in zip(unique_names(names), files, folders, logs, strict=True)
    ]
    first, *others = groups
    comparisons = []
    for other in others:
        judge = partial(compare_groups, groups, first, other, targets, seed=seed)
        judged = _judged(judge, [*groups[first], *groups[other]])
        words = verdict_sentence(judged.pop("table"))
        comparisons.append({"a": first, "b": other, "sentence": words, **judged})
    return {"concept": targets, "runs": runs, "comparisons": comparisons}


def _run_facts(
    folder: Path | None, log: pd.DataFrame, concept: Mapping[str, float], seed: int
) -> dict[str, Any]:
    facts: dict[str, Any] = {"rows": len(log)}
    if log.attrs["by_step"]:
        facts |= {"epochs": None, "steps": float(log["idx"].iloc[-1])}
    else:
        facts |= {"epochs": round(float(log["time_epochs"].iloc[-1]), 2)}
    judged = _judged(partial(run_verdict, log, concept, seed=seed), [log])
    there = folder and (folder / "summary.json").is_file() and read_failure(folder) is None
    findings = of_training(log, folder if there else None, concept)
    facts |= {"sentence": judged_sentence(judged.pop("table"), findings), **judged}
    return facts | {"findings": [asdict(finding) for finding in findings]}


def _judged(judge: Callable[..., pd.DataFrame], logs: Sequence[pd.DataFrame]) -> dict[str, Any]:
    """The verdict's table, by whom it is, and the rows by the selecting CNNs and by the judge."""
    tables = {source: judge(source=source) for source in dict.fromkeys(("mean", judge_of(*logs)))}
    rows = {
        "properties" if source == "mean" else source: json.loads(
            table.to_json(orient="records", double_precision=6)  # NaN becomes None
        )
        for source, table in tables.items()
    }
    table = tables[judge_of(*logs)]
    return {"table": table, "by": table.attrs["by"], **rows}
