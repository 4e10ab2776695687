"""Mistakes in label tables, score tables, training logs and image folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.log_samples import make_log, write
from tests.system.bad_inputs.cases import Bad
from tests.system.bad_inputs.params_cases import stage, written


def images(root: Path) -> None:
    """Two readable images in `faces/`."""
    (root / "faces").mkdir()
    for name, shade in (("a", 20), ("b", 200)):
        Image.new("L", (16, 16), shade).save(root / "faces" / f"{name}.png")


def labelled(name: str, table: bytes | str, *words: str, rules: str = "") -> Bad:
    """A label table of two images that is wrong; found before anything is started."""
    text = f"source: folder\nimage_folder: faces\nlabels_csv: labels.csv\n{rules}"
    return stage(name, text, "labels.csv", *words, stem="01_make_population",
                 also=lambda root: [images(root), written("labels.csv", table)(root)])  # fmt: skip


def folder(
    name: str, prepare: Callable[[Path], object], *words: str, source: str = "folder"
) -> Bad:
    """An image folder that is wrong."""
    text = f"source: {source}\nimage_folder: faces\n"
    return stage(name, text, "faces", *words, stem="01_make_population", also=prepare)


def celeba(content: str) -> Callable[[Path], object]:
    """CelebA's layout with an attribute list."""

    def prepare(root: Path) -> None:
        (root / "faces" / "img_align_celeba").mkdir(parents=True)
        Image.new("L", (16, 16)).save(root / "faces" / "img_align_celeba" / "000001.jpg")
        written("faces/list_attr_celeba.txt", content)(root)

    return prepare


LABELS = [
    labelled("a label table without names", "hat\n1\n0\n", "['hat']", "Add `file`"),
    labelled("a column twice", "file,hat,hat\na,1,0\nb,0,1\n", "'hat'", "twice", "Rename"),
    labelled("a row too long", "file,hat\na,1\nb,0,1\n", "line 3 has 3", "remove"),
    labelled("a label of 2", "file,hat\na,1\nb,0\nc,0\nd,2\n", "row 3 has hat = 2", "Correct"),
    labelled("semicolons", "file;hat\na;1\nb;0\n", "'file;hat'", "commas"),
    labelled("a header only", "file,hat\n", "no rows", "Label"),
    labelled("a picture for a table", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\xfe", "UTF-8"),
    labelled("an image named twice", "file,hat\na,1\na,0\n", "'a'", "more than once", "drop"),
    labelled("names of other images", "file,hat\nx,1\ny,0\n", "'x'", "none of its images"),
    labelled("a rule on no column", "file,hat\na,1\nb,0\n", "'cap'", "Correct `label_rules`",
             rules="label_rules: {hat: cap>=1}\n"),
    labelled("percentages under a rule", "file,hat_score\na,95\nb,20\n", "hat_score = 95",
             "from 0 to 1", "Divide by 100", rules="label_rules: {hat: hat_score>=0.5}\n"),
    stage("a label table that is not there", "source: folder\nimage_folder: faces\n"
          "labels_csv: gone.csv", "'gone.csv'", "no such file", "Correct the path",
          stem="01_make_population", also=images),
]  # fmt: skip

FOLDERS = [
    folder("a folder of images that is not there", lambda root: None, "no such folder",
           "Correct the path"),
    folder("a folder without images", written("faces/notes.txt", "x"), "['.txt']",
           "Known formats"),
    folder("CelebA without its list", images, "list_attr_celeba.txt", "Give CelebA's folder",
           source="celeba"),
    folder("CelebA's list cut off", celeba("9\nMale Young\n000001.jpg 1 -1\n"), "says 9",
           "Fetch it again", source="celeba"),
]  # fmt: skip

SCORES = "img_no,gender_score\n0,0.99\n1,0.2\n"


def select(name: str, table: bytes | str | None, *words: str, keep: str = "gender>=0.9",
           more: tuple[str, ...] = (), file: str = "scores.csv") -> Bad:  # fmt: skip
    """`ohlora select` of a table that is wrong."""
    prepare = (lambda root: None) if table is None else written("scores.csv", table)
    return Bad(name, ("select", file, "--keep", keep, *more), words, prepare)


TABLES = [
    select("a score table that is not there", None, "scores.csv", "no such table", "Check"),
    select("a folder for a table", None, "params", "folder", "file", file="params"),
    select("no score of a property", SCORES, "scores.csv", "'hat'", "Correct", keep="hat>=0.9"),
    select("a word for a score", SCORES.replace("0.2", "high"), "scores.csv", "'high'", "number"),
    select("percentages for scores", SCORES.replace("0.2", "95"), "scores.csv", "row 1 has "
           "gender_score = 95", "from 0 to 1", "Divide by 100"),
    select("logits for scores", "gender_score\n-3.2\n7.5\n", "row 0 has gender_score = -3.2",
           "1 / (1 + exp(-x))"),
    select("nothing kept", SCORES, "scores.csv", "gender", "Loosen", keep="gender>=0.999"),
    select("a table over itself", SCORES, "--out", "scores.csv", "another name",
           more=("--out", "scores.csv")),
    select("a file in the way of a folder", SCORES, "scores.csv", "Correct",
           more=("--out", "scores.csv/kept.csv")),
]  # fmt: skip


def merge(name: str, first: str, second: str, *words: str, out: str = "both.csv") -> Bad:
    """`ohlora labels merge` of two tables."""

    def prepare(root: Path) -> None:
        written("a.csv", first)(root)
        written("b.csv", second)(root)

    return Bad(name, ("labels", "merge", "a.csv", "b.csv", "--out", out), words, prepare)


MERGED = [
    merge("tables without a common column", "file,hat\na,1\n", "img_no,hat\n0,1\n", "a.csv, b.csv",
          "needs `file` or `img_no`"),
    merge("a label of 7 in one table", "file,hat\na,1\n", "file,hat\na,7\n", "b.csv", "7",
          "Correct"),
]  # fmt: skip


def log(name: str, change: Callable[[str], bytes | str], *words: str,
        more: tuple[str, ...] = ()) -> Bad:  # fmt: skip
    """A training log that is wrong."""

    def prepare(root: Path) -> None:
        content = change(write(make_log(), root / "log.csv").read_text())
        written("log.csv", content)(root)

    return Bad(name, ("compare", "log.csv", *more), ("log.csv", *words), prepare)


def swapped(old: str, new: str) -> Callable[[str], str]:
    """The log with one text in the place of another."""
    return lambda text: text.replace(old, new, 1)


def cell(column: str, value: str) -> Callable[[str], str]:
    """The log with one value in its fifth row."""

    def change(text: str) -> str:
        lines = [line.split(",") for line in text.splitlines()]
        lines[5][lines[0].index(column)] = value
        return "\n".join(map(",".join, lines)) + "\n"

    return change


LOGS = [
    Bad("a log that is not there", ("compare", "log.csv"), ("log.csv", "no such file", "Check")),
    log("a log cut off", lambda text: text[:-30], "line 25", "cut off", "remove that line"),
    log("a log of other columns", lambda _: "when,loss_D,smile\n1,2,0.5\n2,2,0.5\n",
        "columns epoch, idx, d_loss, g_loss, mean_<property>_score are", "loss_D", "--column"),
    log("a score over 1", cell("mean_age_score", "7"), "mean_age_score", "7", "from 0 to 1"),
    Bad("names for other logs", ("compare", "log.csv", "--names", "v8,v9"),
        ("2 names for 1 logs", "give each", "['v8', 'v9']"),
        lambda root: write(make_log(), root / "log.csv")),
]  # fmt: skip

CASES = [*LABELS, *FOLDERS, *TABLES, *MERGED, *LOGS]
