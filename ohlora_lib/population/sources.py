"""The population of a study: images in a store and their labels, from any source.

Axes: N images, H image height.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ohlora_lib.io.images import SAME_PIXELS, import_images, new_store, open_store
from ohlora_lib.io.pictures import find_images
from ohlora_lib.io.tables import strongest_pair
from ohlora_lib.io.weights import load_generator
from ohlora_lib.nets.compute import pick_device
from ohlora_lib.nets.samples import sample_images
from ohlora_lib.population import labels as lb
from ohlora_lib.population.agreement import to_settle
from ohlora_lib.population.faces.faces import draw_attributes, render_faces
from ohlora_lib.population.inputs import CELEBA_LABELS, find_celeba, read_attributes, read_labels
from ohlora_lib.study.machine import track
from ohlora_lib.study.parameters import LabelImages, MakePopulation
from ohlora_lib.study.records import in_project
from ohlora_lib.study.run_folder import Run

FACES_AT_ONCE = 250
FILE_FACTS = ["img_no", "file", "status", "detail"]


@dataclass(frozen=True)
class Population:
    """The images and labels of a study."""

    images: np.ndarray  # uint8, shape (N, H, H, 3), memory-mapped
    labels: pd.DataFrame  # row per labelled image: `img_no` (row in `images`), properties, others
    files: pd.DataFrame  # one row per image or file, skipped ones included: `FILE_FACTS`
    properties: list[str]  # columns of `labels` with values 0 and 1

    def by_label(self, prop: str, value: int) -> np.ndarray:
        """The first 12 images with this label, uint8 (n, H, H, 3)."""
        chosen = self.labels.loc[self.labels[prop] == value, "img_no"]
        return self.images[chosen.to_numpy(dtype=np.int64)[:12]]

    @property
    def drawn(self) -> pd.DataFrame:
        """Labels of the images drawn at random; only they have the population's shares."""
        return self.labels.loc[lb.drawn_at_random(self.labels), self.properties].astype(float)

    @property
    def shares(self) -> dict[str, float]:
        """Share of ones per property."""
        return {name: round(float(share), 4) for name, share in self.drawn.mean().items()}

    def dependence(self) -> str:
        """A sentence: the strongest correlation between two properties."""
        pair = strongest_pair(self.drawn.corr())
        if pair is None:
            return "Fewer than two properties vary, so there is no correlation between properties."
        a, b, value = pair
        return f"The largest correlation between two properties is {abs(value):.2f}, {a} and {b}."

    def describe(self) -> str:
        """A sentence: the numbers of images, of labelled images and of skipped files."""
        counts = self.files["status"].value_counts().drop(["read", "unlabelled"], errors="ignore")
        size = f"{len(self.images)} images of {self.images.shape[1]} px"
        text = f"{size}, {len(self.labels)} labelled"
        if len(counts):
            left_out = ", ".join(f"{count} {status}" for status, count in counts.items())
            text += f"; left out: {left_out} (files.csv names them)"
        if not self.properties:
            return f"{text}. No labels yet."
        ones = ", ".join(f"{name} {share:.1%}" for name, share in self.shares.items())
        known = [*self.properties, "img_no", *lb.FILE_COLUMNS, *lb.fact_columns(self.labels)]
        other = self.labels.columns.drop(known, errors="ignore")
        rest = f" Columns of values other than 1 and 0: {', '.join(other)}." if len(other) else ""
        count = len(self.drawn)
        among = f" among the {count} drawn at random" if count < len(self.labels) else ""
        return f"{text}. Share of ones{among}: {ones}.{rest}"


def make(config: MakePopulation, folder: Path) -> Population:
    """Makes the population that the parameters describe.

    Writes `images/images.npy`, `labels.csv` and `files.csv` to the run folder. ValueError if a
    source is unreadable, or its labels do not match its images.
    """
    table, origin, rules = None, config.labels_csv, config.label_rules
    if config.source == "faces":
        files, origin = _draw_faces(config, folder), "the built-in faces"
        drawn = range(config.labelled_images)
        table = draw_attributes(drawn, seed=config.seed, shares=config.shares)
        table = table.rename_axis("img_no").reset_index()
    elif config.source == "celeba":
        attributes, pictures = find_celeba(in_project(config.image_folder))
        table, origin = read_attributes(attributes), str(attributes)
        files, rules = _import(pictures, folder, config), rules or CELEBA_LABELS
    else:
        if config.labels_csv:  # before the images, which take longer to read
            table = read_labels(config, in_project(config.labels_csv))
        if config.source == "folder":
            files = _import(in_project(config.image_folder), folder, config)
        else:
            files = _sample(config, folder, config.labelled_images)
    return _label(files, table, rules, folder, origin)


def to_label(config: LabelImages, run: Run) -> tuple[np.ndarray, list[str]]:
    """The first `count` images to label by hand, uint8 (n, H, H, 3), and their n names.

    With `settle_csv`, only those on which people disagree. Stores the images in the run folder
    unless they come from a population.
    """
    folder = run.inputs.get("population_run", run.path)
    if folder != run.path:
        files = load_population(folder).files
    elif config.image_folder:  # writes no tables: the folder's labels.csv is manual work
        files = _import(in_project(config.image_folder), folder, config)
    else:
        files = _sample(config, folder, config.count)
    named = files[files["img_no"].notna()].sort_values("img_no")
    images = open_store(folder / "images" / "images.npy")[: config.count]
    names = named["file"].astype(str).tolist()[: config.count]
    if config.settle_csv:
        rows = to_settle(in_project(config.settle_csv), names)
        images, names = images[rows], [names[k] for k in rows]
    return images, names


def load_population(folder: Path, needed: Sequence[str] = ()) -> Population:
    """Reads a population from its run folder, and the rows with one of the needed labels.

    ValueError if a file, or a column of needed labels, is missing.
    """
    images = open_store(folder / "images" / "images.npy")
    labels = lb.read_table(folder / "labels.csv", ["img_no"])
    files = lb.read_table(folder / "files.csv", FILE_FACTS)
    properties = lb.label_columns(labels, strict=False)
    if missing := [name for name in needed if name not in properties]:
        name, remedy = missing[0], "Make them with notebooks/label_images.ipynb and pass its table"
        if name in labels:
            cells = labels[name].dropna().unique()[:3].tolist()
            remedy = f"Its column has {cells}: write 1 (yes) and 0 (no) in the table, and pass it"
        raise ValueError(
            f"{folder}: has labels for {properties}, but none for {name!r}. {remedy} to "
            f"01_make_population as `labels_csv`, or remove the property."
        )
    if needed:  # images chosen for other properties have none of them
        labels = labels.dropna(subset=list(needed), how="all", ignore_index=True)
    return Population(images, labels, files, properties)


def _draw_faces(config: MakePopulation, folder: Path) -> pd.DataFrame:
    count, options = config.labelled_images, config.pick("seed image_px shares")
    firsts = track(range(0, count, FACES_AT_ONCE), "Drawing faces")
    images = (render_faces(range(count)[k : k + FACES_AT_ONCE], **options) for k in firsts)
    return _store(images, [f"face {k}" for k in range(count)], folder, config.image_px)


def _sample(config: MakePopulation | LabelImages, folder: Path, count: int) -> pd.DataFrame:
    generator = load_generator(in_project(config.generator_file)).to(pick_device("auto"))
    draws = sample_images(generator, count, seed=config.seed)
    images = (batch.cpu().numpy() for batch in track(draws, "Sampling", total=-(-count // 100)))
    return _store(images, [f"{k:06d}" for k in range(count)], folder, generator.image_px)


def _store(
    batches: Iterable[np.ndarray], names: Sequence[str], folder: Path, image_px: int
) -> pd.DataFrame:
    """Writes images that have no file to the store of a run; returns one row per image."""
    with new_store(folder / "images" / "images.npy", image_px) as store:
        for batch in batches:
            store.append(batch)
    rows = [(k, name, "read", "") for k, name in enumerate(names)]
    return pd.DataFrame(rows, columns=FILE_FACTS).astype({"img_no": "Int64"})


def _import(pictures: Path, folder: Path, config: MakePopulation | LabelImages) -> pd.DataFrame:
    """Imports files into the store of a run; returns one row per file, skipped ones included."""
    paths = find_images(pictures)
    with new_store(folder / "images" / "images.npy", config.image_px) as store:
        steps = import_images(store, paths, pictures, **config.pick("fit"))
        rows = list(track(steps, "Reading images", total=len(paths)))
        if not store.count:
            _, name, _, detail = rows[0]
            raise ValueError(
                f"{pictures}: none of its {len(paths)} image files is readable; the first is "
                f"{name} ({detail}). Correct the files or `image_folder`."
            )
    return pd.DataFrame(rows, columns=FILE_FACTS).astype({"img_no": "Int64"})


def _keep_labelled(files: pd.DataFrame, rows: pd.Series) -> None:
    """Of files with the same pixels, keeps one that the rows of a label table name."""
    places, named = dict(zip(files["file"], files.index, strict=True)), set(rows.dropna())
    for k in files.index[files["status"] == "duplicate"]:
        first = places[files.at[k, "detail"].removeprefix(SAME_PIXELS)]
        if k in named and first not in named:
            facts = ["img_no", "status"]
            files.loc[[k, first], facts] = files.loc[[first, k], facts].to_numpy()
            files.loc[[k, first], "detail"] = ["", SAME_PIXELS + files.at[k, "file"]]
            named.add(first)


def _label(
    files: pd.DataFrame,
    table: pd.DataFrame | None,
    rules: Mapping[str, str],
    folder: Path,
    origin: str,
) -> Population:
    """Joins labels to images, marks unlabelled images, and writes both tables."""
    labels, properties = pd.DataFrame(columns=["img_no"]), []
    if table is not None:
        rows = lb.match_rows(table, files["file"].tolist(), origin)
        _keep_labelled(files, rows)
        labels, properties = lb.with_properties(table, rules, origin)
        labels.insert(0, "img_no", files["img_no"].reindex(rows).array)
        named = next((name for name in lb.FILE_COLUMNS if name in table), "img_no")
        names = table[named].astype(str).radd("img_no " if named == "img_no" else "")
        unused = rows[rows.notna() & labels["img_no"].isna()]
        files.loc[unused, "detail"] += "; its label is ignored"
        chosen, empty = bool(lb.fact_columns(labels)), labels[properties].isna()
        # Images chosen for one property need no label of the others.
        partly = labels["img_no"].notna() & (empty.all(axis=1) if chosen else empty.any(axis=1))
        how_many = "all" if chosen else "some"
        files.loc[rows[partly], "detail"] = f"{how_many} of its labels are empty"
        detail = "has a row in the label table, but no image matches it"
        absent = {"file": names[rows.isna()], "status": "no image", "detail": detail}
        files = pd.concat([files, pd.DataFrame(absent)], ignore_index=True)
        labels = labels[labels["img_no"].notna() & ~partly]
        labels = labels.sort_values("img_no", ignore_index=True)
        kind = "Int64" if chosen else "int64"
        labels = labels.astype({"img_no": "int64", **dict.fromkeys(properties, kind)})
    bare = (files["status"] == "read") & ~files["img_no"].isin(labels["img_no"])
    files.loc[bare, "status"] = "unlabelled"
    lb.save_table(folder / "labels.csv", labels)
    lb.save_table(folder / "files.csv", files)
    return Population(open_store(folder / "images" / "images.npy"), labels, files, properties)
