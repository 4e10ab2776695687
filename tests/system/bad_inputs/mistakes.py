"""Users' mistakes: the command, the files, and the words that the error must contain."""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from ohlora_lib.io.weights import save_weights
from ohlora_lib.nets import Discriminator, Generator

BASE = "params/tiny/02_train_base.yaml"
FINISHED = json.dumps({"status": "finished", "results": {}, "artefacts": []})
NET = {"z_dim": 8, "w_dim": 8, "fmaps_base": 64}
POPULATION, CNN = "01_make_population", "03_train_property_cnn"
TUNED = "outputs/tiny/05_finetune_generator"
Content = bytes | str | Callable[[Path], object]  # a function receives the path


class Bad(NamedTuple):
    """One mistake."""

    name: str  # the mistake, for people
    command: str  # arguments of `ohlora`, run in the project
    words: tuple[str, ...]  # parts of the error: the file or flag, the value, what to do
    files: Mapping[str, Content]  # the bad files in an empty project, by path


def said(name: str, command: str, *words: str, files: Mapping[str, Content] | None = None) -> Bad:
    """A wrong command line, or one that names wrong files."""
    return Bad(name, command, words, {BASE: "study: tiny\n"} if files is None else files)


def stage(
    name: str, text: bytes | str, *words: str, stem: str = "02_train_base",
    files: Mapping[str, Content] | None = None,
) -> Bad:  # fmt: skip
    """A wrong params file of the study `tiny`."""
    path = f"params/tiny/{stem}.yaml"
    if isinstance(text, str) and "study:" not in text:
        text = f"study: tiny\n{text}"
    return Bad(name, "run params/tiny", (path, *words), {path: text, **(files or {})})


def noise() -> bytes:
    """An incompressible picture."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def png_bomb(side_px: int = 60_000) -> bytes:
    """A PNG whose header claims gigapixels."""
    head = struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)
    parts = {b"IHDR": head, b"IDAT": zlib.compress(b"\0" * 10**6, 9), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts.items()
    )


def tuned(config: str) -> dict[str, Content]:
    """A finished fine-tuning run."""
    return {f"{TUNED}/summary.json": FINISHED, f"{TUNED}/config.json": config}


COMMANDS = [
    said("a study that is not there", "run params/tinny", "params/tinny", "no such folder"),
    said("a run with damaged parameters", f"film {TUNED} a.webp --walk 0,1", "config.json",
         "malformed", "Run the stage again", files=tuned('{"base_run": ')),
    said("a run without its base", f"film {TUNED} a.webp --walk 0,1", "base_run is ''",
         files=tuned('{"seed": 0}')),
]  # fmt: skip


def linked(to: str) -> Callable[[Path], object]:
    """A symbolic link to a relative path."""
    return lambda path: path.symlink_to(to)


def in_the_way(path: Path) -> None:
    """Replaces an empty folder with a file."""
    path.rmdir()
    path.write_text("in the way")


LEARN = "properties: [hat]\npopulation_run: "
PARAMS = [
    stage("a name given twice", "seed: 1\nbatch: 4\nseed: 2\n", "'seed'", "line 4", "remove one"),
    stage("code by a YAML tag", "seed: !!python/object/apply:os.system ['touch trap']",
          "python/object/apply", "write plain"),
    stage("not UTF-8", "study: tiny\nvariant: é\n".encode("latin-1"), "UTF-8"),
    said("a link to nowhere", "run params/tiny", BASE, "No such file", "Correct",
         files={BASE: linked("gone.yaml")}),
    said("a params file called .yml", "run params/tiny", "params/tiny/03.yml", ".yaml", "Rename",
         files={BASE: "study: tiny\n", "params/tiny/03.yml": "study: tiny\n"}),
    stage("an input run outside the project", f"{LEARN}../elsewhere", "'../elsewhere'",
          "outside", "outputs/", stem=CNN, files={"../elsewhere/summary.json": FINISHED}),
    said("a file where outputs go", "run params/tiny", "outputs/tiny", "Correct the path",
         "Correct", files={BASE: "study: tiny\n", "outputs/tiny": in_the_way}),
]  # fmt: skip

IMAGES = {"faces/a.png": noise(), "faces/b.png": noise()}
FOLDER = "source: folder\nimage_folder: faces\n"


def labelled(name: str, table: bytes | str, *words: str, rules: str = "") -> Bad:
    """A wrong label table of two images; it is refused before any stage starts."""
    return stage(name, f"{FOLDER}labels_csv: labels.csv\n{rules}", "labels.csv", *words,
                 stem=POPULATION, files={**IMAGES, "labels.csv": table})  # fmt: skip


POPULATIONS = [
    labelled("a label table without names", "hat\n1\n0\n", "['hat']", "Add `file`"),
    labelled("names of other images", "file,hat\nx,1\ny,0\n", "'x'", "none of its 2 rows"),
    labelled("percentages under a rule", "file,hat_score\na,95\nb,20\n", "hat_score = 95",
             "from 0 to 1", "Divide by 100", rules="label_rules: {hat: hat_score>=0.5}\n"),
    stage("CelebA without its list", "source: celeba\nimage_folder: faces\n",
          "list_attr_celeba.txt", "Give CelebA's folder", stem=POPULATION, files=IMAGES),
]  # fmt: skip

SCORES = "img_no,gender_score\n0,0.99\n1,0.2\n"


def select(name: str, table: str, *words: str, more: str = "") -> Bad:
    """`ohlora select` on a wrong table."""
    return said(name, f"select scores.csv --keep gender>=0.9 {more}", "scores.csv", *words,
                files={"scores.csv": table})  # fmt: skip


TABLES = [
    select("percentages for scores", SCORES.replace("0.2", "95"), "line 3 has gender_score = 95",
           "from 0 to 1", "Divide by 100"),
    select("a table over itself", SCORES, "--out", "another name", more="--out scores.csv"),
    select("a file in the way of a folder", SCORES, "Correct", more="--out scores.csv/kept.csv"),
]  # fmt: skip


def generator(path: Path) -> None:
    """Saves a small generator."""
    save_weights(Generator(8, **NET), path)


def not_finite(path: Path) -> None:
    """Saves a generator with one NaN weight."""
    net = Generator(8, **NET)
    net.mapping.dense0.weight.data[0, 0] = float("nan")
    save_weights(net, path)


def zip_bomb(path: Path) -> None:
    """Saves a .pth with parts compressed a thousandfold: 64 MB of zeros in 64 KB."""
    torch.save(Generator(8, **NET).state_dict(), path)
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in parts.items():
            new.writestr(name, data + b"\0" * (name.endswith("data/0") * 2**26))


SAFE = "g.safetensors"
FILES = "source: files\ngenerator_file: {}\ndiscriminator_file: d.safetensors"
NETS = {"d.safetensors": lambda path: save_weights(Discriminator(8, fmaps_base=64), path)}
COMMAND = b"cposix\nsystem\n(S'touch trap'\ntR."  # a pickle; whoever runs it makes the file `trap`
WEIGHTS = [
    said("a zip bomb for weights", "weights info g.pth", "g.pth", "compressed", "Fetch it again",
         files={"g.pth": zip_bomb}),
    said("a pickle that runs a command", "weights info g.pkl", "g.pkl", "posix.system",
         "Nothing in it was executed", files={"g.pkl": COMMAND}),
    said("a .pth that runs a command", "weights info g.pth", "g.pth", "not a plain weight file",
         files={"g.pth": COMMAND}),
    said("a header that claims 16 exabytes", f"weights info {SAFE}", SAFE, "Fetch it again",
         files={SAFE: struct.pack("<Q", 2**64 - 1) + b"{}"}),
    said("publishing into a full folder", f"weights publish {SAFE} params", "params", "not empty",
         "new folder", files={SAFE: generator}),
    stage("a base with NaN weights", FILES.format(SAFE), SAFE, "not finite",
          "Fetch it again", files={**NETS, SAFE: not_finite}),
]  # fmt: skip

MISTAKES = [*COMMANDS, *PARAMS, *POPULATIONS, *TABLES, *WEIGHTS]
