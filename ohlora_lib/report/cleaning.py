"""Prepares an executed notebook for reading: texts settled, pictures described, widgets gone."""

from __future__ import annotations

import re
from typing import Any

from nbformat import NotebookNode

PICTURES = ("image/png", "image/jpeg", "image/svg+xml")
ALIVE = ("application/vnd.jupyter.widget-view+json", "application/javascript")
PROGRESS = re.compile(r"\d+%\|.*\||\d+(\.\d+)?\s?(it/s|s/it|[kM]?B/s)\b|\?it/s")
NO_DESCRIPTION = re.compile(r"^<.*>$", re.DOTALL)  # such as <Figure size 640x480 with 1 Axes>
REWRITTEN = re.compile(r"[^\n]*\r(?=[^\n\r])")
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
LABELS = {"parameters": "Parameters by default", "injected-parameters": "Parameters of this run"}


def clean_notebook(notebook: NotebookNode) -> None:
    """Cleans a notebook in place."""
    notebook.metadata.pop("widgets", None)
    heading, figure = "Notebook", 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = (HEADING.findall(cell.source) or [heading])[-1]
        elif cell.cell_type == "code":
            clean_cell(cell)
            for output in cell.outputs:
                figure += describe_pictures(output, f"{heading}: figure {figure + 1}")


def clean_cell(cell: NotebookNode) -> None:
    """Labels a cell, merges its printed text, drops progress, widgets and library warnings.

    What libraries write to standard error is for who runs the notebook, which keeps it.
    """
    tags = cell.metadata.get("tags", [])
    cell.metadata["label"] = next((LABELS[tag] for tag in tags if tag in LABELS), "Code")
    failed = any(output.output_type == "error" for output in cell.outputs)
    cell.metadata["failed"] = failed
    cell.outputs = merge_streams(cell.outputs)
    for output in cell.outputs:
        if output.output_type == "stream":
            output.text = settle(output.text, progress=failed or output.name == "stdout")
    aside = () if failed else ("stderr",)
    cell.outputs = [
        output
        for output in cell.outputs
        if not is_empty(output) and output.get("name") not in aside
    ]


def merge_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Joins text printed to the same stream in a row."""
    merged: list[NotebookNode] = []
    for output in outputs:
        last = merged[-1] if merged else None
        if output.output_type == "stream" and last and last.get("name") == output.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


def settle(text: str, *, progress: bool) -> str:
    """Text as a terminal leaves it; without progress lines unless they are wanted."""
    lines = REWRITTEN.sub("", text.replace("\r\n", "\n")).replace("\r", "").split("\n")
    return "\n".join(line for line in lines if progress or not PROGRESS.search(line))


def is_empty(output: NotebookNode) -> bool:
    """Whether there is nothing to show: blank text, or what needs a kernel or a script."""
    if output.output_type == "stream":
        return not output.text.strip()
    return any(mime in output.get("data", {}) for mime in ALIVE)


def describe_pictures(output: NotebookNode, fallback: str) -> int:
    """Gives each picture of an output an alternative text; returns whether there was one."""
    data: dict[str, Any] = output.get("data", {})
    shown = [mime for mime in PICTURES if mime in data]
    for mime in shown:
        facts = dict(output.metadata.get(mime) or {})
        plain = str(data.get("text/plain", "")).strip().strip("'\"")
        said = facts.get("alt") or output.metadata.get("alt")
        facts["alt"] = said or (plain if not NO_DESCRIPTION.match(plain) else "") or fallback
        output.metadata[mime] = facts
    return int(bool(shown))
