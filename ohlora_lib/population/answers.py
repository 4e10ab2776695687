"""The record of a labelling session: every answer is on disk before the next question.

`answers.csv` is the record; `labels.csv`, which other stages read, is derived from it.
`questions.csv` holds the pages that were planned, so that a session resumes on the same page.
In memory, both are one table (`questions`), in which answers are filled in.
Axes: N candidates, H image height.
"""

from collections.abc import Sequence
from pathlib import Path

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

LABELS = {"1": 1, "0": 0, "skip": np.nan}  # answer: label
CHOICES = {"answer": list(LABELS), "how": ["key", "grid", "check"]}
TEXTS = ["property", "answer", "source", "how", "digest"]  # "01" is not 1, "None" not missing
ANSWERS = ["img_no", "file", "property", "answer", "source", "how", "round", "sec", "digest"]
PLAN = ["file", "property", "source", "how", "round", "page", "score"]
KINDS = {"img_no": int, "property": str, "answer": str, "how": str, "round": int}
KINDS |= {"page": float, "score": float, "sec": float}
PAIR = ["img_no", "property"]
FIELDS, ROUNDING = 4, 3  # per side of a digest; gray levels by which one may differ elsewhere


def questions(pairs: Sequence[tuple[int, str]] | pd.DataFrame, **facts: object) -> pd.DataFrame:
    """A table of questions, one row per pair of an image and a property.

    Columns, of which `facts` gives some: img_no, property, answer ("" while open), how (key, grid
    or check), round, page, score (predicted probability of a 1; NaN if asked by key), sec (time
    that the answer took), and check, whether it asks again after a page was confirmed.
    """
    plain = {"answer": "", "how": "key", "round": 0, "page": np.nan, "score": np.nan}
    table = pd.DataFrame(pairs, columns=PAIR).assign(**plain | {"sec": np.nan} | facts)
    return table.fillna({"round": 0}).astype(KINDS).assign(check=table["how"] == "check")


class Record:
    """All questions and answers of a session.

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
        self.properties, self.folder, self.files = properties, folder, files
        self.random: dict[int, None] = {}  # images drawn at random, in the order they were drawn
        self._digests = [_digest(pixels) for pixels in images]
        self._written = _version(folder / "answers.csv")
        self.questions = self._read("answers.csv", ANSWERS)

    @property
    def given(self) -> pd.DataFrame:
        """The questions with an answer."""
        return self.questions[self.questions["answer"] != ""]

    @property
    def answers(self) -> pd.DataFrame:
        """The answers that count, one per image and property: that of a check, if any."""
        checks_last = self.given.sort_values("check", kind="stable")
        return checks_last.drop_duplicates(PAIR, keep="last")

    def checks(self) -> tuple[int, int]:
        """How many answers were checked by key, and how many of those differed."""
        given = self.given
        both = given[~given["check"]].merge(given[given["check"]], on=PAIR)
        return len(both), int((both["answer_x"] != both["answer_y"]).sum())

    def answer(self, rows: pd.Index, answers: Sequence[str], how: str, sec: float) -> None:
        """Writes answers to disk, then takes them over; they replace earlier ones.

        OSError if they cannot be written, or someone else has changed the record.
        """
        wanted, path = self.questions.copy(), self.folder / "answers.csv"
        wanted.loc[rows, "answer"] = list(answers)
        wanted.loc[rows, "how"] = how
        wanted.loc[rows, "sec"] = sec
        if _version(path) != self._written:
            raise OSError(
                f"{path} was changed by another notebook or program. Run the cell again to go on "
                f"from what it holds now."
            )
        save_table(path, self.lines(wanted))
        self.questions, self._written = wanted, _version(path)

    def lines(self, questions: pd.DataFrame | None = None) -> pd.DataFrame:
        """The rows of `answers.csv`, for all questions or for those given."""
        table = self.questions if questions is None else questions
        table = self._named(table[table["answer"] != ""])
        return table.assign(digest=[self._digests[k] for k in table["img_no"]])[ANSWERS]

    def table(self) -> pd.DataFrame:
        """One row per image with an answer.

        Columns are img_no, file, the properties (1, 0 or NA), source, how (grid if any of its
        answers was confirmed on a page) and round (of its first answer).
        """
        given, answers = self.given, self.answers
        labels = answers.assign(label=answers["answer"].map(LABELS).astype("Int64"))
        labels = labels.pivot(index="img_no", columns="property", values="label")
        labels = labels.reindex(columns=self.properties).astype("Int64").reset_index()
        table = self._named(labels)[["img_no", "file", *self.properties, "source"]]
        on_page = table["img_no"].isin(given.loc[given["how"] == "grid", "img_no"])
        rounds = table["img_no"].map(given.groupby("img_no")["round"].min())
        table = table.assign(how=np.where(on_page, "grid", "key"), round=rounds)
        return table.rename_axis(columns=None)

    def plan(self, pages: pd.DataFrame) -> None:
        """Writes the pages planned so far and these new ones, then takes them over."""
        wanted = self._joined(pages)
        planned = wanted[wanted["page"].notna()].astype({"page": int})
        save_table(self.folder / "questions.csv", self._named(planned)[PLAN])
        self.questions = wanted

    def resume(self, pages: pd.DataFrame | None = None) -> None:
        """Takes over pages, by default those planned in earlier sessions; writes nothing."""
        self.questions = self._joined(
            self._read("questions.csv", PLAN) if pages is None else pages
        )

    def _joined(self, pages: pd.DataFrame) -> pd.DataFrame:
        """All questions; those that are already known keep their answers."""
        together = pd.concat([self.questions, pages])
        return together.groupby([*PAIR, "check"], sort=False, as_index=False).first()

    def _named(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table with the names of its images, and how they were sampled."""
        numbers = table["img_no"]
        source = np.where(numbers.isin(list(self.random)), "random", "chosen")
        return table.assign(file=[self.files[k] for k in numbers], source=source)

    def _read(self, name: str, columns: Sequence[str]) -> pd.DataFrame:
        """Reads and checks a table, and which images were drawn at random."""
        if not (path := self.folder / name).exists():
            return questions([])
        lines = read_table(path, columns, texts=TEXTS)
        lines["img_no"] = find_names(lines["file"].tolist(), self.files, any_folder=False)
        known = lines["img_no"].notna() & lines["property"].isin(list(self.properties))
        if not known.all():
            first = lines.loc[~known, ["file", "property"]].iloc[0].tolist()
            raise ValueError(
                f"{path}: has answers about images or properties other than these "
                f"{len(self.files)} images and {self.properties}, the first about {first}. Use "
                f"another variant, or remove the file."
            )
        facts = {}
        for column in columns:
            if column in CHOICES:
                good = lines[column].isin(CHOICES[column])
                check_cells(lines[column], good, path, f"it must be one of {CHOICES[column]}")
            if column in KINDS:
                cells = lines[column]
                facts[column] = cells if column in TEXTS else as_numbers(cells, path)
        if "digest" in columns:
            self._check_pixels(path, lines)
        drawn = lines.loc[lines["source"] == "random", "img_no"]
        self.random |= dict.fromkeys(drawn.astype(int))
        return questions(lines[PAIR], **facts)

    def _check_pixels(self, path: Path, lines: pd.DataFrame) -> None:
        """Raises ValueError if an image has changed since it was labelled."""
        good = lines["digest"].str.fullmatch(rf"x[0-9a-f]{{{2 * FIELDS**2}}}")
        check_cells(lines["digest"], good, path, "it must be as written")
        for k, digest in set(zip(lines["img_no"], lines["digest"], strict=True)):
            both = [list(bytes.fromhex(text[1:])) for text in (digest, self._digests[int(k)])]
            if np.ptp(both, axis=0).max() > ROUNDING:
                raise ValueError(
                    f"{path}: image {self.files[int(k)]} has other pixels than when it was "
                    f"labelled. Restore it, or label the new images in another variant."
                )


def _digest(pixels: np.ndarray) -> str:
    """Brightness of an image in fields; the letter in front keeps CSV readers from a number.

    Another machine draws the same sample, but for rounding.
    """
    gray = Image.fromarray(pixels).convert("L")
    return f"x{gray.resize((FIELDS, FIELDS), Image.Resampling.BOX).tobytes().hex()}"


def _version(path: Path) -> tuple[int, int] | None:
    """Tells one state of a file from others: it is replaced when it is written."""
    return (path.stat().st_ino, path.stat().st_size) if path.exists() else None
