"""Label tables: one row per image, one column per property, values 0 or 1."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ohlora_lib.io.disk import atomic_path
from ohlora_lib.io.pictures import FORMATS
from ohlora_lib.io.tables import check_scores, numbers, parse, read_header
from ohlora_lib.study.look import parse_condition

SAME_FOLDER = (0, 1, 3)  # the spellings of a name that keep its folder
FILE_COLUMNS = ("file", "img_path", "image_id", "image", "filename", "path")
EMPTY = ["", "NA", "N/A", "NaN", "nan", "None", "null", "<NA>"]  # cells that hold nothing


def read_table(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Reads a CSV that has these columns; names of files stay as they are written.

    ValueError if the file is missing, empty, unreadable, ragged or lacks a column.
    """
    header = read_header(path)
    if not header:
        raise ValueError(f"{path}: not a readable CSV table, it is empty. Check the path.")
    texts = {name: str for name in header if name in FILE_COLUMNS}
    empty = {name: EMPTY for name in header if name not in texts}
    table = parse(path, keep_default_na=False, dtype=texts, na_values=empty)
    if missing := [name for name in columns if name not in table.columns]:
        raise ValueError(
            f"{path}: column {missing[0]!r} is missing; the table has {list(table.columns)}. "
            f"Rename a column, or leave the property out."
        )
    return table


def check_cells(column: pd.Series, good: pd.Series, source: str | Path, rule: str) -> None:
    """Raises a ValueError that names the row and value of the first cell that breaks a rule."""
    if len(bad := column[~good]):
        raise ValueError(
            f"{source}: row {bad.index[0]} has {bad.name} = {bad.tolist()[0]!r}; {rule} "
            f"({len(bad)} such rows). Correct them or drop the rows."
        )


def save_table(path: Path | str, table: pd.DataFrame, *, index: bool = False) -> None:
    """Writes a table as CSV, whole or not at all."""
    words = table.select_dtypes(exclude="number").astype(str)
    returns = any(words[name].str.contains("\r", regex=False).any() for name in words)
    # Before Python 3.11.9 a carriage return alone did not quote its cell.
    quoting = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
    with atomic_path(path) as temporary:  # straight to the disk: tables can be long
        table.to_csv(temporary, index=index, lineterminator="\n", quoting=quoting)


def split_halves(count: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint halves of the row numbers, each sorted: for the selector, for the judge."""
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[: count // 2]), np.sort(order[count // 2 :])


def as_numbers(column: pd.Series, source: str | Path) -> pd.Series:
    """A column as finite numbers; empty cells stay empty, anything else is a ValueError."""
    values = numbers(column)
    good = column.isna() | np.isfinite(values)
    check_cells(column, good, source, "it must be a finite number or empty")
    return values


def label_columns(table: pd.DataFrame, source: str = "", *, strict: bool = True) -> list[str]:
    """Columns that hold nothing but 0, 1 and empty cells, and not only empty ones.

    ValueError if `strict`, and most cells of a column are 0 or 1 but not all.
    """
    found = []
    for name in table.columns.drop(["img_no", *FILE_COLUMNS], errors="ignore"):
        cells = table[name].dropna()
        good = numbers(cells).isin([0, 1])
        if strict and good.mean() > 0.5:
            check_cells(cells, good, source, "the column's other cells are 0, 1 or empty")
        if len(cells) and good.all():
            found.append(name)
    return found


def with_properties(
    table: pd.DataFrame, rules: Mapping[str, str], source: str
) -> tuple[pd.DataFrame, list[str]]:
    """Puts labels by rule, such as `{"age": "Young<=0"}`, in front of a table.

    A label is 1 where the rule holds, 0 where it does not, and missing where its column is empty.
    ValueError, which begins with the source, if a rule's column or a label is not what it must be.

    Returns:
        The table without `img_no`, and which columns are labels.
    """
    made = {}
    for prop, text in rules.items():
        condition = parse_condition(text)
        if condition.prop not in table:
            raise ValueError(
                f"{source}: column {condition.prop!r}, which label {prop!r} needs, is missing; "
                f"the table has {list(table.columns)}. Correct `label_rules`."
            )
        values = as_numbers(table[condition.prop], source)
        if condition.prop.endswith("_score") and 0 < condition.threshold < 1:
            check_scores(values, source)
        made[prop] = condition.holds(values).astype("Int64").mask(values.isna())
    rest = table.drop(columns=["img_no", *made], errors="ignore")
    table = pd.concat([pd.DataFrame(made, index=table.index), rest], axis=1)
    found = label_columns(table, source, strict=not rules)
    chosen = [name for name in found if not rules or table[name].notna().all()]
    if not (properties := list(dict.fromkeys([*made, *chosen]))):
        raise ValueError(
            f"{source}: no column holds labels (0 and 1); it has {list(table.columns)}. "
            f"Say in `label_rules` how to make them, for example {{gender: gender_score>=0.5}}."
        )
    return table, properties


def match_rows(table: pd.DataFrame, names: Sequence[str], source: str) -> pd.Series:
    """Which file each row of a table is about.

    A column of file names decides if there is one (`find_names`). Else `img_no` decides: the
    number at the end of a file's name, or the file's place if no name has a number.
    ValueError, which begins with the source, if rows leave that open, or no file is meant.

    Returns:
        Place in `names`, Int64, by the table's index; missing where there is no such file.
    """
    column = next((name for name in (*FILE_COLUMNS, "img_no") if name in table), None)
    if column is None:
        raise ValueError(
            f"{source}: has no column that says which image a row is about; it has "
            f"{list(table.columns)}. Add `file` (a name) or `img_no` (a number)."
        )
    keys = table[column]
    if column == "img_no":
        found = list(map(_numbered(names, source).get, keys))
    else:
        keys = keys.astype(str)
        check_cells(keys, keys.str.strip() != "", source, "it must name an image")
        found = find_names(keys.tolist(), names)
    rows = pd.Series(found, index=table.index, dtype="Int64")
    once = rows.isna() | ~rows.duplicated()
    check_cells(keys, once, source, "that image is there more than once")
    if rows.isna().all():
        raise ValueError(
            f"{source}: none of its {len(rows)} rows is about an image in the folder; {column} "
            f"begins with {keys.tolist()[:1]}, the files with {list(names[:1])}. Correct either."
        )
    return rows


def _numbered(names: Sequence[str], source: str) -> dict[int, int]:
    """Place of each file by the number that `img_no` means it by."""
    numbers = {name: re.search(r"(\d+)\D*$", Path(name).stem) for name in names}
    if not any(numbers.values()):
        return {place: place for place in range(len(names))}
    found = {int(numbers[name][1]): place for place, name in enumerate(names) if numbers[name]}
    if len(found) < len(names):
        unclear = next(name for place, name in enumerate(names) if place not in found.values())
        raise ValueError(
            f"{source}: numbers its images (`img_no`), but not all files have a number of their "
            f"own in their names, {unclear} for one. Add a column `file` with their names."
        )
    return found


def find_names(
    keys: Sequence[str], names: Sequence[str], *, any_folder: bool = True
) -> list[int | None]:
    """Place of each key among names of files, however accents and suffixes are written.

    Names are compared as they stand, then in composed letters (macOS writes é as two code points),
    then by their last part, and at last without the suffix of a picture (CelebA's list says .jpg,
    its other edition has .png). A spelling counts only where it means one key and one name, and
    that name is not found yet. Folders may differ only where `any_folder` says so.
    """
    distinct = list(dict.fromkeys(keys))
    spelt = (zip(*map(_spellings, part), strict=True) for part in (distinct, names))
    found: dict[str, int] = {}
    for way, (ours, theirs) in enumerate(zip(*spelt, strict=False)):
        if any_folder or way in SAME_FOLDER:
            places, taken = _once(theirs), set(found.values())
            for text, k in _once(ours).items():
                if places.get(text, -1) not in {-1, *taken}:
                    found.setdefault(distinct[k], places[text])
    return [found.get(key) for key in keys]


def _spellings(name: str) -> tuple[str, ...]:
    """A name; in composed letters; its last part; without a picture's suffix; the part of that."""
    text = unicodedata.normalize("NFC", name)
    stem, dot, suffix = text.rpartition(".")
    bare = stem if stem and f"{dot}{suffix.lower()}" in FORMATS else text
    return name, text, text.rpartition("/")[2], bare, bare.rpartition("/")[2]


def _once(texts: Sequence[str]) -> dict[str, int]:
    """Place of each text that is there once."""
    often = Counter(texts)
    return {text: place for place, text in enumerate(texts) if often[text] == 1}
