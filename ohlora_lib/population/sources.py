"""The population of a study: images in a store and their labels, wherever they come from.

Axes: N images, H image height.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ohlora_lib.io.images import import_images, new_store, open_store
from ohlora_lib.io.pictures import ATTRIBUTE_LISTS, find_images, walk
from ohlora_lib.io.tables import strongest_pair
from ohlora_lib.io.weights import load_generator
from ohlora_lib.nets.compute import pick_device
from ohlora_lib.nets.samples import sample_images
from ohlora_lib.population import labels as lb
from ohlora_lib.population.faces.faces import draw_attributes, render_faces
from ohlora_lib.study.machine import track

FACES_AT_ONCE = 250
FILE_FACTS = ["img_no", "file", "status", "detail"]


@dataclass(frozen=True)
class Population:
    """What a study looks at.

    Attributes:
        images: uint8, shape (N, H, H, 3), memory-mapped.
        labels: A row a labelled image: `img_no` (row of `images`), the properties, other columns.
        files: A row an image or file: `img_no`, `file`, `status`, `detail`; what was left out too.
        properties: Columns of `labels` that hold 0 and 1.
    """

    images: np.ndarray
    labels: pd.DataFrame
    files: pd.DataFrame
    properties: list[str]

    def by_label(self, prop: str, value: int, count: int = 12) -> np.ndarray:
        """The first images with a label, uint8 (n, H, H, 3)."""
        chosen = self.labels.loc[self.labels[prop] == value, "img_no"]
        return self.images[chosen.to_numpy(dtype=np.int64)[:count]]

    @property
    def shares(self) -> dict[str, float]:
        """Share of ones of each property."""
        return {name: round(float(self.labels[name].mean()), 4) for name in self.properties}

    def dependence(self) -> str:
        """A sentence: how much two properties have to do with each other."""
        pair = strongest_pair(self.labels[self.properties].astype(float).corr())
        if pair is None:
            return "There are no two properties that vary, so none can depend on another."
        a, b, value = pair
        return f"The largest correlation between two properties is {abs(value):.2f}, {a} and {b}."

    def describe(self) -> str:
        """A sentence: how many images, how many labelled, what was left out."""
        counts = self.files["status"].value_counts()
        left = [f"{counts[s]} {s}" for s in counts.index if s not in {"read", "unlabelled"}]
        text = (
            f"{len(self.images)} images of {self.images.shape[1]} px, {len(self.labels)} labelled"
        )
        text += f"; left out: {', '.join(left)} (files.csv names them)" if left else ""
        ones = ", ".join(f"{name} {share:.1%}" for name, share in self.shares.items())
        if not ones:
            return f"{text}. No labels yet."
        other = self.labels.columns.drop([*self.properties, "img_no", *lb.FILE_COLUMNS], "ignore")
        rest = f" Columns that are no labels: {', '.join(other)}." if len(other) else ""
        return f"{text}. Share of ones: {ones}.{rest}"


def make(
    folder: Path,
    *,
    source: str,
    image_px: int,
    seed: int,
    labelled_images: int,
    shares: Mapping[str, float],
    fit: str,
    labelled_rows: int,
    label_rules: Mapping[str, str],
    image_folder: Path | None = None,
    generator_file: Path | None = None,
    labels_csv: Path | None = None,
) -> Population:
    """Makes the population that the parameters of `01_make_population` describe.

    Raises:
        ValueError: If a source cannot be read; one line.
    """
    table = {"labels_csv": labels_csv, "labelled_rows": labelled_rows, "rules": label_rules}
    square = {"image_px": image_px, "fit": fit}
    if source == "folder":
        return import_folder(folder, image_folder, **square, **table)
    if source == "celeba":
        return import_celeba(folder, image_folder, **square, rules=label_rules)
    if source == "generator":
        return sample_generator(folder, generator_file, labelled_images, seed=seed, **table)
    options = {"image_px": image_px, "seed": seed, "shares": shares, "rules": label_rules}
    return draw_faces(folder, labelled_images, **options)


def draw_faces(
    folder: Path,
    count: int,
    *,
    image_px: int,
    seed: int,
    shares: Mapping[str, float] | None = None,
    rules: Mapping[str, str] | None = None,
) -> Population:
    """Built-in faces with exact labels.

    Args:
        folder: Run folder; gets `images/images.npy`, `labels.csv` and `files.csv`.
        count: Number N of faces.
        image_px: Side H, pixels.
        seed: Which faces.
        shares: Share of ones of each property.
        rules: More properties by rule, for example `{"eyes_open": "eyes>=0.6"}`.
    """
    with new_store(folder / "images" / "images.npy", image_px) as store:
        starts = range(0, count, FACES_AT_ONCE)
        for first in track(starts, "Drawing faces"):
            part = range(first, min(first + FACES_AT_ONCE, count))
            store.append(render_faces(part, seed=seed, image_px=image_px, shares=shares))
    table = draw_attributes(range(count), seed=seed, shares=shares).rename_axis("img_no")
    files = _named(f"face {k}" for k in range(count))
    return _finish(folder, files, table.reset_index(), rules or {}, "the built-in faces")


def import_folder(
    folder: Path,
    image_folder: Path,
    *,
    image_px: int,
    fit: str = "crop",
    labels_csv: Path | None = None,
    rules: Mapping[str, str] | None = None,
    labelled_rows: int = 0,
) -> Population:
    """Images from a folder of files, with a label table or without.

    Args:
        folder: Run folder; gets `images/images.npy`, `labels.csv` and `files.csv`.
        image_folder: Files of any common format and size, in folders or not.
        image_px: Side H, pixels.
        fit: `crop` keeps the centre square, `pad` the whole image.
        labels_csv: Label table; a column names the file, or `img_no` numbers it.
        rules: Labels by rule; none if the table has columns of 0 and 1.
        labelled_rows: How many first rows of the table are labels; 0 means all.

    Raises:
        ValueError: If there are no images, or the table does not fit them; one line.
    """
    table = _read_labels(labels_csv, labelled_rows)
    files = _import(folder, image_folder, image_px, fit)
    return _finish(folder, files, table, rules or {}, str(labels_csv))


def import_celeba(
    folder: Path,
    image_folder: Path,
    *,
    image_px: int,
    fit: str = "crop",
    rules: Mapping[str, str] | None = None,
) -> Population:
    """Images and attributes as CelebA lays them out: `img_align_celeba/`, `list_attr_celeba.*`.

    Args:
        folder: Run folder; gets `images/images.npy`, `labels.csv` and `files.csv`.
        image_folder: CelebA's folder, which holds both.
        image_px: Side H, pixels.
        fit: `crop` keeps the centre square, `pad` the whole image.
        rules: Labels by rule; gender, quality, age and glass if empty.

    Raises:
        ValueError: If the layout is another, or a list does not fit the images; one line.
    """
    attributes, pictures = find_celeba(image_folder)
    table = lb.read_attributes(attributes)
    files = _import(folder, pictures, image_px, fit)
    return _finish(folder, files, table, rules or lb.CELEBA_LABELS, str(attributes))


def find_celeba(image_folder: Path) -> tuple[Path, Path]:
    """The attribute list and the folder of pictures of CelebA's layout.

    Raises:
        ValueError: If the layout is another.
    """
    found = [path for path in walk(image_folder) if path.name in ATTRIBUTE_LISTS]
    pictures = image_folder / "img_align_celeba"
    if len(found) > 1:
        raise ValueError(f"{image_folder}: has two attribute lists, {found[0]} and {found[1]}. "
                         "Take one away.")  # fmt: skip
    if not found or not pictures.is_dir():
        raise ValueError(
            f"{image_folder}: not laid out as CelebA; it must hold img_align_celeba/ and "
            f"{' or '.join(ATTRIBUTE_LISTS)}. Give CelebA's folder as `image_folder`."
        )
    return found[0], pictures


def sample_generator(
    folder: Path,
    generator_file: Path,
    count: int,
    *,
    seed: int,
    labels_csv: Path | None = None,
    rules: Mapping[str, str] | None = None,
    labelled_rows: int = 0,
) -> Population:
    """Random samples of a generator, as the published study labelled them.

    Args:
        folder: Run folder; gets `images/images.npy`, `labels.csv` and `files.csv`.
        generator_file: Weights.
        count: Number N of samples.
        seed: Draws the latents.
        labels_csv: Label table by `img_no`; None for none yet.
        rules: Labels by rule.
        labelled_rows: How many first rows of the table are labels; 0 means all.
    """
    table = _read_labels(labels_csv, labelled_rows)
    files = _sample(folder, generator_file, count, seed)
    return _finish(folder, files, table, rules or {}, str(labels_csv))


def _sample(folder: Path, generator_file: Path, count: int, seed: int) -> pd.DataFrame:
    """Samples into the store of a folder; a row an image."""
    place = pick_device("auto")
    generator = load_generator(generator_file).to(place)
    with new_store(folder / "images" / "images.npy", generator.image_px) as store:
        draws = sample_images(generator, count, seed=seed)
        for batch in track(draws, "Sampling", total=-(-count // 100)):
            store.append(batch.cpu().numpy())
    return _named(f"{k:06d}" for k in range(count))


def to_label(
    folder: Path,
    *,
    count: int,
    image_px: int,
    seed: int,
    population_run: Path | None = None,
    image_folder: Path | None = None,
    generator_file: Path | None = None,
) -> tuple[np.ndarray, list[str]]:
    """Images to label by hand, and what they are called.

    Args:
        folder: Run folder; gets the images unless they come from a population.
        count: How many first ones.
        image_px: Side H of images from a folder, pixels.
        seed: Draws samples of a generator, the same ones as `01_make_population` draws.
        population_run: Run folder of a population.
        image_folder: Or a folder of files.
        generator_file: Or weights.

    Returns:
        uint8 images, shape (n, H, H, 3), and n names.
    """
    if population_run:
        made = load_population(population_run)
        images, files = made.images, made.files
    else:  # no tables are written here: labels.csv of the folder is the person's
        if image_folder:
            files = _import(folder, image_folder, image_px, "crop")
        else:
            files = _sample(folder, generator_file, count, seed)
        images = open_store(folder / "images" / "images.npy")
    named = files[files["img_no"].notna()].sort_values("img_no")
    return images[:count], named["file"].astype(str).tolist()[:count]


def load_population(folder: Path) -> Population:
    """Reads a population from its run folder.

    Raises:
        ValueError: If a file is missing or damaged.
    """
    images = open_store(folder / "images" / "images.npy")
    table = lb.read_table(folder / "labels.csv", ["img_no"])
    files = lb.read_table(folder / "files.csv", FILE_FACTS)
    return Population(images, table, files, lb.label_columns(table, "", strict=False))


def _named(names: Sequence[str]) -> pd.DataFrame:
    """A row an image that no file is behind."""
    names = list(names)
    table = pd.DataFrame({"img_no": range(len(names)), "file": names, "status": "read"})
    return table.assign(detail="").astype({"img_no": "Int64"})


def _read_labels(path: Path | None, labelled_rows: int) -> pd.DataFrame | None:
    if path is None:
        return None
    table = lb.read_table(path, [])
    return table.head(labelled_rows) if labelled_rows else table


def _import(folder: Path, image_folder: Path, image_px: int, fit: str) -> pd.DataFrame:
    paths = find_images(image_folder)
    with new_store(folder / "images" / "images.npy", image_px) as store:
        steps = import_images(store, paths, image_folder, fit=fit)
        rows = list(track(steps, "Reading images", total=len(paths)))
        if not store.count:
            _, name, _, detail = rows[0]
            raise ValueError(
                f"{image_folder}: none of its {len(paths)} image files can be read; the first is "
                f"{name} ({detail})"
            )
    return pd.DataFrame(rows, columns=FILE_FACTS).astype({"img_no": "Int64"})


def _finish(
    folder: Path,
    files: pd.DataFrame,
    table: pd.DataFrame | None,
    rules: Mapping[str, str],
    source: str,
) -> Population:
    """Joins labels to images, says what has none, and writes both tables."""
    if table is None:
        labels, properties = pd.DataFrame(columns=["img_no"]), []
    else:
        labels, properties, rows = _labels(table, files, rules, source)
        unused = rows[rows.notna() & labels["img_no"].isna()]
        files.loc[unused, "detail"] += "; its label is not used"
        files = pd.concat([files, _without_image(labels[rows.isna()])], ignore_index=True)
        partly = labels["img_no"].notna() & labels[properties].isna().any(axis=1)
        files.loc[rows[partly], "detail"] = "some of its labels are empty"
        labels = labels[labels["img_no"].notna() & ~partly]
        labels = labels.sort_values("img_no", ignore_index=True)
        labels = labels.astype({name: "int64" for name in ("img_no", *properties)})
    bare = (files["status"] == "read") & ~files["img_no"].isin(labels["img_no"])
    files.loc[bare, "status"] = "unlabelled"
    lb.save_table(folder / "labels.csv", labels)
    lb.save_table(folder / "files.csv", files)
    return Population(open_store(folder / "images" / "images.npy"), labels, files, properties)


def _labels(
    table: pd.DataFrame, files: pd.DataFrame, rules: Mapping[str, str], source: str
) -> tuple[pd.DataFrame, list[str], pd.Series]:
    """The label table with `img_no` in front, its properties, and its rows in `files`."""
    rows = lb.match_rows(table, files, source)
    numbers = files["img_no"].reindex(rows).set_axis(table.index).astype("Int64")
    table, properties = lb.with_properties(table, rules, source)
    return pd.concat([numbers.rename("img_no"), table], axis=1), properties, rows


def _without_image(labels: pd.DataFrame) -> pd.DataFrame:
    """Rows for `files.csv` of labels whose image is not there."""
    column = next((name for name in lb.FILE_COLUMNS if name in labels), None)
    names = labels[column].astype(str) if column else labels.index.map("row {}".format)
    table = pd.DataFrame({"file": list(names), "status": "no image"}, columns=FILE_FACTS)
    return table.assign(detail="has a row in the label table, but there is no such image").astype(
        {"img_no": "Int64"}
    )
