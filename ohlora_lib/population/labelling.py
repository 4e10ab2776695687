"""Labels by hand: one question at a time, every answer on the disk before the next is asked.

Answers are appended to `answers.csv`, which is the record: the last answer to a question counts.
`labels.csv`, the table other stages read, is derived from it after every answer.
Axes: N images, H image height.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ohlora_lib.io.disk import sync
from ohlora_lib.io.tables import numbers
from ohlora_lib.population.labels import (
    FILE_COLUMNS,
    csv_line,
    find_names,
    label_columns,
    plain,
    read_table,
    save_table,
)

LABELS = {"1": 1, "0": 0, "skip": None}  # answer: label
COLUMNS = ("img_no", "file", "property", "answer")


class Question(NamedTuple):
    """Does this image have this property?"""

    img_no: int
    prop: str


class LabelSession:
    """Where a person is in labelling, and what was answered.

    Args:
        images: uint8, shape (N, H, H, 3).
        properties: Questions about each image.
        folder: Gets `answers.csv` and `labels.csv`; answers already there are resumed from.
        files: Names of the images, N.
        by_image: Ask all properties of an image before the next image; else all images first.

    Raises:
        ValueError: If a property cannot be a column of the label table, or the answers in the
            folder are about other properties or images; one line.
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
        odd = [p for p in properties if p in own or not p.strip() or properties.count(p) > 1]
        if odd:
            raise ValueError(
                f"properties are {properties}; give each once, none of them empty or called "
                f"{' or '.join(own)}"
            )
        self.images, self.properties, self.files = images, properties, files
        places = range(len(images))
        self.questions = [Question(k, p) for p in properties for k in places]
        if by_image:
            self.questions.sort(key=lambda question: question.img_no)  # stable
        self.record, self.labels = folder / "answers.csv", folder / "labels.csv"
        self.answers = self._read()
        if self.answers:  # the last run may have ended between an answer and the table
            save_table(self.labels, self.table())
        self.place = self._next_open(0)

    @property
    def question(self) -> Question | None:
        """What is asked now; None when everything is answered."""
        return self.questions[self.place] if self.place < len(self.questions) else None

    def answer(self, answer: str) -> None:
        """Writes an answer to the disk, then goes on to the next open question.

        Raises:
            ValueError: If the answer is none of `LABELS`, or there is no question left.
        """
        question = self.question
        if answer not in LABELS or question is None:
            raise ValueError(f"{answer!r} is not one of {list(LABELS)}, or all is answered")
        line = csv_line((question.img_no, self.files[question.img_no], question.prop, answer))
        if self.record.exists():
            _drop_cut_line(self.record)  # of an answer that did not fit on the disk
        else:
            line = csv_line(COLUMNS) + line
        with self.record.open("ab") as file:
            file.write(line.encode())
        sync(self.record)
        self.answers[question] = answer
        save_table(self.labels, self.table())
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

    def _read(self) -> dict[Question, str]:
        """Reads the record; images are found by their files' names, so new ones may come in."""
        if not self.record.exists():
            return {}
        _drop_cut_line(self.record)
        lines = read_table(self.record, COLUMNS).astype(str)
        places = find_names(lines["file"].tolist(), self.files, any_folder=False)
        questions = [Question(*pair) for pair in zip(places, lines["property"], strict=True)]
        known = set(self.questions)
        for row, (question, answer) in enumerate(zip(questions, lines["answer"], strict=True)):
            if question not in known or answer not in LABELS:
                raise ValueError(
                    f"{self.record}: row {row} ({lines.loc[row].to_dict()}) is no answer to a "
                    f"question about these {len(self.images)} images and {self.properties}. Label "
                    f"into another variant, or remove the file."
                )
        return dict(zip(questions, lines["answer"], strict=True))


def _drop_cut_line(path: Path) -> None:
    """Drops a last line without an end, so that the next answer begins a line."""
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if 0 < end < len(data):
        os.truncate(path, end)


@dataclass(frozen=True)
class Merged:
    """Label tables of several people as one, and where they disagree."""

    table: pd.DataFrame
    disagreements: pd.DataFrame  # image, property, a column of answers per person
    left_out: list[str]  # columns that hold no labels


def merge_tables(paths: Sequence[Path]) -> Merged:
    """Joins label tables of the same images; where people disagree, there is no label.

    Args:
        paths: Tables with a column that names the image, and columns of 0, 1 and nothing.

    Raises:
        ValueError: If a table is unreadable, a label is not 0 or 1, or two tables share no column
            of names; one line.
    """
    tables = {str(path): read_table(path, []) for path in paths}
    keys = [name for name in (*FILE_COLUMNS, "img_no") if all(name in t for t in tables.values())]
    if not keys:
        raise ValueError(
            f"{', '.join(tables)}: have no column in common that names the image; each needs "
            f"`file` or `img_no`"
        )
    key, images = keys[0], []
    found = [prop for name, table in tables.items() for prop in label_columns(table, name)]
    properties = list(dict.fromkeys(found))
    frames = {name: table.set_index(key) for name, table in tables.items()}
    for name, frame in frames.items():
        if key != "img_no":
            places = find_names(list(frame.index), images, any_folder=False)
            pairs = zip(frame.index, places, strict=True)
            frame.index = [own if place is None else images[place] for own, place in pairs]
        _check_labels(frame, name, [prop for prop in properties if prop in frame])
        images = list(dict.fromkeys([*images, *frame.index]))
    table, rows = pd.DataFrame({key: images}), []
    for prop in properties:
        own = {name: frame[prop] for name, frame in frames.items() if prop in frame}
        answers = pd.DataFrame(own, index=images)
        low, high = answers.min(axis=1), answers.max(axis=1)
        table[prop] = low.where(low == high).astype("Int64").array
        for image in answers.index[(low != high) & low.notna()]:
            rows.append({key: image, "property": prop, **answers.loc[image]})
    columns = dict.fromkeys(name for frame in frames.values() for name in frame)
    left_out = [name for name in columns if name not in properties]
    return Merged(table, pd.DataFrame(rows, columns=[key, "property", *frames]), left_out)


def _check_labels(frame: pd.DataFrame, source: str, properties: Sequence[str]) -> None:
    """Raises ValueError if an image has two rows, or a label in this table is not 0 or 1."""
    if not frame.index.is_unique:
        twice = plain(frame.index[frame.index.duplicated()][0])
        raise ValueError(f"{source}: {twice!r} is there twice. Keep one row an image.")
    for prop in properties:
        cells = frame[prop].dropna()
        bad = cells[~numbers(cells).isin([0, 1])]
        if len(bad):
            raise ValueError(
                f"{source}: {prop} of {plain(bad.index[0])!r} is {plain(bad.iloc[0])!r}; it must "
                f"be 0, 1 or empty ({len(bad)} such rows). Correct them."
            )
