"""The page of a study: its answer, and a card for each run folder in order of name."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ohlora_lib.io.disk import write_atomic
from ohlora_lib.io.pictures import open_image
from ohlora_lib.report.links import link_pages
from ohlora_lib.report.sheet import style
from ohlora_lib.study import run_folder
from ohlora_lib.study.summaries import read_failure
from ohlora_lib.study.words import without_places, without_turns

ANSWERS = ("08_compare_runs", "07_report_run")  # whose verdict answers for the study, best first
HIDDEN = {"verdict", "thumbnail"}  # results that are shown in their own way
MOST_NUMBERS = 8
THUMBNAIL_PX = 480
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"


def write_index(study: Path, *, part: str = "") -> Path:
    """Writes `index.html` of a study from what its run folders hold, and links their pages.

    Args:
        study: The study's folder in outputs.
        part: HTML that stands between the answer and the cards.

    Returns:
        The page.
    """
    begun = {
        path.parent for name in ("config", "summary") for path in study.glob(f"*/{name}.json")
    }
    folders = sorted(begun)
    runs = {folder.name: _placeless(_read(folder), folder) for folder in folders}
    page = study / "index.html"
    write_atomic(page, _page(study.name, folders, runs, part))
    link_pages(study)
    return page


def _read(folder: Path) -> dict[str, Any]:
    """Summary of a run, or how it stands without one."""
    try:
        return run_folder.read_summary(folder)
    except ValueError:
        pass
    failure = read_failure(folder)
    if failure is None:
        return {"status": "not finished"}
    return {"status": str(failure["status"]), "error": str(failure["reason"])}


def _placeless(summary: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A summary whose texts name no place of this machine."""
    text = json.dumps(summary, ensure_ascii=False)
    return json.loads(without_places(text, run_folder.root_of(folder)))


def _page(study: str, folders: list[Path], runs: dict[str, dict[str, Any]], part: str) -> str:
    cards = "\n".join(_card(folder, runs[folder.name]) for folder in folders)
    wall_sec = sum(run.get("wall_sec", 0) for run in runs.values())
    done = sum(run["status"] == "finished" for run in runs.values())
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="color-scheme" content="light dark">
<title>{_text(study)}: study</title>
<style>{style()}</style>
</head>
<body>
<main class="study">
<header class="crumbs">Study</header>
<h1>{_text(study)}</h1>
{_answer(runs)}
{part}
<ol class="cards">
{cards}
</ol>
</main>
<footer><p>{done} of {len(runs)} stages finished, {_duration(wall_sec)} of work.</p></footer>
</body>
</html>
"""


def _answer(runs: dict[str, dict[str, Any]]) -> str:
    """The verdicts of the comparison and of the reports, comparison first."""
    parts = []
    for notebook in ANSWERS:
        for name, run in runs.items():
            verdict = run.get("results", {}).get("verdict")
            if verdict and run.get("notebook") == notebook:
                link = f'<a href="{_text(_address(name, notebook))}">{_text(name)}</a>'
                parts.append(f'<p>{_text(_words(verdict))} <span class="from">{link}</span></p>')
    if not parts:
        return '<div class="answer"><p>No verdict yet: no report has finished.</p></div>'
    return f'<div class="answer">{"".join(parts)}</div>'


def _card(folder: Path, run: dict[str, Any]) -> str:
    notebook = run.get("notebook") or _notebook_stem(folder)
    title = _text(stage_title(folder.name))
    if (folder / f"{notebook}.html").is_file():
        title = f'<a href="{_text(_address(folder.name, notebook))}">{title}</a>'
    results = run.get("results", {})
    said = results.get("verdict") or run.get("error")
    parts = [
        _thumbnail(folder, results.get("thumbnail"), stage_title(folder.name)),
        f"<div><h2>{title}</h2>",
        _state(run),
        f"<p>{_text(_words(said))}</p>" if said else "",
        _numbers(results),
        "</div>",
    ]
    return f'<li class="card">{"".join(parts)}</li>'


def _state(run: dict[str, Any]) -> str:
    if run["status"] != "finished":
        return f'<p class="state"><b class="bad">{_text(run["status"])}</b></p>'
    seconds = _duration(run["wall_sec"])
    return f'<p class="state"><b>finished</b> in {seconds}, {_text(run["finished"][:10])}</p>'


def _numbers(results: dict[str, Any]) -> str:
    """The key numbers, those of a mapping under `name part`."""
    rows = list(_flat({k: v for k, v in results.items() if k not in HIDDEN}))[:MOST_NUMBERS]
    items = "".join(f"<dt>{_text(_label(k))}</dt><dd>{_text(_number(v))}</dd>" for k, v in rows)
    return f"<dl>{items}</dl>" if items else ""


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
        elif isinstance(value, int | float) or (isinstance(value, str) and len(value) <= 40):
            yield f"{prefix}{name}", value


def _number(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else value


def _label(name: str) -> str:
    return name.replace("_", " ")


def _words(value: Any) -> str:
    """A sentence; several are joined."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _thumbnail(folder: Path, name: Any, alt: str) -> str:
    """A small copy of a picture of the run folder, inside the page."""
    path = (folder / str(name)).resolve()
    if not name or not path.is_file() or folder.resolve() not in path.parents:
        return ""
    try:
        with open_image(path) as picture:
            small = picture.convert("RGB")
            small.thumbnail((THUMBNAIL_PX, 4 * THUMBNAIL_PX))
    except ValueError:
        return ""
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    size = f'width="{small.width}" height="{small.height}"'
    return f'<img src="data:image/png;base64,{data}" alt="{_text(alt)}: picture" {size}>'


def stage_title(name: str) -> str:
    """`05_finetune_generator-v9` in words."""
    stage, _, variant = name.partition("-")
    number, _, words = stage.partition("_")
    text = f"{int(number)}. {words}" if re.fullmatch(r"\d+", number) and words else stage
    text = text.replace("_", " ")
    return f"{text} ({variant})" if variant else text


def _notebook_stem(folder: Path) -> str:
    return folder.name.partition("-")[0]


def _address(folder: str, notebook: str) -> str:
    return f"{folder}/{notebook}.html"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _text(value: Any) -> str:
    return html.escape(without_turns(str(value)), quote=True)
