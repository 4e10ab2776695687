"""Labels by hand: one question at a time, every answer on the disk before the next is asked.

Answers are appended to `answers.csv`; `labels.csv` is written anew from them each time, so a crash
or a closed tab loses nothing, and opening again goes on where it stopped.
Axes: N images, H image height.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from ohlora_lib.io.disk import make_folder, sync
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

YES, NO, SKIP = "1", "0", "skip"
ANSWERS = (YES, NO, SKIP)
COLUMNS = ("img_no", "file", "property", "answer")


@dataclass(frozen=True)
class Question:
    """Does this image have this property?"""

    img_no: int
    prop: str


class LabelSession:
    """Where a person is in labelling, and what was answered.

    Args:
        images: uint8, shape (N, H, H, 3).
        properties: Questions about each image.
        folder: Gets `answers.csv` and `labels.csv`; what is there is gone on with.
        files: Names of the images, N; numbers if None.
        by_image: Ask all properties of an image before the next image; else all images first.

    Raises:
        ValueError: If answers in the folder are about other properties or images; one line.
    """

    def __init__(
        self,
        images: np.ndarray,
        properties: Sequence[str],
        folder: Path | str,
        *,
        files: Sequence[str] | None = None,
        by_image: bool = False,
    ) -> None:
        self.images, self.properties, self.folder = images, list(properties), Path(folder)
        self.files = list(files) if files is not None else [str(k) for k in range(len(images))]
        self._check()
        numbers = range(len(images))
        pairs = [(k, p) for k in numbers for p in properties]
        if not by_image:
            pairs = [(k, p) for p in properties for k in numbers]
        self.questions = [Question(*pair) for pair in pairs]
        self.answers: dict[Question, str] = {}
        make_folder(self.folder)
        self._read()
        if self.answers:  # a crash may have come between an answer and the table
            save_table(self.folder / "labels.csv", self.table())
        self.place = self._next_open(0)

    def _check(self) -> None:
        odd = [p for p in self.properties if p in {"img_no", *FILE_COLUMNS} or not p.strip()]
        if odd or not self.properties or len(set(self.properties)) < len(self.properties):
            raise ValueError(
                f"properties are {self.properties}; give at least one, each once, none of "
                f"them called {' or '.join(['img_no', *FILE_COLUMNS])}"
            )
        if len(self.files) != len(self.images) or len(set(self.files)) < len(self.files):
            raise ValueError(
                f"{len(set(self.files))} different names for {len(self.images)} images; each "
                f"needs its own"
            )

    @property
    def question(self) -> Question | None:
        """What is asked now; None when everything is answered."""
        return self.questions[self.place] if self.place < len(self.questions) else None

    @property
    def image(self) -> np.ndarray | None:
        """The image that is asked about, uint8 (H, H, 3)."""
        return None if self.question is None else self.images[self.question.img_no]

    def answer(self, answer: str) -> None:
        """Writes an answer to the disk, then goes on to the next open question.

        Raises:
            ValueError: If it is no answer, or there is no question left.
        """
        if answer not in ANSWERS:
            raise ValueError(f"answer is {answer!r}; it must be one of {list(ANSWERS)}")
        if self.question is None:
            raise ValueError("everything is answered; go back to change an answer")
        self._append(self.question, answer)
        self.place = self._next_open(self.place + 1)

    def back(self) -> None:
        """Returns to the question before, answered or not, to answer it again."""
        self.place = max(self.place - 1, 0)

    def progress(self) -> str:
        """How far, and how the answers to the present property are balanced."""
        done = len(self.answers)
        prop = self.question.prop if self.question else self.properties[-1]
        mine = [answer for question, answer in self.answers.items() if question.prop == prop]
        yes, no, skip = (mine.count(answer) for answer in ANSWERS)
        balance = f"{prop}: {yes} yes, {no} no, {skip} skipped"
        return f"{done} of {len(self.questions)} answered. {balance}."

    def table(self) -> pd.DataFrame:
        """A row an image with an answer: img_no, file, 1 or 0 or nothing a property."""
        numbers = sorted({question.img_no for question in self.answers})
        table = pd.DataFrame({"img_no": numbers, "file": [self.files[k] for k in numbers]})
        for prop in self.properties:
            answers = [self.answers.get(Question(k, prop), SKIP) for k in numbers]
            values = [pd.NA if answer == SKIP else int(answer) for answer in answers]
            table[prop] = pd.array(values, dtype="Int64")
        return table

    def _next_open(self, place: int) -> int:
        while place < len(self.questions) and self.questions[place] in self.answers:
            place += 1
        return place

    def _append(self, question: Question, answer: str) -> None:
        path = self.folder / "answers.csv"
        with path.open("a+b") as file:
            end = _whole_lines(file)
            file.truncate(end)  # what an append that failed half-way left
            name = self.files[question.img_no]
            line = csv_line((question.img_no, name, question.prop, answer))
            file.write(((csv_line(COLUMNS) if not end else "") + line).encode())
            file.flush()
            sync(file.fileno())
        self.answers[question] = answer
        save_table(self.folder / "labels.csv", self.table())

    def _read(self) -> None:
        """Takes over earlier answers; a last line that a crash cut off is asked again."""
        path = self.folder / "answers.csv"
        if not path.exists():
            return
        with path.open("rb") as file:
            end = _whole_lines(file)
            file.seek(0)
            whole, rest = file.read(end), file.read()
        header = ",".join(COLUMNS)
        if not whole and not header.startswith(rest.decode(errors="replace")):
            raise ValueError(f"{path}: is no table of answers. Remove it, or label elsewhere.")
        known = set(self.questions)
        text = whole.decode("utf-8-sig", errors="replace")
        lines = list(csv.DictReader(io.StringIO(text, newline="")))
        named = list(dict.fromkeys(line.get("file") or "" for line in lines))
        found = find_names(named, self.files, any_folder=False)
        places = dict(zip(named, found, strict=True))
        for row, line in enumerate(lines):
            place = places[line.get("file") or ""]
            question = Question(-1 if place is None else place, line.get("property", ""))
            if question not in known or line.get("answer") not in ANSWERS:
                raise ValueError(
                    f"{path}: row {row} ({line}) is no answer to a question about these "
                    f"{len(self.images)} images and {self.properties}. Label into another "
                    f"variant, or remove the file."
                )
            self.answers[question] = line["answer"]


def _whole_lines(file: BinaryIO) -> int:
    """Where the last whole line of a file ends."""
    file.seek(0)
    return file.read().rfind(b"\n") + 1


@dataclass(frozen=True)
class Merged:
    """Label tables of several people as one, and where they disagree."""

    table: pd.DataFrame
    disagreements: pd.DataFrame  # image, property, a column of answers a person
    left_out: list[str]  # columns that are no labels


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
    frames = {name: table.set_index(key) for name, table in tables.items()}
    for name, frame in frames.items():
        if key != "img_no":
            places = find_names(list(frame.index), images, any_folder=False)
            pairs = zip(frame.index, places, strict=True)
            frame.index = [own if place is None else images[place] for own, place in pairs]
        if not frame.index.is_unique:
            twice = frame.index[frame.index.duplicated()][0]
            raise ValueError(
                f"{name}: {key} {plain(twice)!r} is there twice. Keep one row an image."
            )
        images = list(dict.fromkeys([*images, *frame.index]))
    found = {name: label_columns(table, name) for name, table in tables.items()}
    properties = list(dict.fromkeys(prop for columns in found.values() for prop in columns))
    for name, frame in frames.items():
        _check_labels(frame, name, [p for p in properties if p in frame and p not in found[name]])
    table, rows = pd.DataFrame({key: images}), []
    for prop in properties:
        answers = pd.DataFrame(
            {name: f[prop].reindex(images) for name, f in frames.items() if prop in f}
        )
        low, high = answers.min(axis=1), answers.max(axis=1)
        table[prop] = low.where(low == high).astype("Int64").array
        for image in answers.index[(low != high) & low.notna()]:
            rows.append({key: image, "property": prop, **answers.loc[image].to_dict()})
    columns = dict.fromkeys(name for frame in frames.values() for name in frame)
    left_out = [name for name in columns if name not in properties]
    disagreements = pd.DataFrame(rows, columns=[key, "property", *frames])
    return Merged(table, disagreements, left_out)


def _check_labels(frame: pd.DataFrame, source: str, suspects: Sequence[str]) -> None:
    """Ends if a column that holds labels in another table holds something else in this one."""
    for prop in suspects:
        cells = frame[prop].dropna()
        bad = cells[~numbers(cells).isin([0, 1])]
        if len(bad):
            raise ValueError(
                f"{source}: {prop} of {plain(bad.index[0])!r} is {plain(bad.iloc[0])!r}; it must "
                f"be 0, 1 or empty ({len(bad)} such rows). Correct them."
            )
