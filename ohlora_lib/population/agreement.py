"""Label tables of several people: their agreement, their merged labels, and what to settle.

Source: Cohen, "A Coefficient of Agreement for Nominal Scales", 1960: kappa is the agreement beyond
chance, 1 if two people always agree and 0 if they agree as often as their shares of ones imply.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ohlora_lib.io.tables import numbers
from ohlora_lib.population.labels import (
    FILE_COLUMNS,
    check_cells,
    fact_columns,
    find_names,
    label_columns,
    match_rows,
    read_table,
)

DRAWS = 4000  # resamples of the images


class Merged(NamedTuple):
    """Merged label tables of several people."""

    table: pd.DataFrame  # a row per image: its name, labels, and how they were made
    answers: pd.DataFrame  # a row per image and property: image, property, a column per person
    disagreements: pd.DataFrame  # the rows of `answers` that differ and are not settled
    left_out: list[str]  # columns that are not labels


def merge_tables(paths: Sequence[Path], settled: Path | None = None) -> Merged:
    """Merges label tables of the same images; a label on which people disagree is missing.

    The tables name images in a column that stage 1 reads; labels are 0, 1 or empty. The labels of
    the table `settled`, which may be among the paths, replace the others. An image counts as
    random if anyone's table says so.
    ValueError if there are no two tables, or one is unreadable, contains an image twice, or has
    another value in a label column.
    """
    own = {path.resolve(): path for path in paths}
    every = {*own, *([settled.resolve()] if settled else [])}
    if len(own) < len(paths) or len(every) < 2:
        raise ValueError(f"{paths[0]}: give two or more label tables, each of them once.")
    paths = [path for place, path in own.items() if not settled or place != settled.resolve()]
    people = dict(zip(_names(paths), paths, strict=True))
    given = people | ({"settled": settled} if settled else {})
    key, tables = _keyed({str(path): read_table(path) for path in given.values()})
    frames, images = {}, []
    found = [prop for name, table in tables.items() for prop in label_columns(table, name)]
    properties = list(dict.fromkeys(found))
    for person, (name, table) in zip(given, tables.items(), strict=True):
        mine = [prop for prop in properties if prop in table]
        for prop in mine:
            good = table[prop].isna() | numbers(table[prop]).isin([0, 1])
            check_cells(table[prop], good, name, "it must be 0, 1 or empty")
        if key != "img_no":  # a name may have several spellings; keep the first
            known = find_names(table[key].tolist(), images, any_folder=False)
            pairs = zip(table[key], known, strict=True)
            table[key] = [name if place is None else images[place] for name, place in pairs]
        check_cells(table[key], ~table[key].duplicated(), name, "that image appears twice")
        frames[person] = table.set_index(key)[mine].astype(float).astype("Int64")
        images = list(dict.fromkeys([*images, *table[key]]))
    answers = pd.concat(frames, axis=1).reindex(images)  # columns: (person, property)
    rows = answers.stack(future_stack=True).rename_axis([key, "property"])  # columns: person
    own = rows.reindex(columns=list(people))
    kinds = own.nunique(axis=1)  # distinct answers
    agreed = own.min(axis=1).where(kinds == 1)
    if settled:
        agreed = rows["settled"].fillna(agreed)
    labels = agreed.unstack().reindex(index=images, columns=properties)
    facts = _facts([tables[str(path)].set_index(key) for path in paths])
    differ = own[(kinds > 1) & agreed.isna()].reset_index()
    columns = dict.fromkeys(name for table in tables.values() for name in table)
    left_out = [name for name in columns if name not in [key, *properties, *facts]]
    table = labels.join(facts).rename_axis(index=key, columns=None).reset_index()
    return Merged(table, own[kinds > 0].reset_index(), differ, left_out)


def _keyed(tables: dict[str, pd.DataFrame]) -> tuple[str, dict[str, pd.DataFrame]]:
    """The column that names the images in all tables; renamed to `file` if its names differ."""
    for key in (*FILE_COLUMNS, "img_no"):
        if all(key in table for table in tables.values()):
            return key, tables
    renamed = {}
    for path, table in tables.items():
        column = next((name for name in FILE_COLUMNS if name in table), None)
        if column is None:
            raise ValueError(
                f"{', '.join(tables)}: no common column names the images. Add `file` or `img_no` "
                f"to each table."
            )
        renamed[path] = table.rename(columns={column: "file"})
    return "file", renamed


def _names(paths: Sequence[Path]) -> list[str]:
    """A short name per table: of its file, or of the folder of a `labels.csv`."""
    short = [p.parent.name if p.name == "labels.csv" and p.parent.name else p.stem for p in paths]
    taken = [*short, *FILE_COLUMNS, "img_no", "property", "settled"]
    return short if len(set(taken)) == len(taken) else [str(path) for path in paths]


def _facts(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """How labels were made, by image; tables in which it was drawn at random take precedence."""
    together = pd.concat([table[fact_columns(table)] for table in tables])
    if together.columns.empty:
        return together.loc[[]]
    together["source"] = together["source"].fillna("random")
    drawn = together["source"] == "random"
    chosen = ~together.index.isin(together.index[drawn])
    return together[drawn | chosen].groupby(level=0).first()


def agreement(answers: pd.DataFrame) -> pd.DataFrame:
    """Cohen's kappa of each pair of people and property, with a 95 % interval.

    Takes `Merged.answers`; returns columns property, a, b, images (answered by both), agree (of
    them), kappa, low, high. Kappa is missing if both gave only one answer, the same. The interval
    is a Bayesian bootstrap over images; half an image in each cell keeps it from vanishing where
    all agree.
    """
    people = answers.columns[2:]
    rows = []
    for prop, table in answers.groupby("property", sort=False):
        for a, b in combinations(people, 2):
            both = table[[a, b]].dropna().astype(int)
            cells = np.bincount(2 * both[a] + both[b], minlength=4)  # 00, 01, 10, 11
            drawn = np.random.default_rng(0).dirichlet(cells + 0.5, DRAWS)
            value, (low, high) = _kappa(cells[None])[0], np.quantile(_kappa(drawn), [0.025, 0.975])
            if np.isnan(value):
                low = high = np.nan
            ends = np.fmin(low, value), np.fmax(high, value)
            rows.append((prop, a, b, len(both), cells[0] + cells[3], value, *ends))
    columns = ["property", "a", "b", "images", "agree", "kappa", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _kappa(cells: np.ndarray) -> np.ndarray:
    """Kappa (N,) of counts or shares of answers 00, 01, 10 and 11, (N, 4); NaN if undefined."""
    share = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1e-12)
    ones_a, ones_b = share[:, 2] + share[:, 3], share[:, 1] + share[:, 3]
    chance = ones_a * ones_b + (1 - ones_a) * (1 - ones_b)
    same = share[:, 0] + share[:, 3]
    varied = chance < 1
    return np.where(varied, (same - chance) / np.where(varied, 1 - chance, 1), np.nan)


def in_words(row: Mapping[str, object]) -> str:
    """A sentence about a row of `agreement`."""
    who = f"{row['property']}: {row['a']} and {row['b']}"
    if not row["images"]:
        return f"{who} have labelled no image in common."
    text = f"{who} agree on {row['agree']} of {row['images']} images"
    if np.isnan(row["kappa"]):
        return f"{text}; kappa is undefined, because both used only one of the two answers."
    return (
        f"{text}; kappa {row['kappa']:.2f} (95 % interval {row['low']:.2f} to {row['high']:.2f})."
    )


def to_settle(path: Path, files: Sequence[str]) -> list[int]:
    """Indices into `files` of the images on which people disagree.

    `path` is a table of `Merged.answers`, as `ohlora labels merge` writes. ValueError if it is
    another table, nobody disagrees, or none of its images is among the files.
    """
    table = read_table(path, ["property"])
    key, people = table.columns[0], table.columns[2:]
    differ = table.loc[table[people].nunique(axis=1) > 1, [key]].drop_duplicates()
    if key == "property" or differ.empty:
        raise ValueError(
            f"{path}: contains no disagreements. Give the table of answers by person that "
            f"`ohlora labels merge` writes (...-by-person.csv)."
        )
    return sorted(match_rows(differ, files, str(path)).dropna())
