"""Checks CSV files before pandas reads them, which forgives cut lines, double columns and NULs."""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

MOST_BYTES = 2**31  # ten million rows of two hundred letters
MOST_COLUMNS = 10_000
UNREADABLE = (OSError, UnicodeDecodeError, csv.Error)
UNPARSED = (
    *(pd.errors.ParserError, pd.errors.EmptyDataError, pd.errors.ParserWarning, OverflowError),
)
REMEDY = "Save it as CSV, UTF-8, with commas."


def check_file(path: Path, kind: str) -> None:
    """Refuses what is no file of a size that fits, before it is opened.

    Raises:
        ValueError: Names the path and what is there.
    """
    try:
        there, plain = path.exists(), path.is_file()
        size = path.stat().st_size if plain else 0
    except OSError as error:  # a name too long, a folder without the right to look into
        shown = str(path)[:80]
        raise ValueError(f"{shown}: {error.strerror.lower()}. Check the path.") from error
    if not there:
        raise ValueError(f"{path}: no such {kind}. Check the path.")
    if not plain:
        what = "a folder" if path.is_dir() else "no file on a disk"
        raise ValueError(f"{path}: is {what}, not a {kind}. Check the path; give a file.")
    if size > MOST_BYTES:
        raise ValueError(f"{path}: has {size:,} bytes; a {kind} has at most {MOST_BYTES:,}.")


def read_header(path: Path, *, kind: str = "table", short_rows: bool = True) -> list[str]:
    """The names in the first line of a CSV, once the whole file has been looked through.

    Args:
        path: The file.
        kind: What it should be, for messages.
        short_rows: Whether rows may end early; their last cells are empty then.

    Raises:
        ValueError: If it is no file, a name is there twice, or a row does not fit the first.
        OSError, UnicodeDecodeError, csv.Error: If it cannot be read.
    """
    check_file(path, kind)
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(_without_nul(file, path))
        header = next((row for row in reader if row), [])
        _check_names(header, path)
        for row in reader:
            if len(row) > len(header) or (row and len(row) < len(header) and not short_rows):
                raise ValueError(_ragged(path, reader.line_num, len(row), len(header)))
    return header


def _without_nul(lines: Iterable[str], path: Path) -> Iterator[str]:
    """The lines of a file; a NUL ends them."""
    for line in lines:
        if "\0" in line:
            raise ValueError(f"{path}: not a CSV text, it holds NUL bytes. {REMEDY}")
        yield line


def _check_names(header: list[str], path: Path) -> None:
    twice = next((name for k, name in enumerate(header) if name in header[:k]), None)
    if len(header) > MOST_COLUMNS:
        raise ValueError(
            f"{path}: names {len(header):,} columns; a table has at most {MOST_COLUMNS:,}."
        )
    if twice is not None:
        raise ValueError(f"{path}: column {twice!r} is there twice. Rename one, or take it away.")
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise ValueError(
            f"{path}: its first line is one name, {header[0][:80]!r}. Separate cells by commas."
        )


def _ragged(path: Path, line: int, fields: int, names: int) -> str:
    if fields > names:
        return (
            f"{path}: line {line} has {fields} fields, the first line names {names}. "
            f"Name every column, or take away what is too much."
        )
    return (
        f"{path}: line {line} has {fields} of {names} fields, the file is cut off or damaged; "
        f"delete that line or copy it again"
    )


def parse(path: Path, header: list[str], **options: Any) -> pd.DataFrame:
    """The table of a CSV whose header has been read; pandas must see the same one.

    Raises:
        ValueError: If pandas cannot read it, or reads something else.
    """
    try:
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
            table = pd.read_csv(path, index_col=False, low_memory=False, **options)
    except (*UNREADABLE, *UNPARSED) as error:
        raise ValueError(f"{path}: not a readable CSV table ({reason_of(error)})") from error
    names = [name or f"Unnamed: {k}" for k, name in enumerate(header)]
    if list(table.columns) != names:
        raise ValueError(
            f"{path}: not a readable CSV table, its first line can be read in two ways. {REMEDY}"
        )
    return table


def numbers(column: pd.Series) -> pd.Series:
    """A column as numbers; what is none is missing, what is too large is infinite."""
    try:
        return pd.to_numeric(column, errors="coerce")
    except OverflowError:  # a whole number of hundreds of digits
        return column.map(_number).astype(float)


def check_scores(scores: pd.Series, source: str | Path) -> None:
    """Checks that scores are from 0 to 1; missing ones and infinite ones are others' to judge.

    Args:
        scores: Numbers; the name is the column's.
        source: Begins error messages.

    Raises:
        ValueError: If one is not; names its row, and says what the column seems to hold.
    """
    finite = scores[np.isfinite(scores)]
    odd = finite[~finite.between(0, 1)]
    if odd.empty:
        return
    remedy = "Correct them."
    if finite.min() >= 0 and 10 < finite.max() <= 100:
        remedy = "Divide by 100."
    elif finite.min() < 0 and finite.max() > 1:
        remedy = "If they are logits, give 1 / (1 + exp(-x))."
    raise ValueError(
        f"{source}: row {odd.index[0]} has {scores.name} = {odd.iloc[0]:g}; scores are from 0 to "
        f"1 ({len(odd)} such rows). {remedy}"
    )


def _number(cell: Any) -> float:
    try:
        return float(str(cell))
    except ValueError:
        return math.nan


def reason_of(error: Exception) -> str:
    """What is wrong with a CSV, and what to do, in few words."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is no UTF-8. {REMEDY}"
    return " ".join(str(getattr(error, "strerror", None) or error).split())
