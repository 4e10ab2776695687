"""Reads and checks the inputs of a population before a run, without torch."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ohlora_lib.io.disk import check_file, complaint
from ohlora_lib.io.pictures import ATTRIBUTE_LISTS, find_images, walk
from ohlora_lib.population.labels import match_rows, read_table, with_properties
from ohlora_lib.study.parameters import LabelImages, MakePopulation

CELEBA_LABELS = {  # attributes are 1 and -1; three of these are reversed
    "gender": "Male<=0",
    "quality": "Blurry<=0",
    "age": "Young<=0",
    "glass": "Eyeglasses>=1",
}


def check_images(config: MakePopulation | LabelImages, folder: Path, _: Path) -> None:
    """Finds a folder's images, or CelebA's images and list, without opening an image.

    Raises:
        ValueError: If the folder holds no images, or the list does not match them.
    """
    if getattr(config, "source", "") != "celeba":
        find_images(folder)
        return
    attributes, pictures = find_celeba(folder)
    table, rules = read_attributes(attributes), config.label_rules or CELEBA_LABELS
    _check_table(table, pictures, rules, str(attributes))


def check_labels(config: MakePopulation, path: Path, root: Path) -> None:
    """Checks a label table; ValueError if it has no labels, or no row matches an image."""
    folder = root / config.image_folder
    pictures = folder if config.source == "folder" and folder.is_dir() else None
    _check_table(read_labels(config, path), pictures, config.label_rules, str(path))


def _check_table(
    table: pd.DataFrame, pictures: Path | None, rules: Mapping[str, str], source: str
) -> None:
    if pictures:
        names = [path.relative_to(pictures).as_posix() for path in find_images(pictures)]
        match_rows(table, names, source)
    with_properties(table, rules, source)


def read_labels(config: MakePopulation, path: Path) -> pd.DataFrame:
    """Reads a label table, or its first `labelled_rows` rows; raises as `read_table` does."""
    table = read_table(path)
    return table.head(config.labelled_rows or len(table))


def find_celeba(image_folder: Path) -> tuple[Path, Path]:
    """Finds CelebA's attribute list and image folder; ValueError for any other layout."""
    found = [path for path in walk(image_folder) if path.name in ATTRIBUTE_LISTS]
    pictures = image_folder / "img_align_celeba"
    if len(found) != 1 or not pictures.is_dir():
        raise ValueError(
            f"{image_folder}: not CelebA's layout; it must contain img_align_celeba/ and one "
            f"{' or '.join(ATTRIBUTE_LISTS)}; lists found: {[str(path) for path in found]}. Give "
            f"CelebA's folder as `image_folder`."
        )
    return found[0], pictures


def read_attributes(path: Path) -> pd.DataFrame:
    """Reads CelebA's attribute list, `.txt` or `.csv`; ValueError if it is malformed."""
    if path.suffix == ".csv":
        return read_table(path)
    check_file(path, "attribute list")
    what = "not CelebA's attribute list: a count, a line of names, one line per image"
    with complaint(path, what, "Fetch it again."), path.open(encoding="utf-8-sig") as file:
        count, names = int(file.readline()), ["file", *file.readline().split()]
        columns = [*names, ""]  # "": surplus values
        table = pd.read_csv(file, sep=r"\s+", names=columns, dtype={"file": str})
        ragged = table[names].isna().any(axis=1) | table[""].notna()
        if len(table) != count or ragged.any():
            raise ValueError(
                f"it declares {count} images and lists {len(table)}; lines with too few or too "
                f"many values: {ragged.sum()}"
            )
    return table[names].set_axis(table.index + 1)  # `line_of`: the names are on the second line
