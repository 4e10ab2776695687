"""Labels by hand: one question at a time, every answer on the disk before the next is asked.

`answers.csv` is the record; `labels.csv`, the table other stages read, is derived from it.
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
    """Does this image have this property?"""

    img_no: int
    prop: str


class LabelSession:
    """Where a person is in labelling, and what was answered.

    Args:
        images: uint8, shape (N, H, H, 3).
        properties: Questions about each image.
        folder: Gets `answers.csv` and `labels.csv`; answers already there are resumed from, or
            refused (ValueError) if they are about other properties or images.
        files: Names of the images, N.
        by_image: Ask all properties of an image before the next image; else all images first.
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
                f"properties are {properties}; give each once, none of them empty or called "
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
        """What is asked now; None when everything is answered."""
        return self.questions[self.place] if self.place < len(self.questions) else None

    def answer(self, answer: str) -> None:
        """Writes an answer, one of `LABELS`, to the disk and moves to the next open question."""
        question = self.question
        if answer not in LABELS or question is None:
            raise ValueError(f"{answer!r} is not one of {list(LABELS)}, or all is answered")
        answers = {**self.answers, question: answer}
        rows = [(k, self.files[k], prop, given) for (k, prop), given in answers.items()]
        save_table(self.folder / "answers.csv", pd.DataFrame(rows, columns=COLUMNS))
        self.answers = answers
        save_table(self.folder / "labels.csv", self.table())
        self.place = self._next_open(self.place + 1)

    def back(self) -> None:
        """Returns to the previous question, answered or not; the new answer will count."""
        self.place = max(self.place - 1, 0)

    def progress(self) -> str:
        """How far, and how the answers to the present property are balanced."""
        prop = self.question.prop if self.question else self.properties[-1]
        mine = [answer for question, answer in self.answers.items() if question.prop == prop]
        yes, no, skip = (mine.count(answer) for answer in LABELS)
        return (
            f"{len(self.answers)} of {len(self.questions)} answered. "
            f"{prop}: {yes} yes, {no} no, {skip} skipped."
        )

    def table(self) -> pd.DataFrame:
        """One row per image with an answer: img_no, file, and 1, 0 or missing per property."""
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
        """Reads the record; images are found by their files' names, so new ones may come in."""
        if not path.exists():
            return {}
        lines = read_table(path, COLUMNS).astype(str)
        places = find_names(lines["file"].tolist(), self.files, any_folder=False)
        answers = dict(zip(map(Question, places, lines["property"]), lines["answer"], strict=True))
        if not (answers.keys() <= set(self.questions) and set(answers.values()) <= LABELS.keys()):
            raise ValueError(
                f"{path}: has answers about other images or properties than these "
                f"{len(self.images)} images and {self.properties}. Label into another variant, or "
                f"remove the file."
            )
        return answers


class Merged(NamedTuple):
    """Label tables of several people as one, and where they disagree."""

    table: pd.DataFrame
    disagreements: pd.DataFrame  # image, property, a column of answers per person
    left_out: list[str]  # columns that hold no labels


def merge_tables(paths: Sequence[Path]) -> Merged:
    """Joins label tables of the same images; where people disagree, there is no label.

    Each table names the image in a column that all have, and has labels of 0, 1 and nothing.
    ValueError if one is unreadable, has an image twice, or another value among its labels.
    """
    tables = {str(path): read_table(path) for path in paths}
    keys = [name for name in (*FILE_COLUMNS, "img_no") if all(name in t for t in tables.values())]
    if not keys:
        raise ValueError(
            f"{', '.join(tables)}: have no column in common that names the image; each needs "
            f"`file` or `img_no`"
        )
    key, frames, images = keys[0], {}, []
    found = [prop for name, table in tables.items() for prop in label_columns(table, name)]
    properties = list(dict.fromkeys(found))
    for name, table in tables.items():
        mine = [prop for prop in properties if prop in table]
        for prop in mine:
            good = table[prop].isna() | numbers(table[prop]).isin([0, 1])
            check_cells(table[prop], good, name, "it must be 0, 1 or empty")
        if key != "img_no":  # names may be spelt in several ways: the first one stays
            known = find_names(table[key].tolist(), images, any_folder=False)
            firsts = [None if place is None else images[place] for place in known]
            table[key] = pd.Series(firsts, table.index, dtype=object).fillna(table[key])
        check_cells(table[key], ~table[key].duplicated(), name, "that image appears twice")
        frames[name] = table.set_index(key)[mine].astype(float).astype("Int64")
        images = list(dict.fromkeys([*images, *table[key]]))
    answers = pd.concat(frames, axis=1).reindex(images)  # columns: person, property
    rows = answers.stack(future_stack=True).rename_axis([key, "property"])  # columns: person
    kinds = rows.nunique(axis=1)  # of answers
    agreed = rows.min(axis=1).where(kinds == 1).unstack().reindex(index=images, columns=properties)
    differ = rows[kinds > 1].reset_index()
    columns = dict.fromkeys(name for table in tables.values() for name in table)
    left_out = [name for name in columns if name not in [key, *properties]]
    return Merged(agreed.rename_axis(index=key, columns=None).reset_index(), differ, left_out)
