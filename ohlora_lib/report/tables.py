"""Finds and shapes what the report notebooks show: logs, facts of a run, tables, grids."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ohlora_lib.io.tables import check_scores
from ohlora_lib.population.labels import read_table
from ohlora_lib.study.look import Meanings, meaning_of
from ohlora_lib.study.machine import duration
from ohlora_lib.study.parameters import CompareRuns, ReportRun
from ohlora_lib.study.run import Run
from ohlora_lib.study.run_folder import in_project, read_config, read_summary, root_of
from ohlora_lib.verdict.logs import log_names, read_log

STAGES = ("base", "during", "after")


@dataclass(frozen=True)
class LogSource:
    """Where a log comes from; all None if none was given."""

    path: Path | None
    folder: Path | None
    name: str


def find_log(run: Run, config: ReportRun, run_name: str, csv_name: str) -> LogSource:
    """The log that a pair of parameters names: a run folder's, or a file by itself.

    Raises:
        ValueError: If both are given, or the first log is not given at all.
    """
    folder, csv = run.inputs.get(run_name), getattr(config, csv_name)
    if folder and csv:
        raise ValueError(f"{run_name} and {csv_name} are both given; give one, leave one empty")
    if folder:
        return LogSource(folder / "train_log.csv", folder, folder.name.rpartition("-")[2])
    if csv:
        path = in_project(csv)
        return LogSource(path, None, log_names([path])[0])
    if run_name == "finetune_run":
        raise ValueError(f"neither {run_name} nor {csv_name} is given; give one of them")
    return LogSource(None, None, "")


def compared_logs(run: Run, config: CompareRuns) -> list[LogSource]:
    """The logs that a comparison names: of run folders, then those by themselves."""
    folders = run.inputs.get("finetune_runs", [])
    files = [in_project(path) for path in config.log_csvs]
    runs = [LogSource(folder / "train_log.csv", folder, "") for folder in folders]
    sources = [*runs, *(LogSource(path, None, "") for path in files)]
    names = config.names or log_names([source.path for source in sources])
    return [replace(source, name=name) for source, name in zip(sources, names, strict=True)]


def read_source(source: LogSource, config: ReportRun | CompareRuns) -> pd.DataFrame:
    """Reads a log; what the parameters say about columns holds for one by itself."""
    if source.folder is not None:
        return read_log(source.path)
    return read_log(source.path, **config.pick("columns complete"))


def earlier_and_this(earlier: LogSource, this: LogSource) -> list[str]:
    """What to call an earlier run and this one: told apart, though both are called v9."""
    if earlier.name != this.name:
        return [earlier.name, this.name]
    return log_names([earlier.path, this.path])


def verdict_table(table: pd.DataFrame, meaning: Meanings) -> pd.DataFrame:
    """What people read of `verdict.run_verdict`: a row a property, the verdict first."""
    columns = {
        "effect": "verdict", "meaning": "score", "target": "target", "start": "score at the start",
        "end": "at the end", "change": "change of distance",
    }  # fmt: skip
    return _readable(table, meaning, columns, "change")


def comparison_table(table: pd.DataFrame, meaning: Meanings) -> pd.DataFrame:
    """What people read of `verdict.compare_logs`: a row a property, the verdict first."""
    a, b = table["run_a"].iloc[0], table["run_b"].iloc[0]
    columns = {
        "effect": f"{b} is", "meaning": "score", "target": "target",
        "distance_a": f"distance of {a}", "distance_b": f"distance of {b}",
        "difference": "difference",
    }  # fmt: skip
    return _readable(table, meaning, columns, "difference")


def _readable(
    table: pd.DataFrame, meaning: Meanings, columns: Mapping[str, str], moved: str
) -> pd.DataFrame:
    """Columns by what people call them, and the interval of the one that `moved` names."""
    ends = zip(table[f"{moved}_low"], table[f"{moved}_high"], strict=True)
    shown = table.assign(meaning=[meaning_of(prop, meaning) for prop in table["property"]])
    shown = shown.set_index("property")[list(columns)].rename(columns=columns)
    return shown.assign(interval=[f"{low:+.3f} to {high:+.3f}" for low, high in ends])


def method_sentence(table: pd.DataFrame) -> str:
    """How sure a table of `trends` is: what its intervals are, and from how many rows."""
    level = f"Intervals are 95 %, for all {len(table)} properties at once"
    if "rows_a" in table and (table["block_rows"] == 0).all() and table["rows_a"].max():
        seeds = f"{table['rows_a'].max()} and {table['rows_b'].max()}"
        return f"{level}: Welch's, over seeds ({seeds})."
    names = ("rows_a", "rows_b") if "rows_a" in table else ("start_rows", "end_rows")
    first, last = (int(table[name].max()) for name in names)
    parts = f"{first} rows of one run and {last} of the other"
    if "start_rows" in table:
        parts = f"the first {first} and the last {last} rows"
    blocks = int(table["block_rows"].max())
    return f"{level}: a bootstrap of {parts}, in blocks of up to {blocks} (neighbours are alike)."


def run_facts(log: pd.DataFrame, folder: Path | None) -> pd.DataFrame:
    """Start, end, duration, epochs, images and hardware, as far as they are known."""
    facts: dict[str, str] = {}
    if folder is not None:
        summary = read_summary(folder)
        facts["start (UTC)"] = summary["started"][:16]
        facts["end (UTC)"] = summary["finished"][:16]
        facts["took"] = duration(summary["wall_sec"])
        facts["hardware"] = ", ".join(f"{k}: {v}" for k, v in summary["hardware"].items() if v)
        facts["selected images"] = f"{summary['results'].get('selected', 'unknown')}"
    epoch, idx = log[["epoch", "idx"]].iloc[-1]  # a row of batch 0 closes the epoch before it
    if log.attrs.get("by_step"):
        facts["steps"] = f"{idx:,.0f} (no epochs; training time is a share of the log)"
    else:
        facts["epochs"] = f"{int(epoch) + int(idx > 0)}"
    facts["evaluations"] = f"{len(log)}"
    if "images_seen" in log:
        facts["images seen"] = f"{int(log['images_seen'].max()):,}"
    return pd.DataFrame({"value": facts}).rename_axis("fact")


def evaluation_grids(folder: Path | None) -> dict[str, Path]:
    """Grids of the same latents of an evaluation sampling, by when: base, during, after."""
    if folder is None:
        return {}
    epochs = read_table(folder / "evaluations.csv", ["epoch"])["epoch"]
    during, after = (f"after {epochs.iloc[k]:g} epochs" for k in (len(epochs) // 2, -1))
    names = ("base", f"during, {during}", after)
    paths = [folder / "images" / f"{stage}.png" for stage in STAGES]
    return {name: path for name, path in zip(names, paths, strict=True) if path.is_file()}


def grids_over_time(folder: Path | None, *, most: int = 12) -> dict[str, Path]:
    """Grids of the same latents that a fine-tuning saved while it trained, by what they show.

    Args:
        folder: Run folder of the fine-tuning.
        most: How many at most; first and last are among them.
    """
    named = [
        (tuple(int(number) for number in match.groups()), path)
        for path in (folder.glob("images/fixed-*.png") if folder else ())
        if (match := re.fullmatch(r"fixed-epoch(\d+)-idx(\d+)", path.stem))
    ]
    named.sort()
    chosen = sorted({round(k) for k in np.linspace(0, len(named) - 1, min(most, len(named)))})
    return {
        f"The same latents, epoch {epoch}, batch {idx}": path
        for (epoch, idx), path in (named[k] for k in chosen)
    }


@dataclass(frozen=True)
class JudgedRun:
    """A run of a comparison and its evaluation sampling."""

    name: str
    evaluation: Path
    base: str  # run folder of its base, as its parameters name it


def judged_runs(
    names: Sequence[str], runs: Sequence[Path], evaluations: Sequence[Path]
) -> list[JudgedRun]:
    """Which evaluation sampling belongs to which run: the one whose parameters name it.

    Args:
        names: What the runs are called.
        runs: Their run folders.
        evaluations: Run folders of evaluation samplings, in any order; runs may lack one.

    Raises:
        ValueError: If one judged a run that is not here, or two judged the same.
    """
    compared = [run.resolve() for run in runs]
    found: dict[Path, tuple[Path, str]] = {}
    for folder in dict.fromkeys(evaluations):
        config = read_config(folder)
        run = (root_of(folder) / config["finetune_run"]).resolve()
        if run not in compared or run in found:
            what = "has one already" if run in found else "is not compared"
            raise ValueError(f"evaluation_runs: {folder.name} judged {config['finetune_run']}, "
                             f"which {what}; name one of each of finetune_runs")  # fmt: skip
        found[run] = folder, config["base_run"]
    return [
        JudgedRun(name, *found[run])
        for name, run in zip(names, compared, strict=False)
        if run in found
    ]


def last_evaluations(runs: Sequence[JudgedRun], concept: Mapping[str, float]) -> pd.DataFrame:
    """Bases and last checkpoints of runs: distances by the held-out judge, and diversity."""
    rows: dict[str, dict[str, float]] = {}
    alike = len({run.base for run in runs}) == 1
    for run in runs:
        columns = [f"heldout_{prop}_score" for prop in concept]
        path = run.evaluation / "evaluations.csv"
        table = read_table(path, [*columns, "diversity", "recall"])
        for name in columns:
            check_scores(table[name], path)
        base = "base" if alike else f"base of {run.name}"
        for label, row in ((base, table.iloc[0]), (run.name, table.iloc[-1])):
            rows[label] = {
                f"{prop}: distance": abs(row[f"heldout_{prop}_score"] - target)
                for prop, target in concept.items()
            } | {k: row[k] for k in ("diversity", "recall", "frechet", "precision")}
    return pd.DataFrame(rows).T.rename_axis("run")
