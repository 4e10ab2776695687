"""Label tables: one row per image, one column per property, values 0 or 1."""

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
from ohlora_lib.study.cells import did_you_mean
from ohlora_lib.study.look import parse_condition

SAME_FOLDER = (0, 1, 3)  # indices into `_spellings` that keep the folder
FILE_COLUMNS = ("file", "img_path", "image_id", "image", "filename", "path")
FACTS = ("source", "how", "round")  # how label_images made the labels of an image
SOURCES = ("random", "chosen")  # of an image: whether the model chose it
EMPTY = ["", "NA", "N/A", "NaN", "nan", "None", "null", "<NA>"]  # cells that count as missing


def read_table(
    path: Path, columns: Sequence[str] = (), *, texts: Sequence[str] = ()
) -> pd.DataFrame:
    """Reads a CSV file with these columns; file names and `texts` stay text, exactly as written.

    ValueError if the file is missing, empty, unreadable or ragged, or lacks a column.
    """
    header = read_header(path)
    if not header:
        raise ValueError(f"{path}: not a readable CSV table: it is empty. Check the path.")
    kinds = {name: str for name in header if name in (*FILE_COLUMNS, *texts)}
    empty = {name: EMPTY for name in header if name not in kinds}
    table = parse(path, keep_default_na=False, dtype=kinds, na_values=empty)
    if missing := [name for name in columns if name not in table.columns]:
        there = list(table.columns)
        remedy = did_you_mean(missing[0], there, "Rename a column or remove the property.")
        raise ValueError(
            f"{path}: column {missing[0]!r} is missing; the table has {there}. {remedy}"
        )
    return table


def check_cells(column: pd.Series, good: pd.Series, source: str | Path, rule: str) -> None:
    """Raises ValueError with the row and value of the first cell that breaks a rule."""
    if len(bad := column[~good]):
        raise ValueError(
            f"{source}: row {bad.index[0]} has {bad.name} = {bad.tolist()[0]!r}; {rule} "
            f"(such rows: {len(bad)}). Correct them or drop the rows."
        )


def save_table(path: Path | str, table: pd.DataFrame, *, index: bool = False) -> None:
    """Writes a table as CSV, atomically."""
    words = table.select_dtypes(exclude="number").astype(str)
    returns = any(words[name].str.contains("\r", regex=False).any() for name in words)
    # Before Python 3.11.9, cells with a lone carriage return were not quoted.
    quoting = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
    with atomic_path(path) as temporary:  # streamed to disk, as tables can be long
        table.to_csv(temporary, index=index, lineterminator="\n", quoting=quoting)


def fact_columns(table: pd.DataFrame) -> list[str]:
    """Columns that say how labels were made: source, how, round and `<property>_weight`.

    None are found unless `source` says which images were drawn at random and which were chosen.
    """
    if "source" not in table or not table["source"].isin(SOURCES).any():
        return []
    weights = {f"{name}_weight" for name in table}
    return [name for name in table if name in FACTS or name in weights]


def check_facts(table: pd.DataFrame, source: str | Path) -> None:
    """Checks the columns of `fact_columns`; ValueError, prefixed with `source`, if one is wrong.

    An empty `source` counts as random.
    """
    for name in fact_columns(table):
        if name == "source":
            good = table[name].isna() | table[name].isin(SOURCES)
            check_cells(
                table[name], good, source, "it must be random or chosen (or rename the column)"
            )
        elif name not in FACTS:
            good = as_numbers(table[name], source).fillna(0) >= 0
            check_cells(table[name], good, source, "a weight must not be negative")
    if len(table) and not drawn_at_random(table).any():
        raise ValueError(
            f"{source}: all {len(table)} images were chosen, so no fair test of CNNs is possible. "
            f"Label images drawn at random as well (label_images)."
        )


def drawn_at_random(table: pd.DataFrame) -> np.ndarray:
    """Which rows are of images drawn at random, bool (N,); all unless the table says otherwise."""
    if not fact_columns(table):
        return np.ones(len(table), dtype=bool)
    return (table["source"] != "chosen").to_numpy()


def label_weights(table: pd.DataFrame, properties: Sequence[str]) -> np.ndarray | None:
    """Weights of labels, (N, P), that undo how images were chosen; None if none were chosen.

    A missing label weighs 0, and so does a chosen image without a weight.
    """
    if not fact_columns(table):
        return None
    plain = pd.Series(drawn_at_random(table).astype(float), table.index)
    columns = [table.get(f"{prop}_weight", plain).fillna(plain) for prop in properties]
    return np.where(table[list(properties)].isna(), 0.0, np.stack(columns, axis=1))


def how_labelled(table: pd.DataFrame) -> str:
    """A sentence: how many images were drawn at random, chosen, answered on pages; may be ""."""
    if not fact_columns(table):
        return ""
    drawn = int(drawn_at_random(table).sum())
    grid = (table["how"] == "grid").sum() if "how" in table else 0
    return (
        f"{len(table)} labelled images: {drawn} drawn at random, {len(table) - drawn} chosen; "
        f"{grid} answered on pages. Tests use only the {drawn} drawn at random."
    )


def split_halves(count: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits row numbers into two disjoint sorted halves, for the selector and the judge."""
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[: count // 2]), np.sort(order[count // 2 :])


def as_numbers(column: pd.Series, source: str | Path) -> pd.Series:
    """Converts a column to finite numbers; empty cells become NaN, others raise ValueError."""
    values = numbers(column)
    good = column.isna() | np.isfinite(values)
    check_cells(column, good, source, "it must be a finite number or empty")
    return values


def label_columns(table: pd.DataFrame, source: str = "", *, strict: bool = True) -> list[str]:
    """Columns that contain only 0, 1 and empty cells, and at least one 0 or 1.

    If `strict`, raises ValueError for a column in which most, but not all, cells are 0 or 1.
    """
    found, others = [], ["img_no", *FILE_COLUMNS, *fact_columns(table)]
    for name in table.columns.drop(others, errors="ignore"):
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
    """Prepends labels made by rules, such as `{"age": "Young<=0"}`, to a table.

    A label is 1 where its rule holds, 0 where it does not, and missing where the column is empty.
    ValueError, prefixed with `source`, if a rule's column is missing or a value is invalid.

    Returns:
        The table without `img_no`, and the names of its label columns.
    """
    check_facts(table, source)
    made = {}
    for prop, text in rules.items():
        condition = parse_condition(text)
        if condition.prop not in table:
            raise ValueError(
                f"{source}: label {prop!r} needs column {condition.prop!r}, which is missing; "
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
            f"{source}: no column contains labels (0 or 1); the table has {list(table.columns)}. "
            f"Write labels as 1 (yes) and 0 (no), or make them from numbers by `label_rules`, for "
            f"example {{gender: gender_score>=0.5}}."
        )
    return table, properties


def match_rows(table: pd.DataFrame, names: Sequence[str], source: str) -> pd.Series:
    """Matches each row of a table to a file.

    Uses a column of file names if the table has one (`find_names`), or else `img_no`: the last
    number in a file's name, or the file's position if no name contains a number.
    ValueError, prefixed with `source`, if a match is ambiguous or no row matches a file.

    Returns:
        Index into `names` per row, Int64; missing where no file matches.
    """
    column = next((name for name in (*FILE_COLUMNS, "img_no") if name in table), None)
    if column is None:
        raise ValueError(
            f"{source}: no column names the images; the table has "
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
    check_cells(keys, once, source, "that image appears more than once")
    if rows.isna().all():
        raise ValueError(
            f"{source}: none of its {len(rows)} rows matches an image in the folder; {column} "
            f"starts with {keys.tolist()[:1]}, the files with {list(names[:1])}. "
            "Correct one or the other."
        )
    return rows


def _numbered(names: Sequence[str], source: str) -> dict[int, int]:
    """Maps the value of `img_no` that denotes each file to its index."""
    numbers = {name: re.search(r"(\d+)\D*$", Path(name).stem) for name in names}
    if not any(numbers.values()):
        return {place: place for place in range(len(names))}
    found = {int(numbers[name][1]): place for place, name in enumerate(names) if numbers[name]}
    if len(found) < len(names):
        unclear = next(name for place, name in enumerate(names) if place not in found.values())
        raise ValueError(
            f"{source}: `img_no` is ambiguous, as not every file name has its own number, for "
            f"example {unclear}. Add a column `file` with the file names."
        )
    return found


def find_names(
    keys: Sequence[str], names: Sequence[str], *, any_folder: bool = True
) -> list[int | None]:
    """Index of each key in `names`, whichever way accents and suffixes are written.

    Compares names as written, then in Unicode NFC (macOS writes é as two code points) with slashes
    for backslashes (Windows), then without folders, and last without an image suffix (CelebA's
    list says .jpg, its other edition has .png). A spelling counts only if it denotes exactly one
    key and one name, and that name is not matched yet. Folders may differ only with `any_folder`.
    """
    distinct = list(dict.fromkeys(keys))
    spelt = (zip(*map(_spellings, part), strict=True) for part in (distinct, names))
    found: dict[str, int] = {}
    for way, (ours, theirs) in enumerate(zip(*spelt, strict=False)):
        if any_folder or way in SAME_FOLDER:
            places, taken = _once(theirs), {-1, *found.values()}
            for text, k in _once(ours).items():
                if places.get(text, -1) not in taken:
                    found.setdefault(distinct[k], places[text])
    return [found.get(key) for key in keys]


def _spellings(name: str) -> tuple[str, ...]:
    """The name; in NFC with slashes; that without folders; without an image suffix; both."""
    text = unicodedata.normalize("NFC", name).replace("\\", "/")
    stem, dot, suffix = text.rpartition(".")
    bare = stem if stem and f"{dot}{suffix.lower()}" in FORMATS else text
    return name, text, text.rpartition("/")[2], bare, bare.rpartition("/")[2]


def _once(texts: Sequence[str]) -> dict[str, int]:
    """Maps each string that occurs exactly once to its index."""
    often = Counter(texts)
    return {text: place for place, text in enumerate(texts) if often[text] == 1}
