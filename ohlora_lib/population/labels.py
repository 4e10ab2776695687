"""Label tables: a row an image, a column a property, values 0 or 1."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ohlora_lib.io.disk import atomic_path, check_file
from ohlora_lib.io.pictures import FORMATS
from ohlora_lib.io.tables import check_scores, numbers, parse, read_header
from ohlora_lib.study.look import parse_condition

FILE_COLUMNS = ("file", "img_path", "image_id", "image", "filename", "path")
EMPTY = ["", "NA", "N/A", "NaN", "nan", "None", "null", "<NA>"]  # cells that hold nothing


def read_table(path: Path | str, columns: Sequence[str]) -> pd.DataFrame:
    """Reads a CSV and checks that it has the columns; names of files stay as they are written.

    Raises:
        ValueError: If the file is missing, empty, unreadable, ragged or lacks a column.
    """
    path = Path(path)
    header = read_header(path)
    if not header:
        raise ValueError(f"{path}: not a readable CSV table, it is empty. Check the path.")
    named = [name for name in header if name in FILE_COLUMNS]
    empty = {name: EMPTY for name in header if name not in named}
    options = {"dtype": dict.fromkeys(named, str), "na_values": empty}
    table = parse(path, keep_default_na=False, **options)
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ValueError(
            f"{path}: column {missing[0]!r} is missing; the table has {list(table.columns)}. "
            f"Rename a column, or leave the property out."
        )
    return table


def read_labels(path: Path | str, properties: Sequence[str]) -> pd.DataFrame:
    """Reads a population's label table and checks that every label is 0 or 1.

    Raises:
        ValueError: As `read_table`, or naming the row and value of the first bad label.
    """
    table = read_table(path, ["img_no", *properties])
    if table.empty:
        raise ValueError(
            f"{path}: holds no labels yet. Make them with notebooks/label_images.ipynb, and give "
            f"its table to 01_make_population as `labels_csv`."
        )
    for name in properties:
        values = numbers(table[name])  # one word makes the column text
        bad = table.index[~values.isin([0, 1])]
        if len(bad):
            raise ValueError(
                f"{path}: row {bad[0]} has {name} = {plain(table[name][bad[0]])!r}; must be 0 or "
                f"1 ({len(bad)} such rows). Correct them or drop the rows."
            )
    return table.astype({name: "int64" for name in properties})


def plain(value: Any) -> Any:
    """A cell as people write it: 2, not np.int64(2)."""
    return value.item() if isinstance(value, np.generic) else value


def save_table(path: Path | str, table: pd.DataFrame, *, index: bool = False) -> None:
    """Writes a table as CSV, whole or not at all."""
    words = (column for _, column in table.select_dtypes(exclude="number").items())
    quoting = _quoting(chain(table.columns, *words))
    options = {"lineterminator": "\n", "encoding": "utf-8", "quoting": quoting}
    with atomic_path(path) as temporary:  # straight to the disk: tables can be long
        table.to_csv(temporary, index=index, **options)


def csv_line(cells: Sequence[Any]) -> str:
    """One line of a CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=_quoting(cells)).writerow(cells)
    return text.getvalue()


def _quoting(cells: Iterable[Any]) -> int:
    """How to quote; before Python 3.11.9 a carriage return alone did not quote its cell."""
    return csv.QUOTE_NONNUMERIC if any("\r" in str(cell) for cell in cells) else csv.QUOTE_MINIMAL


def split_halves(count: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint halves of the row numbers, each sorted: for the selector, for the judge."""
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[: count // 2]), np.sort(order[count // 2 :])


CELEBA_LABELS = {  # its attributes are 1 and -1, and half of them point the other way
    "gender": "Male<=0",
    "quality": "Blurry<=0",
    "age": "Young<=0",
    "glass": "Eyeglasses>=1",
}


def read_attributes(path: Path | str) -> pd.DataFrame:
    """Reads CelebA's attribute list, `.txt` as published or `.csv`: file, then the attributes.

    Raises:
        ValueError: If it is missing or has another form.
    """
    path = Path(path)
    if path.suffix == ".csv":
        table = read_table(path, [])
        named = next((name for name in FILE_COLUMNS if name in table), table.columns[0])
        return _whole(table.rename(columns={named: "file"}), path)
    check_file(path, "attribute list")
    try:
        strict = warnings.catch_warnings(action="error", category=pd.errors.ParserWarning)
        with path.open(encoding="utf-8-sig") as file, strict:  # a row too long would lose its end
            count, names = int(file.readline()), file.readline().split()
            options = {"sep": r"\s+", "dtype": {"file": str}, "index_col": False}
            table = pd.read_csv(file, names=["file", *names], **options)
    except (OSError, ValueError, OverflowError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path}: not CelebA's attribute list, a count, a line of names, a line an image "
            f"({reason}). Fetch it again."
        ) from error
    if len(table) != count:
        raise ValueError(
            f"{path}: says {count} images and lists {len(table)}; it seems cut off. Fetch it "
            f"again."
        )
    return _whole(table, path)


def _whole(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table, unless a row of it ends early."""
    short = table.index[table.isna().any(axis=1)]
    if len(short):
        raise ValueError(
            f"{path}: the row of {table['file'][short[0]]!r} has too few values ({len(short)} "
            f"such rows); the list is damaged. Fetch it again."
        )
    return table


def define_labels(table: pd.DataFrame, rules: Mapping[str, str], source: str) -> pd.DataFrame:
    """Labels by rule, for example `{"age": "Young<=0"}`: 1 where it holds, else 0.

    Args:
        table: A row an image.
        rules: Property: condition on a column of the table.
        source: Begins error messages.

    Returns:
        The table with a column a property, in front; no label where the value is missing.

    Raises:
        ValueError: If a column is missing, or holds something else than numbers; or is of scores,
            by its name and the rule, and they are not from 0 to 1.
    """
    columns = {}
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
        columns[prop] = condition.holds(values).astype("Int64").mask(values.isna())
    rest = table[[name for name in table.columns if name not in columns]]
    return pd.concat([pd.DataFrame(columns, index=table.index), rest], axis=1)


def as_numbers(column: pd.Series, source: str) -> pd.Series:
    """A column as numbers; empty cells stay empty.

    Raises:
        ValueError: If a cell is no number; names its row.
    """
    values = numbers(column)
    bad = column.index[(values.isna() & column.notna()) | values.isin([np.inf, -np.inf])]
    if len(bad):
        raise ValueError(
            f"{source}: row {bad[0]} has {column.name} = {plain(column[bad[0]])!r}; it must be a "
            f"finite number ({len(bad)} such rows). Correct them or leave the cells empty."
        )
    return values


def label_columns(table: pd.DataFrame, source: str, *, strict: bool = True) -> list[str]:
    """Columns that hold nothing but 0, 1 and empty cells, and not only empty ones.

    Raises:
        ValueError: If `strict`, and most cells of a column are 0 or 1 but not all; names one.
    """
    found = []
    for name in table.columns:
        if name in {"img_no", *FILE_COLUMNS}:
            continue
        cells = table[name].dropna()
        good = numbers(cells).isin([0, 1])
        if len(cells) and good.all():
            found.append(name)
        elif strict and good.mean() > 0.5:
            row = cells.index[~good][0]
            raise ValueError(
                f"{source}: row {row} has {name} = {plain(cells[row])!r}; the column's other "
                f"cells are 0 or 1 ({(~good).sum()} such rows). Correct them, leave them "
                f"empty, or make labels of the column by `label_rules`."
            )
    return found


def with_properties(
    table: pd.DataFrame, rules: Mapping[str, str], source: str
) -> tuple[pd.DataFrame, list[str]]:
    """The table with labels by rule in front, without `img_no`; and which columns are labels.

    Raises:
        ValueError: If none is, or a rule or a label is not right.
    """
    table = define_labels(table, rules, source).drop(columns="img_no", errors="ignore")
    found = label_columns(table, source, strict=not rules)
    whole = [name for name in found if table[name].notna().all()]
    properties = list(dict.fromkeys([*(rules or found), *whole]))
    if not properties:
        raise ValueError(
            f"{source}: no column holds labels (0 and 1); it has {list(table.columns)}. "
            f"Say in `label_rules` how to make them, for example {{gender: gender_score>=0.5}}."
        )
    return table, properties


def match_rows(table: pd.DataFrame, files: pd.DataFrame, source: str) -> pd.Series:
    """Which file each row of a table is about.

    A column of file names decides if there is one (`find_names`). Else `img_no` decides: the
    number at the end of a file's name, or the file's place if no name has a number.

    Args:
        table: A row an image.
        files: A row a file, all that were found, column `file`.
        source: Begins error messages.

    Returns:
        Row of `files`, Int64, shape of the table's index; missing where there is no such file.

    Raises:
        ValueError: If the table names no files, names one twice, none of them is there, or the
            files' names leave open which one a number means.
    """
    column = next((name for name in FILE_COLUMNS if name in table), None)
    if column:
        keys = table[column].astype(str)
        empty = keys.index[keys.str.strip() == ""]
        if len(empty):
            raise ValueError(
                f"{source}: row {empty[0]} has no name of an image in {column!r} ({len(empty)} "
                f"such rows). Fill it in or drop the rows."
            )
        places = find_names(keys.tolist(), files["file"].tolist())
        found = [None if place is None else files.index[place] for place in places]
    elif "img_no" in table:
        column, keys = "img_no", table["img_no"]
        numbered = _numbers(files["file"].map(Path), source)
        rows = dict(zip(numbered, numbered.index, strict=True))
        found = [rows.get(key) for key in keys]
    else:
        raise ValueError(
            f"{source}: has no column that says which image a row is about; it has "
            f"{list(table.columns)}. Add `file` (a name) or `img_no` (a number)."
        )
    rows = pd.Series(found, index=table.index, dtype="Int64")
    twice = rows.dropna()[rows.dropna().duplicated()]
    if len(twice):
        raise ValueError(
            f"{source}: {plain(keys[twice.index[0]])!r} is there more than once ({len(twice)} "
            f"rows too many). Keep one row an image."
        )
    if table.empty:
        raise ValueError(f"{source}: has no rows yet. Label some images first.")
    if not rows.notna().any():
        raise ValueError(
            f"{source}: none of its images is in the folder; {column} begins with "
            f"{keys.iloc[:1].tolist()}, the files with {files['file'].iloc[:1].tolist()}. "
            f"Correct the names or the folder."
        )
    return rows


def find_names(
    keys: Sequence[str], names: Sequence[str], *, any_folder: bool = True
) -> list[int | None]:
    """Place of each key among names of files, however accents and suffixes are written.

    A key is a name as it stands, of equal letters (macOS writes é as two code points), of equal
    last part, or any of these without the name's suffix. A spelling that several names share is
    none of them. What is not found then is looked for without its own suffix too (CelebA's list
    says .jpg, its other edition has .png), where that means one key and one name alone.

    Args:
        keys: Names as a table writes them.
        names: Names of the files.
        any_folder: Whether the folders in a name may differ.
    """
    few = slice(None) if any_folder else slice(1)
    spelt = [_spellings(name) for name in names]
    places: dict[str, int] = {}
    for bare in (True, False):  # what is overwritten counts less
        for way in reversed(range(2)[few]):
            places |= _unique([_bare(texts[way]) if bare else texts[way] for texts in spelt])
    places |= _unique(names)
    found = [
        next((places[text] for text in (key, *_spellings(key)[few]) if text in places), None)
        for key in keys
    ]
    left = {k: _spellings(keys[k]) for k, place in enumerate(found) if place is None}
    for way in range(2)[few]:
        mine = {k: _bare(texts[way]) for k, texts in left.items()}
        often, taken = Counter(mine.values()), set(found)
        for k, text in mine.items():
            place = places.get(text)
            if found[k] is None and often[text] == 1 and place not in taken:
                found[k] = place
    return found


def _spellings(name: str) -> tuple[str, str]:
    """A name in composed letters, and its last part."""
    text = unicodedata.normalize("NFC", name)
    return text, text.rpartition("/")[2]


def _bare(name: str) -> str:
    """A name without the suffix of a picture."""
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and f"{dot}{suffix.lower()}" in FORMATS else name


def _unique(texts: Sequence[str]) -> dict[str, int]:
    """Place by text; texts that several places have belong to none."""
    often = Counter(texts)
    return {text: k for k, text in enumerate(texts) if often[text] == 1}


def _numbers(names: pd.Series, source: str) -> pd.Series:
    """The number that `img_no` means each file by."""
    found = names.map(lambda name: re.search(r"(\d+)\D*$", name.stem))
    if found.isna().all():
        return pd.Series(range(len(names)), index=names.index)
    known = found.map(lambda m: int(m[1]) if m and len(m[1]) <= 18 else None)  # as int64 holds
    unclear = names[known.isna() | known.duplicated(keep=False)]
    if len(unclear):
        raise ValueError(
            f"{source}: numbers its images (`img_no`), but {len(unclear)} files have no number of "
            f"their own in their names, {unclear.iloc[0].name} among them. Add a column `file` "
            f"with their names."
        )
    return known.astype("int64")
