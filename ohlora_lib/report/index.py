"""The page of a study (its answer, a card per run folder), and the look that all pages share."""

import base64
import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader

from ohlora_lib.io.disk import write_atomic
from ohlora_lib.io.pictures import open_image
from ohlora_lib.study import records
from ohlora_lib.study.look import MEANING, target_words
from ohlora_lib.study.machine import duration, without_places
from ohlora_lib.study.run_folder import EARLIER

TEMPLATES = Path(__file__).parent / "templates"
SCRIPT = (TEMPLATES / "ohlora" / "page.js").read_text("utf-8")  # turns frames into sliders
SCRIPT_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
LOOK = {  # of all pages; the policy makes browsers run no script but ours and fetch nothing
    "style": (TEMPLATES / "ohlora" / "style.css").read_text("utf-8"),
    "policy": (
        f"default-src 'none'; script-src 'sha256-{SCRIPT_HASH}'; style-src 'unsafe-inline'; "
        "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    ),
}
TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")  # marks that change the text direction
ANSWERS = ("08_compare_runs", "07_report_run")  # the first with verdicts answers for the study
SHOWN = (  # on cards: a stage, its results, their labels, their number format
    ("01_make_population", "images", "images", ",d"),
    ("01_make_population", "shares.*", "labelled {one}", ".0%"),
    ("02_train_base", "image_px", "side of the images, px", "d"),
    ("02_train_base", "parameters", "weights of the generator", ",d"),
    ("03_train_property_cnn", "auroc.judge.*", "AUROC of the judge, {prop}", ".3f"),
    ("04_select_images", "candidates", "images scored", ",d"),
    ("04_select_images", "kept", "images kept", ",d"),
    ("04_select_images", "recall", "share of the population the base can draw (recall)", ".0%"),
    ("05_finetune_generator", "selected", "images trained on", ",d"),
    ("05_finetune_generator", "images_seen", "images shown in training", ",d"),
    ("05_finetune_generator", "heldout_*_score", "judge's {prop} score, target {target:g}", ".3f"),
    ("06_evaluate_samples", "distances.*.fine-tuned", "distance from the target, {prop}", ".3f"),
    ("06_evaluate_samples", "diversity", "diversity, 1 is the selected images'", ".2f"),
)
CARD_PX, HEAD_PX = 480, 1056  # widths of pictures
WHITE = ((255, 255),) * 3  # lowest and highest value by channel, as in the gaps of grids


def write_index(study: Path, *, part: str = "") -> Path:
    """Writes the page of a study's folder, `index.html`, from its run folders.

    HTML in `part` stands between the head and the cards.
    """
    begun = {path.parent for path in [*study.glob("*/config.json"), *study.glob("*/summary.json")]}
    params, _ = records.study_of(study)
    names = {path.stem for path in params.glob("*.yaml")} | {path.name for path in begun}
    cards = [_card(folder) for folder in sorted(begun)]
    told = [card for card in cards if card["verdict"]]
    answers = ([card for card in told if card["stage"] == stage] for stage in ANSWERS)
    loader = FileSystemLoader(TEMPLATES / "ohlora")
    template = Environment(loader=loader, autoescape=True).get_template("study.html.j2")
    answers = next(filter(None, answers), [])
    html = template.render(
        page={**LOOK, "title": f"{study.name}: study"},
        study=study.name,
        head=_head(cards),
        answers=answers,
        warned=any(card["results"].get("findings") for card in answers),
        part=part,
        cards=cards,
        stages=len(names),
        done=sum(card["status"] == "finished" for card in cards),
        work=duration(sum(card.get("wall_sec", 0) for card in cards)),
    )
    page = study / "index.html"
    write_atomic(page, TURNS.sub("", html))
    for kept in study.glob(f"{EARLIER}/*/*.html"):  # one folder deeper than when it was written
        text = kept.read_text("utf-8")
        deeper = re.sub(r'href="\.\./(?!\.\.)', 'href="../../', text)
        if deeper != text:
            write_atomic(kept, deeper)
    return page


def _card(folder: Path) -> dict[str, Any]:
    """Summary of a run, or its state if it has none, and the results that its card shows."""
    summary = {"status": "not finished", **records.read_json(folder / "summary.json")}
    text = json.dumps(summary, ensure_ascii=False)
    summary = json.loads(without_places(text, records.root_of(folder)))
    results, stage = summary.get("results", {}), folder.name.partition("-")[0]
    config = records.read_json(folder / "config.json")
    verdict = results.get("verdict", "")
    verdict = " ".join(verdict) if isinstance(verdict, list) else verdict
    return summary | {
        "name": folder.name,
        "folder": folder,
        "config": config,
        "results": results,
        "stage": stage,
        "variant": folder.name.partition("-")[2] or "fine-tuned",
        "title": stage_title(folder.name),
        "page": f"{folder.name}/{stage}.html" if (folder / f"{stage}.html").is_file() else "",
        "command": records.command(folder),
        "took": duration(summary.get("wall_sec", 0)),
        "verdict": verdict,
        "said": verdict.removeprefix(results.get("warning", "")).strip(),
        "numbers": list(_numbers(stage, results, config)),
        "picture": _picture(folder / str(results.get("thumbnail", "")), CARD_PX),
    }


def _head(cards: list[dict[str, Any]]) -> dict[str, Any]:
    """The head of the page: the look, distances from it by run, pictures before and after."""
    config = next((c["config"] for c in reversed(cards) if c["config"].get("concept")), {})
    meaning, ends = config.get("meaning", MEANING), dict[str, dict[str, float]]()
    look = {p: target_words(p, target, meaning) for p, target in config.get("concept", {}).items()}
    judged = {card["variant"]: card for card in cards if card["results"].get("distances")}
    for name, card in judged.items():
        distances = card["results"]["distances"].items()
        ends.setdefault("base", {prop: by["base"] for prop, by in distances})
        ends[name] = {prop: by["fine-tuned"] for prop, by in distances}
    if not judged:
        return {"look": look}
    means = {name: fmean(row.values()) for name, row in ends.items()}
    best = min(judged, key=means.__getitem__)
    images = judged[best]["folder"] / "images"
    files = {"the base": images / "base.png", f"{best}, the same latents": images / "after.png"}
    pictures = {words: _picture(file, HEAD_PX, half=True) for words, file in files.items()}
    most = max(max(row.values()) for row in ends.values()) or 1
    return {"look": look, "ends": ends, "most": most, "means": means, "pictures": pictures,
            "best": best, "samples": judged[best]["config"].get("samples", "")}  # fmt: skip


def _numbers(stage: str, results: dict[str, Any], config: dict[str, Any]) -> Iterator[tuple]:
    """The results on a run's card: each number with its label."""
    meaning, targets = config.get("meaning", MEANING), config.get("concept", {})
    (found,) = pd.json_normalize(results).to_dict("records")  # keyed by dotted names
    for _, pattern, label, kind in (row for row in SHOWN if row[0] == stage):
        for name, value in found.items():
            match = re.fullmatch(re.escape(pattern).replace(r"\*", "(.+)"), name)
            if match and isinstance(value, int | float):
                prop = "".join(match.groups())
                words = {"one": meaning.get(prop, ("", prop))[1], "target": targets.get(prop, 0)}
                yield label.format(prop=prop, **words), format(value, kind)


def _picture(path: Path, width_px: int, *, half: bool = False) -> dict[str, Any] | None:
    """A small copy of a picture, or of the left half of a grid, as data; None if unreadable."""
    try:
        with open_image(path) as picture:
            small = picture.convert("RGB")
    except ValueError:
        return None
    middle = small.width // 2
    if half and small.crop((middle - 1, 0, middle + 1, small.height)).getextrema() == WHITE:
        small = small.crop((0, 0, middle - 1, small.height))
    small.thumbnail((width_px, 4 * width_px))
    buffer = io.BytesIO()
    small.save(buffer, "webp", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    return {"data": data, "width": small.width, "height": small.height}


def stage_title(name: str) -> str:
    """`05_finetune_generator-v9` in words."""
    stage, _, variant = name.partition("-")
    text = re.sub(r"^0*(\d+)_", r"\1. ", stage).replace("_", " ")
    return f"{text} ({variant})" if variant else text
