"""The record of a labelling session: every answer is on disk before the next question.

`answers.csv` is the record; `labels.csv`, which other stages read, is derived from it.
`questions.csv` holds the pages that were planned, so that a session resumes on the same page.
Axes: N candidates, H image height.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from ohlora_lib.population.labels import (
    FILE_COLUMNS,
    as_numbers,
    check_cells,
    find_names,
    read_table,
    save_table,
)

LABELS = {"1": 1, "0": 0, "skip": None}  # answer: label
NEEDED = ["img_no", "file", "property", "answer"]  # all that older records have
FACTS = {"source": "random", "how": "key", "round": 0, "sec": np.nan, "digest": ""}  # if missing
TEXTS = ["property", "answer", "source", "how", "digest"]  # "01" is not 1, "None" not missing
FIELDS, ROUNDING = 4, 3  # per side of a digest; gray levels by which one may differ elsewhere
HOWS = ["key", "grid", "check"]
PLAN = ["file", "property", "source", "how", "round", "page", "score"]


class Question(NamedTuple):
    """Asks whether an image has a property; a check asks again, after a page was confirmed."""

    img_no: int
    prop: str
    check: bool = False


class Answer(NamedTuple):
    """An answer, a key of `LABELS`, and how it was given."""

    answer: str
    how: str  # key, grid (a page confirmed) or check
    round: int
    sec: float  # time it took; a page's time is divided among its images


class Page(NamedTuple):
    """Questions asked together: one by key, or a page of one property."""

    questions: tuple[Question, ...]
    how: str = "key"
    round: int = 0
    scores: tuple[float, ...] = ()  # predicted probability of a 1, per question


class Record:
    """All answers of a session.

    Args:
        images: Candidates, uint8, shape (N, H, H, 3).
        properties: Properties to ask about.
        folder: Receives the three tables; existing ones are read.
        files: File names of the N candidates. Answers belong to files, so candidates may be added.

    Raises:
        ValueError: If a table is malformed, names other images or properties, or an answered
            image has other pixels now.
    """

    def __init__(
        self, images: np.ndarray, properties: Sequence[str], folder: Path, files: Sequence[str]
    ) -> None:
        own = ["img_no", *FILE_COLUMNS, "source", "how", "round"]
        own += [weight for name in properties if (weight := f"{name}_weight") in properties]
        if len({name.strip() for name in properties} - {*own, ""}) < len(properties):
            raise ValueError(
                f"properties are {properties}; each name must be unique, not empty and not "
                f"{' or '.join(own)}"
            )
        self.images, self.properties, self.folder, self.files = images, properties, folder, files
        self.random: dict[int, None] = {}  # images drawn at random, in the order they were drawn
        self.given: dict[Question, Answer] = {}
        self._digests: dict[int, str] = {}
        self._written = _version(folder / "answers.csv")
        if (path := folder / "answers.csv").exists():
            self._read(path)

    @cached_property
    def answers(self) -> dict[Question, str]:
        """The answer that counts, per question: that of a check, if there was one."""
        checks_last = sorted(self.given.items(), key=lambda pair: pair[0].check)  # stable
        return {Question(q.img_no, q.prop): given.answer for q, given in checks_last}

    def checks(self) -> tuple[int, int]:
        """How many answers were checked by key, and how many of those differed."""
        pages = ((self.given.get(Question(*q[:2])), a) for q, a in self.given.items() if q.check)
        pairs = [(page.answer, key.answer) for page, key in pages if page]
        return len(pairs), sum(page != key for page, key in pairs)

    def add(self, given: Mapping[Question, Answer]) -> None:
        """Writes answers to disk, then takes them over; they replace earlier ones.

        OSError if they cannot be written, or someone else has changed the record.
        """
        wanted, path = {**self.given, **given}, self.folder / "answers.csv"
        if _version(path) != self._written:
            raise OSError(
                f"{path} was changed by another notebook or program. Run the cell again to go on "
                f"from what it holds now."
            )
        save_table(path, self.lines(wanted))
        self.given, self._written = wanted, _version(path)
        self.__dict__.pop("answers", None)

    def lines(self, given: Mapping[Question, Answer] | None = None) -> pd.DataFrame:
        """The rows of `answers.csv`, for all answers or for `given`."""
        rows = [
            (q.img_no, self.files[q.img_no], q.prop, a.answer, self.source(q.img_no), a.how,
             a.round, a.sec, self._digest(q.img_no))
            for q, a in (self.given if given is None else given).items()
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=[*NEEDED, *FACTS])

    def source(self, img_no: int) -> str:
        """How an image was sampled: `random` or `chosen`."""
        return "random" if img_no in self.random else "chosen"

    def table(self, weights: Mapping[str, pd.Series]) -> pd.DataFrame:
        """One row per image with an answer.

        Columns are img_no, file, the properties (1, 0 or NA), source, how (grid if any of its
        answers was confirmed on a page), round (of its first answer), and PROPERTY_weight for
        the properties in `weights`, which are indexed by `img_no`.
        """
        facts = pd.DataFrame(
            [(q.img_no, a.how, a.round) for q, a in self.given.items()],
            columns=["img_no", "how", "round"],
        )
        by_image, answers = facts.groupby("img_no"), self.answers
        shown = sorted(by_image.groups)
        table = pd.DataFrame({"img_no": shown, "file": [self.files[k] for k in shown]})
        for prop in self.properties:
            labels = [LABELS[answers.get(Question(k, prop), "skip")] for k in shown]
            table[prop] = pd.array(labels, dtype="Int64")
        on_page = facts["img_no"][facts["how"] == "grid"]
        table["source"] = [self.source(k) for k in shown]
        table["how"] = np.where(table["img_no"].isin(on_page), "grid", "key")
        table["round"] = by_image["round"].min().to_numpy()
        for prop, column in weights.items():
            table[f"{prop}_weight"] = table["img_no"].map(column)
        return table

    def save_pages(self, pages: Sequence[Page]) -> None:
        """Writes the pages planned so far."""
        rows = [
            (self.files[q.img_no], q.prop, self.source(q.img_no), page.how, page.round, k, score)
            for k, page in enumerate(pages)
            for q, score in zip(page.questions, page.scores, strict=True)
        ]
        save_table(self.folder / "questions.csv", pd.DataFrame(rows, columns=PLAN))

    def load_pages(self) -> list[Page]:
        """Reads the pages planned in earlier sessions."""
        if not (path := self.folder / "questions.csv").exists():
            return []
        lines = read_table(path, PLAN, texts=TEXTS)
        lines["img_no"] = find_names(lines["file"].tolist(), self.files, any_folder=False)
        self._check(path, lines)
        self.random |= dict.fromkeys(lines.loc[lines["source"] == "random", "img_no"].astype(int))
        pages: dict[int, list] = {}
        for line in lines.itertuples():
            pages.setdefault(line.page, []).append(line)
        return [
            Page(
                tuple(Question(int(x.img_no), x.property, x.how == "check") for x in asked),
                asked[0].how,
                int(asked[0].round),
                tuple(x.score for x in asked),
            )
            for asked in pages.values()
        ]

    def _read(self, path: Path) -> None:
        """Reads the record; older records lack the columns of `FACTS`."""
        lines = read_table(path, NEEDED, texts=TEXTS)
        for name, value in FACTS.items():
            cells = lines.get(name, pd.Series("", lines.index)).replace("", np.nan)
            cells = cells if name in TEXTS else as_numbers(cells, path)
            lines[name] = cells.fillna(value)
        lines["img_no"] = find_names(lines["file"].tolist(), self.files, any_folder=False)
        self._check(path, lines, answers=True)
        for x in lines.itertuples():
            question = Question(int(x.img_no), x.property, x.how == "check")
            self.given[question] = Answer(x.answer, x.how, int(x.round), float(x.sec))
            if x.source == "random":
                self.random[question.img_no] = None

    def _check(self, path: Path, lines: pd.DataFrame, *, answers: bool = False) -> None:
        known = lines["img_no"].notna() & lines["property"].isin(list(self.properties))
        if not known.all():
            first = lines.loc[~known, ["file", "property"]].iloc[0].tolist()
            raise ValueError(
                f"{path}: has answers about images or properties other than these "
                f"{len(self.images)} images and {self.properties}, the first about {first}. Use "
                f"another variant, or remove the file."
            )
        check_cells(lines["how"], lines["how"].isin(HOWS), path, f"it must be one of {HOWS}")
        if answers:
            good = lines["answer"].isin(list(LABELS))
            check_cells(lines["answer"], good, path, f"it must be one of {list(LABELS)}")
            good = lines["digest"].str.fullmatch(rf"(x[0-9a-f]{{{2 * FIELDS**2}}})?")
            check_cells(lines["digest"], good, path, "it must be as written, or empty")
            for k, digest in set(zip(lines["img_no"], lines["digest"], strict=True)):
                both = [_levels(text) for text in (digest, self._digest(int(k))) if digest]
                if both and np.ptp(both, axis=0).max() > ROUNDING:
                    raise ValueError(
                        f"{path}: image {self.files[int(k)]} has other pixels than when it was "
                        f"labelled. Restore it, or label the new images in another variant."
                    )

    def _digest(self, img_no: int) -> str:
        """Brightness of an image in fields; the letter in front keeps CSV readers from a number.

        Another machine draws the same sample, but for rounding.
        """
        if img_no not in self._digests:
            gray = Image.fromarray(self.images[img_no]).convert("L")
            small = gray.resize((FIELDS, FIELDS), Image.Resampling.BOX)
            self._digests[img_no] = f"x{small.tobytes().hex()}"
        return self._digests[img_no]


def _version(path: Path) -> tuple[int, int] | None:
    """Tells one state of a file from others: it is replaced when it is written."""
    return (path.stat().st_ino, path.stat().st_size) if path.exists() else None


def _levels(digest: str) -> list[int]:
    """The gray levels of a digest, 0 to 255."""
    return list(bytes.fromhex(digest[1:]))
