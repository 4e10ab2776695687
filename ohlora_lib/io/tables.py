"""Checks CSV files for ragged rows and duplicate columns, which pandas would accept."""

import csv
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ohlora_lib.io.disk import check_file, complaint


def read_header(path: Path, *, kind: str = "table") -> list[str]:
    """Returns the column names of a CSV after checking the whole file.

    ValueError if it is missing or unreadable, a name appears twice, or a row does not fit the
    header. Messages call the file a `kind`.
    """
    check_file(path, kind)
    with _readable(path), path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        header = next((row for row in reader if row), [])
        twice = [name for k, name in enumerate(header) if name in header[:k]]
        if twice:
            raise ValueError(f"{path}: column {twice[0]!r} appears twice. Remove one.")
        if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
            raise ValueError(f"{path}: its first line is one name, {header[0][:80]!r}. "
                             "Separate cells with commas.")  # fmt: skip
        for row in reader:
            if row and len(row) != len(header):
                raise ValueError(
                    f"{path}: line {reader.line_num} has {len(row)} fields, but the header has "
                    f"{len(header)}. Correct or remove that line (an empty cell keeps its comma); "
                    f"if it is the last, the file was truncated."
                )
    return header


def line_of(path: Path | str, row: int) -> int:
    """The line of a CSV file on which row `row` of its table ends; the first row is 0.

    A table without a file has one line for each row, after the header's.
    """
    if not Path(path).is_file():
        return row + 2
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        next(islice(filter(None, reader), row + 1, None))  # the first is the header
        return reader.line_num


def parse(path: Path, **options: Any) -> pd.DataFrame:
    """Parses a CSV that `read_header` has checked; ValueError if pandas cannot."""
    with _readable(path):
        return pd.read_csv(path, index_col=False, low_memory=False, **options)


def _readable(path: Path) -> AbstractContextManager[None]:
    errors = OSError, UnicodeDecodeError, csv.Error, pd.errors.ParserError, OverflowError
    remedy = "Save it as CSV, UTF-8, with commas."
    return complaint(path, "not a readable CSV table", remedy, errors)


def numbers(column: pd.Series) -> pd.Series:
    """Converts a column to numbers; text becomes NaN."""
    return pd.to_numeric(column, errors="coerce")


def check_scores(scores: pd.Series, source: str | Path) -> None:
    """Checks that scores are from 0 to 1; ignores missing and infinite ones.

    Otherwise raises ValueError with the first such line and how to convert the column.
    """
    finite = scores[np.isfinite(scores)]
    odd = finite[~finite.between(0, 1)]
    if odd.empty:
        return
    remedy = "Correct them."
    if finite.min() >= 0 and 10 < finite.max() <= 100:
        remedy = "Divide by 100."
    elif finite.min() < 0 and finite.max() > 1:
        remedy = "If they are logits, convert them by 1 / (1 + exp(-x))."
    line = line_of(source, odd.index[0])
    raise ValueError(
        f"{source}: line {line} has {scores.name} = {odd.iloc[0]:g}; scores must be from "
        f"0 to 1 (such rows: {len(odd)}). {remedy}"
    )


def strongest_pair(correlations: pd.DataFrame) -> tuple[str, str, float] | None:
    """Returns the two most correlated columns and their correlation; None if there is no pair."""
    upper = np.triu(np.ones(correlations.shape, dtype=bool), k=1)
    pairs = correlations.where(upper).stack().dropna()
    if pairs.empty:
        return None
    a, b = pairs.abs().idxmax()
    return a, b, float(pairs[a, b])
