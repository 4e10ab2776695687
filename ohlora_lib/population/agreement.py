"""Label tables of several people: merging them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ohlora_lib.io.tables import numbers
from ohlora_lib.population.labels import (
    FILE_COLUMNS,
    check_cells,
    find_names,
    label_columns,
    read_table,
)


class Merged(NamedTuple):
    """Merged label tables of several people, and their disagreements."""

    table: pd.DataFrame
    disagreements: pd.DataFrame  # image, property, one column of answers per person
    left_out: list[str]  # columns that are not labels


def merge_tables(paths: Sequence[Path]) -> Merged:
    """Merges label tables of the same images; a label on which people disagree is missing.

    The tables name images in a column common to all; labels are 0, 1 or empty. ValueError if a
    table is unreadable, contains an image twice, or has another value in a label column.
    """
    tables = {str(path): read_table(path) for path in paths}
    keys = [name for name in (*FILE_COLUMNS, "img_no") if all(name in t for t in tables.values())]
    if not keys:
        raise ValueError(
            f"{', '.join(tables)}: no common column names the images. Add `file` or `img_no` "
            f"to each table."
        )
    key, frames, images = keys[0], {}, []
    found = [prop for name, table in tables.items() for prop in label_columns(table, name)]
    properties = list(dict.fromkeys(found))
    for name, table in tables.items():
        mine = [prop for prop in properties if prop in table]
        for prop in mine:
            good = table[prop].isna() | numbers(table[prop]).isin([0, 1])
            check_cells(table[prop], good, name, "it must be 0, 1 or empty")
        if key != "img_no":  # a name may have several spellings; keep the first
            known = find_names(table[key].tolist(), images, any_folder=False)
            firsts = [None if place is None else images[place] for place in known]
            table[key] = pd.Series(firsts, table.index, dtype=object).fillna(table[key])
        check_cells(table[key], ~table[key].duplicated(), name, "that image appears twice")
        frames[name] = table.set_index(key)[mine].astype(float).astype("Int64")
        images = list(dict.fromkeys([*images, *table[key]]))
    answers = pd.concat(frames, axis=1).reindex(images)  # columns: (person, property)
    rows = answers.stack(future_stack=True).rename_axis([key, "property"])  # columns: person
    kinds = rows.nunique(axis=1)  # distinct answers
    agreed = rows.min(axis=1).where(kinds == 1).unstack().reindex(index=images, columns=properties)
    differ = rows[kinds > 1].reset_index()
    columns = dict.fromkeys(name for table in tables.values() for name in table)
    left_out = [name for name in columns if name not in [key, *properties]]
    return Merged(agreed.rename_axis(index=key, columns=None).reset_index(), differ, left_out)
