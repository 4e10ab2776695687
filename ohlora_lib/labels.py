"""Label tables: a row an image, a column a property, values 0 or 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

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
    """Reads a label table and checks that every label of the properties is 0 or 1.

    Raises:
        ValueError: As `read_table`, or naming the row and value of the first bad label.
    """
    table = read_table(path, properties)
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
