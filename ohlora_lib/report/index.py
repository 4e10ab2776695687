"""The page of a study: its answer, and a card for each run folder; and what all pages share."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from ohlora_lib.io.disk import write_atomic
from ohlora_lib.io.pictures import open_image
from ohlora_lib.report.links import link_pages, page_of
from ohlora_lib.study import run_folder
from ohlora_lib.study.machine import duration, without_places
from ohlora_lib.study.run_folder import read_failure

TEMPLATES = Path(__file__).parent / "templates"
SCRIPT = (TEMPLATES / "ohlora" / "page.js").read_text("utf-8")  # makes sliders of frames
SCRIPT_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
LOOK = {  # of every page; the browser enforces that our script alone runs and nothing is fetched
    "style": (TEMPLATES / "ohlora" / "style.css").read_text("utf-8"),
    "policy": (
        f"default-src 'none'; script-src 'sha256-{SCRIPT_HASH}'; style-src 'unsafe-inline'; "
        "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    ),
}
ANSWERS = ("08_compare_runs", "07_report_run")  # whose verdict answers for the study, best first
HIDDEN = {"verdict", "thumbnail"}  # results that are shown in their own way
MOST_NUMBERS = 8
THUMBNAIL_PX = 480

TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")  # marks that turn what follows around


def without_turns(text: str) -> str:
    """Text without direction marks, of which scripts that run from right to left need none."""
    return TURNS.sub("", text)


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
    runs = {folder: _read(folder) for folder in sorted(begun)}
    loader = FileSystemLoader(TEMPLATES / "ohlora")
    template = Environment(loader=loader, autoescape=True).get_template("study.html.j2")
    html = template.render(
        page={**LOOK, "title": f"{study.name}: study"},
        study=study.name,
        answers=list(_answers(runs)),
        part=part,
        cards=[_card(folder, run) for folder, run in runs.items()],
        done=sum(run["status"] == "finished" for run in runs.values()),
        work=duration(sum(run.get("wall_sec", 0) for run in runs.values())),
    )
    page = study / "index.html"
    write_atomic(page, without_turns(html))
    link_pages(study)
    return page


def _read(folder: Path) -> dict[str, Any]:
    """Summary of a run, or how it stands without one; no text names a place of this machine."""
    try:
        summary = run_folder.read_summary(folder)
    except ValueError:
        failure = read_failure(folder) or {"status": "not finished", "reason": ""}
        summary = {"status": str(failure["status"]), "error": str(failure["reason"])}
    text = json.dumps(summary, ensure_ascii=False)
    return json.loads(without_places(text, run_folder.root_of(folder)))


def _answers(runs: Mapping[Path, dict[str, Any]]) -> Iterator[dict[str, str]]:
    """The verdicts of the comparison and of the reports, comparison first."""
    for notebook in ANSWERS:
        for folder, run in runs.items():
            verdict = run.get("results", {}).get("verdict")
            if verdict and run.get("notebook") == notebook:
                address = f"{folder.name}/{page_of(folder).name}"
                yield {"text": _words(verdict), "address": address, "name": folder.name}


def _card(folder: Path, run: dict[str, Any]) -> dict[str, Any]:
    results, page = run.get("results", {}), page_of(folder)
    finished = run["status"] == "finished"
    return {
        "title": stage_title(folder.name),
        "address": f"{folder.name}/{page.name}" if page.is_file() else "",
        "status": run["status"],
        "when": f"in {duration(run['wall_sec'])}, {run['finished'][:10]}" if finished else "",
        "text": _words(results.get("verdict") or run.get("error", "")),
        "numbers": list(_numbers(results))[:MOST_NUMBERS],
        "picture": _thumbnail(folder, results.get("thumbnail")),
    }


def _numbers(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The key numbers as text, those of a mapping under `name part`."""
    for name, value in values.items():
        label = f"{prefix}{name}".replace("_", " ")
        if name in HIDDEN:
            continue
        if isinstance(value, dict):
            yield from _numbers(value, f"{label} ")
        elif isinstance(value, bool):
            yield label, "yes" if value else "no"
        elif isinstance(value, int | float):
            yield label, f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
        elif isinstance(value, str) and len(value) <= 40:
            yield label, value


def _words(value: Any) -> str:
    """A sentence; several are joined."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _thumbnail(folder: Path, name: Any) -> dict[str, Any] | None:
    """A small copy of a picture of the run folder, inside the page."""
    path = (folder / str(name)).resolve()
    if not name or not path.is_file() or folder.resolve() not in path.parents:
        return None
    try:
        with open_image(path) as picture:
            small = picture.convert("RGB")
            small.thumbnail((THUMBNAIL_PX, 4 * THUMBNAIL_PX))
    except ValueError:
        return None
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return {"data": data, "width": small.width, "height": small.height}


def stage_title(name: str) -> str:
    """`05_finetune_generator-v9` in words."""
    stage, _, variant = name.partition("-")
    number, _, words = stage.partition("_")
    text = f"{int(number)}. {words}" if re.fullmatch(r"\d+", number) and words else stage
    text = text.replace("_", " ")
    return f"{text} ({variant})" if variant else text
