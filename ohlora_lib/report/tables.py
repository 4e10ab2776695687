"""Collects what the report notebooks show: logs, facts of a run, tables, grids."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ohlora_lib.population.labels import read_table
from ohlora_lib.study.look import Meanings, meaning_of
from ohlora_lib.study.machine import counted, duration
from ohlora_lib.study.parameters import CompareRuns, ReportRun
from ohlora_lib.study.records import in_project, read_config, read_summary, root_of
from ohlora_lib.study.run_folder import Run
from ohlora_lib.verdict.logs import log_names, read_logs
from ohlora_lib.verdict.sampling import Sampled, read_sampled
from ohlora_lib.verdict.verdict import FARTHER
from ohlora_lib.verdict.wander import KNOWN_ROWS

JUDGES = {"heldout": "held-out judge", "independent": "independent judge"}  # by their columns
Logs = tuple[list[str], list[pd.DataFrame]]  # names, and a log for each


def find_logs(run: Run, config: ReportRun) -> Logs:
    """Reads the log to report and, if given, the earlier one.

    ValueError if both a run folder and a file are given for one log, or neither for the first.
    """
    found: list[Path] = []
    for run_name, csv_name in (("finetune_run", "log_csv"), ("earlier_run", "earlier_csv")):
        folder, csv = run.inputs.get(run_name), getattr(config, csv_name)
        if (folder and csv) or not (folder or csv or found):
            raise ValueError(f"give either {run_name} or {csv_name}, and leave the other empty")
        if folder or csv:
            found.append(folder or in_project(csv))
    short = [p.name.rpartition("-")[2] if p.is_dir() else log_names([p])[0] for p in found]
    names = short if len(set(short)) == len(short) else None  # such as v9 twice
    return read_logs(found, names, **config.pick("columns complete"))


def compared_logs(run: Run, config: CompareRuns) -> Logs:
    """Reads the logs that a comparison names: first logs in run folders, then single files."""
    found = [*run.inputs.get("finetune_runs", []), *map(in_project, config.log_csvs)]
    return read_logs(found, config.names, **config.pick("columns complete"))


def verdict_table(table: pd.DataFrame, meaning: Meanings) -> pd.DataFrame:
    """Shapes a table of `run_verdict` or `compare_groups` to be shown: one row per property."""
    both = {"meaning": "score", "target": "target"}
    if "run_b" in table:
        a, b = table[["run_a", "run_b"]].iloc[0]
        columns = {"effect": f"{b} is", **both, "distance_a": f"distance of {a}"}
        columns |= {"distance_b": f"distance of {b}", "difference": "difference"}
        table = table.replace({"effect": FARTHER})
    else:
        columns = {"effect": "verdict", **both, "start": "score at the start"}
        columns |= {"end": "at the end", "change": "change of distance"}
    *_, moved = columns
    ends = zip(table[f"{moved}_low"], table[f"{moved}_high"], strict=True)
    words = [meaning_of(prop, meaning) for prop in table["property"]]
    shown = table.assign(meaning=words, target=table["target"].map("{:g}".format))
    shown = shown.set_index("property")[list(columns)].rename(columns=columns)
    words = [f"{low:+.3f} to {high:+.3f}" if low <= high else "-" for low, high in ends]
    shown = shown.assign(interval=words)
    if "improved" in table:
        chances = table.filter(like="improved").to_numpy()
        words = [f"{chance:.2f} ({low:.2f} to {high:.2f})" for chance, low, high in chances]
        shown["probability of improvement"] = words
    return shown


def method_sentence(table: pd.DataFrame) -> str:
    """Explains the intervals of a verdict table, and what they are based on."""
    compared, near = "rows_a" in table, table["near_rows"].max()
    first, last = table[["rows_a", "rows_b"] if compared else ["start_rows", "end_rows"]].max()
    if table.attrs.get("seeds", [1, 1]) != [1, 1]:
        how = f"Welch's, over seeds ({first} and {last})"
    elif first and not near:
        how = (
            f"a bootstrap over the latents of {first} and {last} samples, with the wander of the "
            "score of the same latents at the end of training"
        )
    else:
        rows = f"{first} rows of one run and {last} of the other"
        rows = rows if compared else f"the first {first} and the last {last} rows"
        how = f"{rows}, with noise that includes the slow wander of the mean score"
    words = f"Intervals are 95 %, for all {len(table)} properties at once: {how}."
    if 0 < near < KNOWN_ROWS:
        words += (
            f" {near} rows are too few to estimate the wander of the mean score, so the interval "
            "is widened to cover the usual wander."
        )
    return words


def run_facts(log: pd.DataFrame, folder: Path | None) -> pd.DataFrame:
    """Start, end, duration, epochs, images and hardware of a run, as far as known."""
    facts: dict[str, str] = {}
    if folder is not None:
        run = read_summary(folder)
        facts = {
            "start (UTC)": run["started"][:16],
            "end (UTC)": run["finished"][:16],
            "took": duration(run["wall_sec"]),
            "hardware": ", ".join(f"{k}: {v}" for k, v in run["hardware"].items() if v),
            "selected images": f"{run['results'].get('selected', 'unknown')}",
        }
    epoch, idx = log[["epoch", "idx"]].iloc[-1]  # a row at batch 0 closes the previous epoch
    if log.attrs.get("by_step"):
        facts["steps"] = f"{idx:,.0f} (the log counts no epochs)"
    else:
        facts["epochs"] = f"{int(epoch) + int(idx > 0)}"
    facts["evaluations"] = f"{len(log)}"
    if "images_seen" in log:
        facts["images seen"] = f"{int(log['images_seen'].max()):,}"
    return pd.DataFrame({"value": facts}).rename_axis("fact")


def evaluation_grids(folder: Path | None) -> dict[str, Path]:
    """Finds the grids of the same latents of an evaluation: base, during, after."""
    if folder is None:
        return {}
    epochs = read_table(folder / "evaluations.csv", ["epoch"])["epoch"]
    during, after = (f"after {counted(epochs.iloc[k], 'epoch')}" for k in (len(epochs) // 2, -1))
    names = {"base": "base", "during": f"during, {during}", "after": after}
    return {name: folder / "images" / f"{stage}.png" for stage, name in names.items()}


def grids_over_time(folder: Path | None, *, most: int = 12) -> dict[str, Path]:
    """Finds the grids of fixed latents in the folder of a fine-tuning run, by caption.

    At most `most` of them, evenly spaced, with the first and the last.
    """
    paths = (folder / "images").glob("fixed-epoch*-idx*.png") if folder else ()
    found = sorted(([int(text) for text in re.findall(r"\d+", p.stem)], p) for p in paths)
    shown = {round(k) for k in np.linspace(0, len(found) - 1, min(most, len(found)))}
    return {
        f"The same latents, epoch {epoch}, batch {batch}": path
        for (epoch, batch), path in (found[k] for k in sorted(shown))
    }


def judged_runs(
    names: Sequence[str], runs: Sequence[Path], evaluations: Sequence[Path]
) -> dict[str, Path]:
    """Finds the evaluation of each run, by name; an evaluation's parameters name its run.

    ValueError if one judged a run that is not compared, or two judged the same run.
    """
    judged = {(root_of(e) / read_config(e)["finetune_run"]).resolve(): e for e in evaluations}
    places = dict(zip(names, [run.resolve() for run in runs], strict=False))
    found = {name: judged[place] for name, place in places.items() if place in judged}
    if spare := {*evaluations} - {*found.values()}:
        raise ValueError(
            f"evaluation_runs: {min(spare).name} judged a run that is not in finetune_runs or has "
            "another evaluation; name one evaluation per run of finetune_runs"
        )
    return found


def compared_samples(
    names: Sequence[str], logs: Iterable[str], judged: Mapping[str, Path]
) -> dict[str, list[Sampled]]:
    """Samples of every seed of each run, by run name; empty if one run has no samples.

    `logs` are the distinct names of the logs, the keys of `judged`.
    """
    found: dict[str, list[Sampled]] = {}
    for name, unique in zip(names, logs, strict=True):
        if unique not in judged:
            return {}
        found.setdefault(name, []).append(read_sampled(judged[unique])[1])
    return found


def end_distances(evaluations: pd.DataFrame, concept: Mapping[str, float]) -> pd.DataFrame:
    """Distances of base and last checkpoint to the target, by each judge of an evaluation.

    One row per judge and property that it scores: columns base, fine-tuned and their ratio.
    """
    rows = {}
    for key, by in JUDGES.items():
        for prop, target in concept.items():
            if (column := f"{key}_{prop}_score") in evaluations:
                distance = (evaluations[column] - target).abs()
                rows[by, prop] = distance.iloc[0], distance.iloc[-1]
    index = pd.MultiIndex.from_tuples([*rows], names=["by", "property"])
    table = pd.DataFrame(rows.values(), index, ["base", "fine-tuned"])
    return table.assign(ratio=table["fine-tuned"] / table["base"])


def independent_ends(folder: Path | None, concept: Mapping[str, float]) -> pd.DataFrame:
    """`end_distances` of an evaluation; empty if it has no independent judge."""
    evaluations = read_table(folder / "evaluations.csv") if folder else pd.DataFrame()
    ends = end_distances(evaluations, concept)
    return ends if JUDGES["independent"] in ends.index else ends.head(0)


def last_evaluations(judged: Mapping[str, Path], concept: Mapping[str, float]) -> pd.DataFrame:
    """Bases and last checkpoints of runs: distances by each judge, diversity, precision."""
    rows: dict[str, pd.Series] = {}
    needed = [*(f"heldout_{prop}_score" for prop in concept), "diversity", "recall"]
    alike = len({read_config(folder)["base_run"] for folder in judged.values()}) == 1
    for run, folder in judged.items():
        table = read_table(folder / "evaluations.csv", needed)
        ends = end_distances(table, concept).drop(columns="ratio").T
        own = {by: f" by the {by}" * (by != JUDGES["heldout"]) for by in JUDGES.values()}
        ends.columns = [f"{prop}: distance{own[by]}" for by, prop in ends.columns]
        rest = table[["diversity", "recall", "frechet", "precision"]].iloc[[0, -1]]
        ends = ends.join(rest.set_axis(ends.index))
        rows["base" if alike else f"base of {run}"] = ends.loc["base"]
        rows[run] = ends.loc["fine-tuned"]
    if not rows:
        return pd.DataFrame()
    return pd.concat(rows, axis=1, sort=False).T.rename_axis("run")
