"""The mistakes: command lines, params files, run folders, tables, pictures, weights."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from ohlora_lib.io.weights import save_weights
from ohlora_lib.nets import Discriminator, Generator
from tests.system.bad_inputs.cases import BASE, FINISHED, Bad, Content, noise, said, stage

NET = {"z_dim": 8, "w_dim": 8, "fmaps_base": 64}
POPULATION, CNN = "01_make_population", "03_train_property_cnn"
TUNED = "outputs/tiny/05_finetune_generator"
GRID = f"{TUNED}/images/fixed-epoch0-idx0.png"


def tuned(config: str, grid: bytes = b"") -> dict[str, Content]:
    """A finished fine-tuning with one grid."""
    return {f"{TUNED}/summary.json": FINISHED, f"{TUNED}/config.json": config,
            GRID: grid or noise()}  # fmt: skip


COMMANDS = [
    said("a study that is not there", "run params/tinny", "params/tinny", "no such folder"),
    said("a run with damaged parameters", f"film {TUNED} a.webp --walk 0,1", "config.json",
         "damaged", "Run the stage again", files=tuned('{"base_run": ')),
    said("a run without its base", f"film {TUNED} a.webp --walk 0,1", "base_run is ''",
         files=tuned('{"seed": 0}')),
    said("a picture cut off", f"film {TUNED} a.webp", GRID, "not a readable image",
         files=tuned("{}", noise(600))),
]  # fmt: skip


def linked(to: str) -> Callable[[Path], object]:
    """A link to a path beside it or above."""
    return lambda path: path.symlink_to(to)


def in_the_way(path: Path) -> None:
    """A file in the place of an empty folder."""
    path.rmdir()
    path.write_text("in the way")


LEARN = "properties: [hat]\npopulation_run: "
MADE = f"outputs/tiny/{POPULATION}"
PARAMS = [
    stage("a name given twice", "seed: 1\nbatch: 4\nseed: 2\n", "'seed'", "line 4", "keep one"),
    stage("code by a YAML tag", "seed: !!python/object/apply:os.system ['touch trap']",
          "python/object/apply", "write plain"),
    stage("not UTF-8", "study: tiny\nvariant: é\n".encode("latin-1"), "UTF-8"),
    said("a link to nowhere", "run params/tiny", BASE, "No such file", "Correct",
         files={BASE: linked("gone.yaml")}),
    said("a params file called .yml", "run params/tiny", "params/tiny/03.yml", ".yaml", "Rename",
         files={BASE: "study: tiny\n", "params/tiny/03.yml": "study: tiny\n"}),
    stage("an input run outside the project", f"{LEARN}../elsewhere", "'../elsewhere'",
          "outside", "outputs/", stem=CNN, files={"../elsewhere/summary.json": FINISHED}),
    stage("an input run that is a link out", f"{LEARN}{MADE}", "outside", "outputs/", stem=CNN,
          files={"../elsewhere/summary.json": FINISHED, MADE: linked("../../../elsewhere")}),
    stage("a run folder that is a link out", "seed: 1", "02_train_base", "outside", "link",
          files={"outputs/tiny/02_train_base": linked("../../params")}),
    said("a file where outputs go", "run params/tiny", "outputs/tiny", "Correct the path",
         "Correct", files={BASE: "study: tiny\n", "outputs/tiny": in_the_way}),
]  # fmt: skip

IMAGES = {"faces/a.png": noise(), "faces/b.png": noise()}
FOLDER = "source: folder\nimage_folder: faces\n"


def labelled(name: str, table: bytes | str, *words: str, rules: str = "") -> Bad:
    """A label table of two images that is wrong; found before anything is started."""
    return stage(name, f"{FOLDER}labels_csv: labels.csv\n{rules}", "labels.csv", *words,
                 stem=POPULATION, files={**IMAGES, "labels.csv": table})  # fmt: skip


POPULATIONS = [
    labelled("a label table without names", "hat\n1\n0\n", "['hat']", "Add `file`"),
    labelled("names of other images", "file,hat\nx,1\ny,0\n", "'x'", "none of its 2 rows"),
    labelled("percentages under a rule", "file,hat_score\na,95\nb,20\n", "hat_score = 95",
             "from 0 to 1", "Divide by 100", rules="label_rules: {hat: hat_score>=0.5}\n"),
    stage("a folder of images that is not there", FOLDER, "no such folder", "Correct the path",
          stem=POPULATION),
    stage("a folder without images", FOLDER, "['.txt']", "Known formats", stem=POPULATION,
          files={"faces/notes.txt": "x"}),
    stage("CelebA without its list", "source: celeba\nimage_folder: faces\n",
          "list_attr_celeba.txt", "Give CelebA's folder", stem=POPULATION, files=IMAGES),
]  # fmt: skip

SCORES = "img_no,gender_score\n0,0.99\n1,0.2\n"


def select(name: str, table: str, *words: str, more: str = "") -> Bad:
    """`ohlora select` of a table that is wrong."""
    return said(name, f"select scores.csv --keep gender>=0.9 {more}", "scores.csv", *words,
                files={"scores.csv": table})  # fmt: skip


TABLES = [
    said("a table that is not there", "select scores.csv --keep a>=1", "no such table", "Check"),
    select("percentages for scores", SCORES.replace("0.2", "95"), "row 1 has gender_score = 95",
           "from 0 to 1", "Divide by 100"),
    select("a table over itself", SCORES, "--out", "another name", more="--out scores.csv"),
    select("a file in the way of a folder", SCORES, "Correct", more="--out scores.csv/kept.csv"),
    said("a log of other columns", "compare log.csv", "log.csv", "loss_D", "--column",
         "without epoch, idx, d_loss, g_loss, mean_<property>_score",
         files={"log.csv": "when,loss_D,smile\n1,2,0.5\n2,2,0.5\n"}),
]  # fmt: skip


class Trap:
    """Makes the file `trap` where it is unpickled without care."""

    def __reduce__(self) -> tuple:
        return open, ("trap", "w")


def generator(path: Path) -> None:
    """A small generator."""
    save_weights(Generator(8, **NET), path)


def not_finite(path: Path) -> None:
    """A generator with a number that is none."""
    net = Generator(8, **NET)
    net.mapping.dense0.weight.data[0, 0] = float("nan")
    save_weights(net, path)


def zip_bomb(path: Path) -> None:
    """A .pth whose parts are compressed a thousand times: 64 MB of zeros in 64 KB."""
    torch.save(Generator(8, **NET).state_dict(), path)
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in parts.items():
            new.writestr(name, data + b"\0" * (name.endswith("data/0") * 2**26))


def info(name: str, content: Content, *words: str, file: str = "g.pth") -> Bad:
    """`ohlora weights info` of a bad file."""
    return said(name, f"weights info {file}", file, *words, files={file: content})


SAFE = "g.safetensors"
FILES = "source: files\ngenerator_file: {}\ndiscriminator_file: d.safetensors"
NETS = {"d.safetensors": lambda path: save_weights(Discriminator(8, fmaps_base=64), path)}
WEIGHTS = [
    info("a torch file with code", lambda path: torch.save({"g": Trap()}, path), "code",
         ".safetensors"),
    info("a zip bomb for weights", zip_bomb, "compressed", "Fetch it again"),
    info("a header that claims 16 exabytes", struct.pack("<Q", 2**64 - 1) + b"{}",
         "Fetch it again", file=SAFE),
    said("publishing into a full folder", f"weights publish {SAFE} params", "params", "not empty",
         "new folder", files={SAFE: generator}),
    stage("a base of the wrong kind", FILES.format("d.safetensors"), "d.safetensors",
          "holds a discriminator, not a generator", files=NETS),
    stage("a base with numbers that are none", FILES.format(SAFE), SAFE, "not finite",
          "Fetch it again", files={**NETS, SAFE: not_finite}),
]  # fmt: skip

MISTAKES = [*COMMANDS, *PARAMS, *POPULATIONS, *TABLES, *WEIGHTS]
