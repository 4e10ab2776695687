"""What a sweep ends in: one comparison of all points, a table of them, and a page with both."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ohlora_lib.population.labels import save_table
from ohlora_lib.report.index import stage_title, write_index
from ohlora_lib.runner.stages import Stage
from ohlora_lib.runner.sweep_grid import TRAINING
from ohlora_lib.runner.sweep_plan import Plan, Point, Task, value_text
from ohlora_lib.study import parameters as params
from ohlora_lib.study import run_folder
from ohlora_lib.study.words import duration

COMPARISON = "08_compare_runs"
EVALUATION = "06_evaluate_samples"
GOOD = ("done", "unchanged")


def comparison_task(
    plan: Plan, states: Mapping[Path, str], root: Path, say: Callable[[str], None]
) -> Task | None:
    """The comparison of all fine-tunings of a sweep; those that differ by the seed alone are one.

    Args:
        plan: The sweep.
        states: How the stages that were run ended, by run folder.
        root: The project.
        say: Takes a line about what is left out.

    Returns:
        None if there are not two to compare.
    """
    groups: dict[str, list[Path]] = {}
    for folder, task in plan.tasks.items():
        if task.stage.notebook.stem == TRAINING and _finished(folder, states):
            groups.setdefault(task.label, []).append(folder)
    most = max(map(len, groups.values()), default=0)
    for label in [label for label, folders in groups.items() if len(folders) == 1 < most]:
        say(f"{label}: one seed alone has finished; it is left out of the comparison")
        del groups[label]
    if len(groups) < 2:
        say("no comparison: it takes two fine-tunings that differ in more than the seed")
        return None
    runs = [folder for folders in groups.values() for folder in folders]
    given = {
        "study": plan.name,
        "finetune_runs": [_relative(folder, root) for folder in runs],
        "evaluation_runs": [
            _relative(folder, root) for folder in _evaluations(plan, runs, states)
        ],
        "names": [label for label, folders in groups.items() for _ in folders],
        **_own(plan, runs[0]),
    }
    parameters = params.MODELS[COMPARISON].checked(given, f"comparison of {plan.name}")
    notebook = root / "notebooks" / f"{COMPARISON}.ipynb"
    folder = root / "outputs" / plan.name / COMPARISON
    stage = Stage(COMPARISON, plan.study[0].params_file.parent, notebook, folder, parameters)
    return Task(stage, tuple(runs), {}, None, plan.command)


def _finished(folder: Path, states: Mapping[Path, str]) -> bool:
    """Whether a run folder is finished, by this sweep or, where it was not run, before."""
    if folder in states:
        return states[folder] in GOOD
    return _summary(folder) is not None


def _summary(folder: Path) -> dict[str, Any] | None:
    try:
        return run_folder.read_summary(folder)
    except ValueError:
        return None


def _relative(folder: Path, root: Path) -> str:
    return folder.relative_to(root).as_posix()


def _evaluations(plan: Plan, runs: Sequence[Path], states: Mapping[Path, str]) -> list[Path]:
    """The evaluation sampling of each fine-tuning; none unless all have one."""
    found: dict[Path, Path] = {}
    for folder, task in plan.tasks.items():
        if task.stage.notebook.stem == EVALUATION and _finished(folder, states):
            for run in set(task.needs) & set(runs):
                found.setdefault(run, folder)
    return [found[run] for run in runs] if all(run in found for run in runs) else []


def _own(plan: Plan, run: Path) -> dict[str, Any]:
    """Look and seed of the study's own comparison; without one, the look of a fine-tuning."""
    for stage in plan.study:
        if stage.notebook.stem == COMPARISON:
            return {"concept": stage.parameters.concept, "seed": stage.parameters.seed}
    return {"concept": plan.tasks[run].stage.parameters.concept}


def write_points(plan: Plan, states: Mapping[Path, str], root: Path) -> Path:
    """Writes `points.csv`, a row a fine-tuning of each point, and the sweep's page.

    Returns:
        The page.
    """
    home = root / "outputs" / plan.name
    found = [row for point in plan.points for row in _rows(plan, point, states)]
    names = list(dict.fromkeys(name for row in found for name in row.values))
    table = pd.DataFrame([row.values for row in found], columns=names, dtype=object)
    save_table(home / "points.csv", table)
    return write_index(home, part=_table(names, found))


@dataclass(frozen=True)
class Row:
    """One fine-tuning of a point: its figures by name, and the run folders they are about."""

    values: dict[str, Any]
    folders: list[Path]


def _rows(plan: Plan, point: Point, states: Mapping[Path, str]) -> Iterator[Row]:
    """A row a fine-tuning: the point's values, how far it is, how far the look is."""
    summaries = {folder: _summary(folder) for folder in point.folders}
    done = {f: s for f, s in summaries.items() if s is not None and _finished(f, states)}
    failed = [folder.name for folder in point.folders if states.get(folder) == "failed"]
    facts = {label: value_text(value) for label, value in point.values.items()}
    facts |= {} if point.seed is None else {"seed": point.seed}
    state = {"finished": f"{len(done)} of {len(point.folders)}", "failed": ", ".join(failed)}
    state["work"] = duration(sum(summary["wall_sec"] for summary in done.values()))
    runs = [f for f in point.folders if plan.tasks[f].stage.notebook.stem == TRAINING]
    for run in runs or [None]:
        name = {} if run is None else {"run": plan.tasks[run].stage.parameters.variant or run.name}
        about = [f for f in point.folders if run in (None, f) or run in plan.tasks[f].needs]
        figures = _figures([done[folder] for folder in about if folder in done])
        yield Row({**name, **facts, **state, **figures, "study": point.study}, about)


def _figures(summaries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What the evaluation sampling of a run found: distances by the held-out judge, diversity."""
    for summary in summaries:
        results = summary["results"]
        if summary["notebook"] == EVALUATION and "distances" in results:
            distances = {
                f"{prop}: distance": f"{found['fine-tuned']:.4f}"
                for prop, found in results["distances"].items()
            }
            return {**distances, "diversity": f"{results['diversity']:.3f}"}
    return {}


def _table(names: Sequence[str], found: Sequence[Row]) -> str:
    """The rows as HTML, each with links to the pages of its stages."""
    shown = [name for name in names if name != "study"]
    heads = "".join(f'<th scope="col">{_text(name)}</th>' for name in shown)
    body = []
    for row in found:
        cells = "".join(f"<td>{_text(row.values.get(name, ''))}</td>" for name in shown)
        links = "&nbsp;".join(filter(None, map(_link, row.folders)))
        body.append(f'<tr>{cells}<td class="words">{links}</td></tr>')
    return (
        "<h2>Points</h2><p>Distances from the target by the held-out judge, where the evaluation "
        'sampling has finished.</p><div class="table" tabindex="0" role="region" '
        f'aria-label="Points"><table><thead><tr>{heads}<th scope="col" class="words">pages</th>'
        f"</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _link(folder: Path) -> str:
    """A link to a stage's page by its number, if it has one."""
    page = folder / f"{folder.name.partition('-')[0]}.html"
    if not page.is_file():
        return ""
    address = _text(f"../{folder.parent.name}/{folder.name}/{page.name}")
    title, number = _text(stage_title(folder.name)), _text(folder.name.partition("_")[0])
    return f'<a href="{address}" title="{title}">{number}</a>'


def _text(value: Any) -> str:
    return html.escape(str(value))
