"""Label tables: a row an image, a column a property, values 0 or 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ohlora_lib.conditions import parse_condition
from ohlora_lib.records import write_atomic


def read_table(path: Path | str, columns: Sequence[str]) -> pd.DataFrame:
    """Reads a CSV and checks that it has the columns.

    Raises:
        ValueError: If the file is missing, empty, unreadable or lacks a column.
    """
    path = Path(path)
    try:
        table = pd.read_csv(path)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such table. Check the path in the params file.") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a readable CSV table ({reason})") from error
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ValueError(
            f"{path}: column {missing[0]!r} is missing; the table has {list(table.columns)}. "
            f"Rename a column, or leave the property out of the params file."
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
        values = pd.to_numeric(table[name], errors="coerce")  # one word makes the column text
        bad = table.index[~values.isin([0, 1])]
        if len(bad):
            raise ValueError(
                f"{path}: row {bad[0]} has {name} = {table[name][bad[0]]!r}; must be 0 or 1 "
                f"({len(bad)} such rows). Correct them or drop the rows."
            )
    return table.astype({name: "int64" for name in properties})


def save_table(path: Path | str, table: pd.DataFrame, *, index: bool = False) -> None:
    """Writes a table as CSV, whole or not at all."""
    write_atomic(Path(path), table.to_csv(index=index, lineterminator="\n"))


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
FILE_COLUMNS = ("file", "img_path", "image_id", "image", "filename", "path")


def read_attributes(path: Path | str) -> pd.DataFrame:
    """Reads CelebA's attribute list, `.txt` as published or `.csv`: file, then the attributes.

    Raises:
        ValueError: If it is missing or has another form.
    """
    path = Path(path)
    if path.suffix == ".csv":
        table = read_table(path, [])
        return table.rename(columns={table.columns[0]: "file"})
    try:
        with path.open(encoding="utf-8") as file:
            count, names = int(file.readline()), file.readline().split()
            table = pd.read_csv(file, sep=r"\s+", names=["file", *names])
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such attribute list.") from error
    except (OSError, ValueError) as error:  # pandas' parser errors among them
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path}: not CelebA's attribute list, a count, a line of names, a line an image "
            f"({reason})"
        ) from error
    if len(table) != count:
        raise ValueError(
            f"{path}: says {count} images and lists {len(table)}; it seems cut off. Fetch it "
            f"again."
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
        ValueError: If a column is missing, or holds something else than numbers.
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
        columns[prop] = condition.holds(values).astype("Int64").mask(values.isna())
    rest = table[[name for name in table.columns if name not in columns]]
    return pd.concat([pd.DataFrame(columns, index=table.index), rest], axis=1)


def as_numbers(column: pd.Series, source: str) -> pd.Series:
    """A column as numbers; empty cells stay empty.

    Raises:
        ValueError: If a cell is no number; names its row.
    """
    values = pd.to_numeric(column, errors="coerce")
    bad = column.index[values.isna() & column.notna()]
    if len(bad):
        raise ValueError(
            f"{source}: row {bad[0]} has {column.name} = {column[bad[0]]!r}; it must be a number "
            f"({len(bad)} such rows). Correct them or leave the cells empty."
        )
    return values


def label_columns(table: pd.DataFrame) -> list[str]:
    """Columns that hold nothing but 0, 1 and empty cells, and not only empty ones."""
    found = []
    for name in table.columns:
        if name in {"img_no", *FILE_COLUMNS}:
            continue
        values = pd.to_numeric(table[name], errors="coerce")
        if table[name].notna().any() and values[table[name].notna()].isin([0, 1]).all():
            found.append(name)
    return found


def match_rows(table: pd.DataFrame, files: pd.DataFrame, source: str) -> pd.Series:
    """Which image each row of a label table is about.

    A column of file names decides if there is one: by the name relative to the image folder, or
    by its last part. Else `img_no` is the number in a file's name, or the image's place.

    Args:
        table: Label table.
        files: `img_no` and `file` of the images in the store.
        source: Begins error messages.

    Returns:
        Row of the store, Int64, shape of the table's index; missing where there is no image.

    Raises:
        ValueError: If the table names no images, names one twice, or none of them is there.
    """
    column = next((name for name in FILE_COLUMNS if name in table), None)
    if column:
        keys = table[column].astype(str)
        places = _places(files["file"].map(lambda name: Path(name).name), files["img_no"])
        whole = _places(files["file"], files["img_no"])
        found = [whole.get(key, places.get(Path(key).name)) for key in keys]
    elif "img_no" in table:
        column, keys = "img_no", table["img_no"]
        stems = pd.to_numeric(files["file"].map(lambda name: Path(name).stem), errors="coerce")
        named = stems.notna().all() and stems.is_unique
        places = _places(stems if named else files["img_no"], files["img_no"])
        found = [places.get(key) for key in keys]
    else:
        raise ValueError(
            f"{source}: has no column that says which image a row is about; it has "
            f"{list(table.columns)}. Add `file` (a name) or `img_no` (a number)."
        )
    numbers = pd.Series(found, index=table.index, dtype="Int64")
    twice = numbers.dropna()[numbers.dropna().duplicated()]
    if len(twice):
        raise ValueError(
            f"{source}: {keys[twice.index[0]]!r} is there more than once ({len(twice)} rows too "
            f"many). Keep one row an image."
        )
    if not numbers.notna().any():
        raise ValueError(
            f"{source}: none of its images is in the folder; {column} begins with "
            f"{keys.iloc[:1].tolist()}, the files with {files['file'].iloc[:1].tolist()}."
        )
    return numbers


def _places(keys: pd.Series, numbers: pd.Series) -> dict:
    """Key to row of the store; keys that are not unique belong to nobody."""
    unique = ~keys.duplicated(keep=False)
    return dict(zip(keys[unique], numbers[unique], strict=True))
