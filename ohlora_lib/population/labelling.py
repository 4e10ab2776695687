"""Manual labelling: one question at a time, each answer written to disk before the next.

`answers.csv` is the record; `labels.csv`, which other stages read, is derived from it.
Axes: N images, H image height.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ohlora_lib.population.labels import FILE_COLUMNS, find_names, read_table, save_table

LABELS = {"1": 1, "0": 0, "skip": None}  # answer: label
COLUMNS = ["img_no", "file", "property", "answer"]


class Question(NamedTuple):
    """Asks whether an image has a property."""

    img_no: int
    prop: str


class LabelSession:
    """The progress of a labelling session and its answers.

    Args:
        images: uint8, shape (N, H, H, 3).
        properties: Properties to ask about, for each image.
        folder: Receives `answers.csv` and `labels.csv`. A session resumes from answers already
            there; ValueError if they concern other properties or images.
        files: File names of the N images.
        by_image: Ask about all properties of an image at once; otherwise property by property.
    """

    def __init__(
        self,
        images: np.ndarray,
        properties: Sequence[str],
        folder: Path,
        *,
        files: Sequence[str],
        by_image: bool = False,
    ) -> None:
        own = ("img_no", *FILE_COLUMNS)
        if len({name.strip() for name in properties} - {*own, ""}) < len(properties):
            raise ValueError(
                f"properties are {properties}; each name must be unique, not empty and not "
                f"{' or '.join(own)}"
            )
        self.images, self.properties, self.files = images, properties, files
        self.questions = [Question(k, p) for p in properties for k in range(len(images))]
        if by_image:
            self.questions.sort(key=lambda question: question.img_no)  # stable
        self.folder, self.answers = folder, self._read(folder / "answers.csv")
        self.place = self._next_open(0)

    @property
    def question(self) -> Question | None:
        """The current question; None once all are answered."""
        return self.questions[self.place] if self.place < len(self.questions) else None

    def answer(self, answer: str) -> None:
        """Writes an answer, a key of `LABELS`, to disk and moves to the next open question."""
        question = self.question
        if answer not in LABELS or question is None:
            raise ValueError(f"{answer!r} is not one of {list(LABELS)}, or no question is open")
        answers = {**self.answers, question: answer}
        rows = [(k, self.files[k], prop, given) for (k, prop), given in answers.items()]
        save_table(self.folder / "answers.csv", pd.DataFrame(rows, columns=COLUMNS))
        self.answers = answers
        save_table(self.folder / "labels.csv", self.table())
        self.place = self._next_open(self.place + 1)

    def back(self) -> None:
        """Goes back to the previous question, answered or not; a new answer replaces the old."""
        self.place = max(self.place - 1, 0)

    def progress(self) -> str:
        """A sentence: number of answers, and their balance for the current property."""
        prop = self.question.prop if self.question else self.properties[-1]
        mine = [answer for question, answer in self.answers.items() if question.prop == prop]
        yes, no, skip = (mine.count(answer) for answer in LABELS)
        return (
            f"{len(self.answers)} of {len(self.questions)} answered. "
            f"{prop}: {yes} yes, {no} no, {skip} skipped."
        )

    def table(self) -> pd.DataFrame:
        """One row per image with an answer: img_no, file, and 1, 0 or NA per property."""
        shown = sorted({question.img_no for question in self.answers})
        table = pd.DataFrame({"img_no": shown, "file": [self.files[k] for k in shown]})
        for prop in self.properties:
            labels = [LABELS[self.answers.get(Question(k, prop), "skip")] for k in shown]
            table[prop] = pd.array(labels, dtype="Int64")
        return table

    def _next_open(self, place: int) -> int:
        while place < len(self.questions) and self.questions[place] in self.answers:
            place += 1
        return place

    def _read(self, path: Path) -> dict[Question, str]:
        """Reads the record; matches images by file name, so images may be added later."""
        if not path.exists():
            return {}
        lines = read_table(path, COLUMNS).astype(str)
        places = find_names(lines["file"].tolist(), self.files, any_folder=False)
        answers = dict(zip(map(Question, places, lines["property"]), lines["answer"], strict=True))
        if not (answers.keys() <= set(self.questions) and set(answers.values()) <= LABELS.keys()):
            raise ValueError(
                f"{path}: has answers about images or properties other than these "
                f"{len(self.images)} images and {self.properties}. Use another variant, or remove "
                f"the file."
            )
        return answers
