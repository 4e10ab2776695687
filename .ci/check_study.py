"""Checks the outputs of a finished study: `check_study.py outputs/<study>`."""

from __future__ import annotations

import csv
import itertools
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml

LEAST_BYTES = 5000
LOADING_TAGS = {"script", "img", "link", "iframe", "source", "video", "audio", "embed", "object"}
LOADING_ATTRIBUTES = {"src", "href", "srcset", "data", "poster"}
NETWORK = re.compile(r"\s*(https?:)?//", re.IGNORECASE)
LOADING_STYLE = re.compile(r"(url\(\s*['\"]?|@import\s+['\"]?)(https?:)?//", re.IGNORECASE)


class Loads(HTMLParser):
    """Collects a page's ids, links, and the resources it would load from the network."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.links: set[str] = set()
        self.ids: set[str] = set()
        self.in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Records one tag's id, link and network resources."""
        self.in_style = tag == "style"
        for name, value in attrs:
            value = value or ""
            if tag == "a" and name == "href":
                self.links.add(value)
            if name == "id":
                self.ids.add(value)
            loads = tag in LOADING_TAGS and name in LOADING_ATTRIBUTES and NETWORK.match(value)
            if loads or (name == "style" and LOADING_STYLE.search(value)):
                self.found.append(f"<{tag} {name}={value[:80]!r}>")

    def handle_endtag(self, tag: str) -> None:
        """Notes the end of a style sheet."""
        self.in_style = self.in_style and tag != "style"

    def handle_data(self, data: str) -> None:
        """Searches style sheets for network resources."""
        match = LOADING_STYLE.search(data) if self.in_style else None
        if match:
            self.found.append(f"<style> {match[0]}...")


def require(met: object, line: str) -> None:
    """Exits with one line if a check fails."""
    if not met:
        sys.exit(f"check_study: {line}")


def leads(link: str, path: Path, ids: set[str]) -> bool:
    """Whether a link's target (part of a page, or file) exists; network links are not checked."""
    if NETWORK.match(link):
        return True
    name, _, part = link.partition("#")
    if name:
        target, page = path.parent / unquote(name), Loads()
        if not target.is_file():
            return False
        page.feed(target.read_text(encoding="utf-8") if part else "")
        ids = page.ids
    return not part or part in ids


def read_page(path: Path) -> Loads:
    """Reads a page and checks its size, that it loads nothing from the network, and its links."""
    require(path.is_file(), f"{path} is missing")
    size = path.stat().st_size
    require(size > LEAST_BYTES, f"{path} has {size} bytes; a page has more than {LEAST_BYTES}")
    page = Loads()
    page.feed(path.read_text(encoding="utf-8"))
    require(not page.found, f"{path} loads from the network: {', '.join(page.found[:3])}")
    dead = [link for link in sorted(page.links) if not leads(link, path, page.ids)]
    require(not dead, f"{path} has dead links: {', '.join(dead[:3])}")
    return page


def read_results(folder: Path) -> dict[str, Any]:
    """Returns a stage's results; the stage must have finished."""
    path = folder / "summary.json"
    require(path.is_file(), f"{path} is missing: the stage did not finish")
    summary = json.loads(path.read_text(encoding="utf-8"))
    require(summary.get("status") == "finished", f"{path}: status is {summary.get('status')!r}")
    for fact in summary["artefacts"]:
        require((folder / fact["path"]).is_file(), f"{folder}: {fact['path']} is missing")
    return summary["results"]


def log_columns(concept: list[str], *, adaptive: bool) -> list[str]:
    """Columns of a training log: the published ones, then ours."""
    kinds = ("heldout_{}", "fixed_{}", "fixed_heldout_{}")
    return [
        *("", "epoch", "idx", "d_loss", "g_loss"),
        *(["d_train_count"] if adaptive else []),
        *("g_train_count", "real_scores_mean", "fake_scores_mean", "real_fake_auroc"),
        *[f"mean_{prop}_score" for prop in concept],
        *("elapsed_sec", "images_seen", "pooled_auroc"),
        *[f"{kind.format(prop)}_score" for kind in kinds for prop in concept],
        *("diversity", "recall"),
    ]


def check_log(path: Path, parameters: dict[str, Any]) -> None:
    """Checks columns and number of rows of a training log."""
    require(path.is_file(), f"{path} is missing")
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    wanted = log_columns(list(parameters["concept"]), adaptive=parameters["recipe"] == "v9")
    odd = [(a, b) for a, b in itertools.zip_longest(header, wanted) if a != b]
    require(not odd, f"{path}: columns differ; the first (found, expected) is {odd[:1]}")
    require(len(rows) >= 6, f"{path} has {len(rows)} rows; a trend needs 6")


def main(study: Path) -> None:
    """Checks a study against its params files."""
    root = Path(__file__).resolve().parents[1]
    files = sorted((root / "params" / study.name).glob("*.yaml"))
    require(files, f"params/{study.name} has no params files")
    index = read_page(study / "index.html")
    for file in files:
        folder, notebook = study / file.stem, file.stem.partition("-")[0]
        results = read_results(folder)
        read_page(folder / f"{notebook}.html")
        link = f"{file.stem}/{notebook}.html"
        require(link in index.links, f"{study / 'index.html'} does not link to {link}")
        if notebook == "05_finetune_generator":
            check_log(folder / "train_log.csv", yaml.safe_load(file.read_text(encoding="utf-8")))
        if notebook == "08_compare_runs":
            verdict = str(results.get("verdict") or "").strip()
            sentence = len(verdict.split()) >= 3 and verdict.endswith(".")
            require(sentence, f"{folder}: the verdict is {verdict!r}, not a sentence")
            sys.stdout.write(f"{verdict}\n")
    sys.stdout.write(f"{study}: {len(files)} stages finished; pages complete and offline\n")


if __name__ == "__main__":
    require(len(sys.argv) == 2, "give one folder, such as outputs/quickstart")
    main(Path(sys.argv[1]))
