"""The page of a study: its answer, and a card for each run folder; and what all pages share."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from ohlora_lib.io.disk import write_atomic
from ohlora_lib.io.images import to_png
from ohlora_lib.io.pictures import open_image
from ohlora_lib.study import records
from ohlora_lib.study.machine import duration, without_places
from ohlora_lib.study.run_folder import EARLIER

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
TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")  # marks that turn the direction of what follows
ANSWERS = ("08_compare_runs", "07_report_run")  # whose verdict answers for the study, best first
MOST_NUMBERS = 8  # on a card
THUMBNAIL_PX = 480


def write_index(study: Path, *, part: str = "") -> Path:
    """Writes the page of a study's folder, `index.html`, from what its run folders hold.

    HTML in `part` stands between the answer and the cards.
    """
    begun = {path.parent for path in [*study.glob("*/config.json"), *study.glob("*/summary.json")]}
    cards = [_card(folder) for folder in sorted(begun)]
    loader = FileSystemLoader(TEMPLATES / "ohlora")
    template = Environment(loader=loader, autoescape=True).get_template("study.html.j2")
    html = template.render(
        page={**LOOK, "title": f"{study.name}: study"},
        study=study.name,
        answers=[card for stage in ANSWERS for card in cards if card["stage"] == stage],
        part=part,
        cards=cards,
        done=sum(card["status"] == "finished" for card in cards),
        work=duration(sum(card.get("wall_sec", 0) for card in cards)),
    )
    page = study / "index.html"
    write_atomic(page, TURNS.sub("", html))
    for kept in study.glob(f"{EARLIER}/*/*.html"):  # one folder deeper than where it was made
        text = kept.read_text("utf-8")
        deeper = re.sub(r'href="\.\./(?!\.\.)', 'href="../../', text)
        if deeper != text:
            write_atomic(kept, deeper)
    return page


def _card(folder: Path) -> dict[str, Any]:
    """Summary of a run, or how it stands without one, and what its card shows of it."""
    summary = {"status": "not finished", **records.read_json(folder / "summary.json")}
    text = json.dumps(summary, ensure_ascii=False)
    summary = json.loads(without_places(text, records.root_of(folder)))
    results, stage = summary.get("results", {}), folder.name.partition("-")[0]
    verdict = results.pop("verdict", "")
    picture = _small(folder / str(results.pop("thumbnail", "")))
    return summary | {
        "name": folder.name,
        "stage": stage,
        "title": stage_title(folder.name),
        "page": f"{folder.name}/{stage}.html" if (folder / f"{stage}.html").is_file() else "",
        "took": duration(summary.get("wall_sec", 0)),
        "verdict": " ".join(verdict) if isinstance(verdict, list) else verdict,
        "numbers": list(_numbers(results))[:MOST_NUMBERS],
        "picture": picture,
    }


def _numbers(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The key numbers as text, those of a mapping under `name part`."""
    for name, value in values.items():
        label = f"{prefix}{name}".replace("_", " ")
        if isinstance(value, dict):
            yield from _numbers(value, f"{label} ")
        elif isinstance(value, bool):
            yield label, "yes" if value else "no"
        elif isinstance(value, int | float):
            yield label, f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
        elif isinstance(value, str) and len(value) <= 40:
            yield label, value


def _small(path: Path) -> dict[str, Any] | None:
    """A small copy of a picture, as data to put inside the page; None if it cannot be read."""
    try:
        with open_image(path) as picture:
            small = picture.convert("RGB")
    except ValueError:
        return None
    small.thumbnail((THUMBNAIL_PX, 4 * THUMBNAIL_PX))
    data = base64.b64encode(to_png(small)).decode()
    return {"data": data, "width": small.width, "height": small.height}


def stage_title(name: str) -> str:
    """`05_finetune_generator-v9` in words."""
    stage, _, variant = name.partition("-")
    text = re.sub(r"^0*(\d+)_", r"\1. ", stage).replace("_", " ")
    return f"{text} ({variant})" if variant else text
