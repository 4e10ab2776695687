"""Judges runs singly and against one another; several seeds of a run are pooled."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import combinations, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ohlora_lib.verdict import logs as training_logs
from ohlora_lib.verdict import sampling
from ohlora_lib.verdict import verdict as trends
from ohlora_lib.verdict.bootstrap import chance_of_improvement, effect_word
from ohlora_lib.verdict.findings import (
    Finding,
    judged_sentence,
    made_with,
    of_pair,
    of_training,
    warning,
)
from ohlora_lib.verdict.logs import who
from ohlora_lib.verdict.sampling import Sampled, find_evaluation, read_sampled

COMPARED_COLUMNS = (
    *("distance_a", "distance_b", "difference", "difference_low", "difference_high"),
    *("effect", "rows_a", "rows_b", "near_rows"),
)


def group_logs(
    names: Sequence[str], logs: Sequence[pd.DataFrame]
) -> dict[str, list[pd.DataFrame]]:
    """Groups logs by name, in order of first appearance; logs of one name are seeds of one run.

    ValueError if the numbers of names and logs differ, or a log appears twice as two seeds.
    """
    if len(names) != len(logs):
        raise ValueError(f"names are {list(names)} for {len(logs)} logs; give each log one name")
    groups = {
        name: [log for n, log in zip(names, logs, strict=True) if n == name] for name in names
    }
    for name, seeds in groups.items():
        # Wall time and other scores may differ.
        losses = [log[[*training_logs.NEEDED]].reset_index(drop=True) for log in seeds]
        if any(a.equals(b) for a, b in combinations(losses, 2)):
            raise ValueError(f"two logs called {name!r} are of the same training run, so they "
                             "are not two seeds; list each seed once")  # fmt: skip
    return groups


def compare_groups(
    groups: Mapping[str, Sequence[pd.DataFrame]],
    a: str,
    b: str,
    concept: Mapping[str, float],
    *,
    samples: Mapping[str, Sequence[Sampled]] | None = None,
    source: str = "mean",
    seed: int = 0,
) -> pd.DataFrame:
    """Says for each property whether run B ended closer to the target than run A.

    Where every log of both runs has its evaluation in `samples`, the last checkpoints' samples
    decide, paired by latent; otherwise the rows of the logs. Several logs of a run are pooled as
    seeds: each gives one number, its distance at the end, and the interval of the difference is
    Welch's, over seeds. Fewer than three seeds show nothing.

    Returns:
        One row per property: property, target, run_a, run_b, `COMPARED_COLUMNS`, confidence,
        source; with seeds also improved, improved_low and improved_high, see
        `chance_of_improvement`. Distances are over the end of training, see `end_of`; difference
        is B minus A, and effect is of B against A. rows_a and rows_b count samples, rows or seeds,
        and near_rows is 0 except for rows. Scores that stop early give NaN and "not shown".
    """
    sides = [groups[name] for name in (a, b)]
    ends = [(samples or {}).get(name, []) for name in (a, b)]
    sampled, seeds = [*map(len, ends)] == [*map(len, sides)], [*map(len, sides)]
    by = who(source, *sides[0], *sides[1])
    if sampled:
        by = sampling.who_sampled(source, [*ends[0], *ends[1]])
    columns = ("run_a", "run_b", *COMPARED_COLUMNS)  # run names in place of means
    windows = [[(log, trends.end_of) for log in side] for side in sides]
    if seeds != [1, 1]:
        columns = (*columns, "improved", "improved_low", "improved_high")
        change = partial(_seeds_change, ends if sampled else windows, source)
    elif sampled:
        change = partial(sampling.samples_change, [ends[0][0], ends[1][0]], source)
    else:
        change = partial(trends.rows_change, [windows[0][0], windows[1][0]], source)
    table = trends.change_table(change, columns, concept, source, seed, by)
    table.attrs["seeds"] = seeds
    return table.assign(run_a=a, run_b=b)


def _seeds_change(
    sides: Sequence[Sequence[Any]], source: str, prop: str, target: float, level: float, _: Any
) -> list[Any]:
    """The columns for two groups of seeds, one distance per seed, by Welch's interval."""
    a, b = ([_distance(seed, source, prop, target) for seed in side] for side in sides)
    means, low, high = (np.mean(a), np.mean(b)), np.nan, np.nan
    if min(len(a), len(b)) >= trends.LEAST_SEEDS:
        low, high = stats.ttest_ind(b, a, equal_var=False).confidence_interval(level)
    change = *means, means[1] - means[0], low, high
    rows = effect_word(low, high), len(a), len(b), 0
    return [np.nan, np.nan, *change, *rows, *chance_of_improvement(a, b)]


def _distance(
    seed: Sampled | tuple[pd.DataFrame, trends.Window],
    source: str,
    prop: str,
    target: float,
) -> float:
    """Distance of one seed's end: of its samples, or of the last rows of its log."""
    if isinstance(seed, Sampled):
        return abs(seed.level(source, prop, [0])[0] - target)
    scored = trends.scores_of(*seed, source, prop)
    return abs(scored[1][scored[2]].mean() - target) if scored else np.nan


def compare_files(
    paths: Sequence[str | Path],
    concept: Mapping[str, float] | None = None,
    *,
    names: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    complete: bool = False,
) -> dict[str, Any]:
    """Judges each log, and each later run against the first; JSON-serialisable.

    Run folders are compared by their study's evaluation sampling if all of them have it, else by
    the logs. For paths and names see `read_logs` and `group_logs`, for columns and complete
    `read_log`; the concept is the published one by default.

    Returns:
        The concept and, for each run and comparison: `sentence`; `findings`, with which it begins;
        `by`, whose scores it uses; `properties`, the rows by the selecting CNNs; and `heldout`,
        the rows by the held-out judge if there are such scores, on which the sentence is then
        based.
    """
    targets = dict(concept or trends.PUBLISHED_CONCEPT)
    names, logs = training_logs.read_logs(paths, names, columns=columns, complete=complete)
    groups = group_logs(names, logs)
    runs = []
    evaluations = _evaluations(paths)
    sampled = [read_sampled(folder) for folder in evaluations]
    samples = {
        name: [s[1] for n, s in zip(names, sampled, strict=False) if n == name] for name in names
    }
    for k, name in enumerate(training_logs.unique_names(names, logs)):
        log = logs[k]
        facts = _run_facts(log, sampled[k] if sampled else None, targets)
        runs.append({"name": name, "file": str(log.attrs["file"]), **facts})
    first, unlike = next(iter(groups)), find_unlike(names, logs, evaluations)
    comparisons = []
    for other, findings in unlike.items():
        both = [*groups[first], *groups[other]]
        judge = partial(compare_groups, groups, first, other, targets, samples=samples)
        table, judged = _judged(judge, bool(sampled), both)
        words = f"{warning(findings)} {trends.verdict_sentence(table)}".strip()
        said = {"a": first, "b": other, "sentence": words, **judged}
        comparisons.append({**said, "findings": [asdict(found) for found in findings]})
    return {"concept": targets, "runs": runs, "comparisons": comparisons}


def find_unlike(
    names: Sequence[str], logs: Sequence[pd.DataFrame], evaluations: Sequence[Path] = ()
) -> dict[str, list[Finding]]:
    """Findings on each later run against the first, by name; see `findings.of_pair`.

    `evaluations` are those of all logs, if samples decide.
    """
    made: dict[str, list[dict[str, str]]] = {}
    for name, log, evaluation in zip_longest(names, logs, evaluations):
        made.setdefault(name, []).append(made_with(log, evaluation))
    first, *others = made
    return {other: of_pair(first, other, made) for other in others}


def _evaluations(paths: Sequence[str | Path]) -> list[Path]:
    """The evaluation of each run; empty if one has none."""
    found = [find_evaluation(Path(path)) if Path(path).is_dir() else None for path in paths]
    return [] if None in found else [folder for folder in found if folder]


def _run_facts(
    log: pd.DataFrame,
    sampled: tuple[Sampled, Sampled] | None,
    concept: Mapping[str, float],
) -> dict[str, Any]:
    epochs, steps = round(float(log["time_epochs"].iloc[-1]), 2), float(log["idx"].iloc[-1])
    time = {"epochs": None, "steps": steps} if log.attrs["by_step"] else {"epochs": epochs}
    findings = of_training(log, concept)  # checks the concept
    judge = partial(trends.run_verdict, log, concept)
    if sampled:
        judge = partial(sampling.samples_verdict, sampled, concept)
    table, judged = _judged(judge, bool(sampled), [log])
    said = {"sentence": judged_sentence(table, findings), **judged}
    return {"rows": len(log), **time, **said, "findings": [asdict(found) for found in findings]}


def _judged(
    judge: Callable[..., pd.DataFrame], sampled: bool, logs: Sequence[pd.DataFrame]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The deciding table, and JSON that says whose scores decide, with the rows by source."""
    decides, rows = "heldout" if sampled else training_logs.judge_of(*logs), {}
    for source in dict.fromkeys(("mean", decides)):
        table = judge(source=source)
        records = table.to_json(orient="records", double_precision=6)  # NaN becomes None
        rows["properties" if source == "mean" else source] = json.loads(records)
    return table, {"by": table.attrs["by"], **rows}
