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

from ohlora_lib.io.tables import numbers
from ohlora_lib.population.labels import (
    FILE_COLUMNS,
    check_cells,
    find_names,
    label_columns,
    read_table,
    save_table,
)

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


class Merged(NamedTuple):
    """Merged label tables of several people, and their disagreements."""

    table: pd.DataFrame
    disagreements: pd.DataFrame  # image, property, one column of answers per person
    left_out: list[str]  # columns that are not labels


def merge_tables(paths: Sequence[Path]) -> Merged:
    """Merges label tables of the same images; a label on which people disagree is missing.

    The tables name images in a column common to all; labels are 0, 1 or empty. ValueError if a
    table is unreadable, contains an image twice, or has another value in a label column.
    """
    tables = {str(path): read_table(path) for path in paths}
    keys = [name for name in (*FILE_COLUMNS, "img_no") if all(name in t for t in tables.values())]
    if not keys:
        raise ValueError(
            f"{', '.join(tables)}: no common column names the images. Add `file` or `img_no` "
            f"to each table."
        )
    key, frames, images = keys[0], {}, []
    found = [prop for name, table in tables.items() for prop in label_columns(table, name)]
    properties = list(dict.fromkeys(found))
    for name, table in tables.items():
        mine = [prop for prop in properties if prop in table]
        for prop in mine:
            good = table[prop].isna() | numbers(table[prop]).isin([0, 1])
            check_cells(table[prop], good, name, "it must be 0, 1 or empty")
        if key != "img_no":  # a name may have several spellings; keep the first
            known = find_names(table[key].tolist(), images, any_folder=False)
            firsts = [None if place is None else images[place] for place in known]
            table[key] = pd.Series(firsts, table.index, dtype=object).fillna(table[key])
        check_cells(table[key], ~table[key].duplicated(), name, "that image appears twice")
        frames[name] = table.set_index(key)[mine].astype(float).astype("Int64")
        images = list(dict.fromkeys([*images, *table[key]]))
    answers = pd.concat(frames, axis=1).reindex(images)  # columns: (person, property)
    rows = answers.stack(future_stack=True).rename_axis([key, "property"])  # columns: person
    kinds = rows.nunique(axis=1)  # distinct answers
    agreed = rows.min(axis=1).where(kinds == 1).unstack().reindex(index=images, columns=properties)
    differ = rows[kinds > 1].reset_index()
    columns = dict.fromkeys(name for table in tables.values() for name in table)
    left_out = [name for name in columns if name not in [key, *properties]]
    return Merged(agreed.rename_axis(index=key, columns=None).reset_index(), differ, left_out)
