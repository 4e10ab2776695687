"""Feeds broken weight files and pictures to the loaders, at length.

`python -m tests.system.faults.fuzz --minutes 5 --seed 0` takes files that are right, breaks them,
and reads them. Each must give a network, a picture, or a ValueError of one line, within seconds
and a few gigabytes. Anything else is printed, its file is kept, and the exit status is 1. A
process that dies is started again, so a crash in a decoder is found too.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import json
import multiprocessing
import pickle
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from ohlora_lib.io.image_files import read_image
from ohlora_lib.io.weights import describe, save_weights
from ohlora_lib.nets import Discriminator, Generator, PropertyCNN

SLOW_SEC = 20
MOST_BYTES = 6 * 2**30  # of memory a loader may take, torch itself included
TAILS = [b"\0", b"\xff" * 8, b"\x7f\xff\xff\xff", b"\x00\x00\x00\x01", b"\xff\xff\xff\x7f"]
FORMATS = ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm", "tga", "ico", "jpeg2000")
MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "I;16", "I", "F", "CMYK")


class Trap:
    """Makes a file where it is unpickled without care."""

    def __reduce__(self) -> tuple:
        return open, ("trap", "w")


def weight_files(folder: Path) -> list[tuple[str, bytes]]:
    """Small weight files of every kind and form: suffix and content."""
    torch.manual_seed(0)
    nets = [
        Generator(8, z_dim=4, w_dim=4, fmaps_base=16, num_properties=2, wide_dim=3),
        Discriminator(8, fmaps_base=16),
        PropertyCNN("age", image_px=64, width=0.02),
    ]
    found = [(".pth", pickle.dumps({"g": Trap()}))]
    for net in nets:
        save_weights(net, folder / "net.safetensors")
        found.append((".safetensors", (folder / "net.safetensors").read_bytes()))
        for old in (False, True):
            file = io.BytesIO()
            torch.save({"net": net.state_dict()}, file, _use_new_zipfile_serialization=not old)
            found.append((".pth", file.getvalue()))
    return found


def pictures(_: Path) -> list[tuple[str, bytes]]:
    """Small pictures of every format and mode that Pillow writes: suffix and content."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    found = []
    for kind in FORMATS:
        for mode in MODES:
            picture = Image.fromarray(pixels)
            picture = (
                picture.convert("I").convert("I;16") if mode == "I;16" else picture.convert(mode)
            )
            exif, file = Image.Exif(), io.BytesIO()
            exif[0x0112] = 6
            try:
                picture.save(file, kind, exif=exif)
            except (OSError, ValueError, KeyError):
                continue  # a mode this format lacks
            found.append((f".{kind}", file.getvalue()))
    frames = [Image.new("RGB", (8, 8), (k, 0, 0)) for k in range(3)]
    for kind in ("gif", "webp", "png", "tiff"):
        file = io.BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=frames[1:])
        found.append((f".{kind}", file.getvalue()))
    return found


def read_weights(path: Path) -> None:
    """What `ohlora weights info` does."""
    describe(path)


def read_picture(path: Path) -> None:
    """What an import of a folder does."""
    for fit in ("crop", "pad"):
        assert read_image(path, 16, fit=fit).shape == (16, 16, 3)


TARGETS: dict[str, tuple[Callable, Callable]] = {
    "weights": (weight_files, read_weights),
    "pictures": (pictures, read_picture),
}


def edited(data: bytes) -> st.SearchStrategy[bytes]:
    """A file with some of its bytes changed, lost, doubled or added."""
    places = st.integers(0, len(data)) | st.integers(0, min(len(data), 160))
    piece = st.binary(max_size=8) | st.sampled_from(TAILS)
    edit = st.tuples(st.sampled_from(["set", "cut", "add", "end", "twice"]), places, piece)

    def apply(edits: list[tuple[str, int, bytes]]) -> bytes:
        changed = data
        for what, place, new in edits:
            head, tail = changed[:place], changed[place:]
            changed = {
                "set": head + new + tail[len(new) :],
                "cut": head + tail[len(new) * 4 :],
                "add": head + new + tail,
                "end": head,
                "twice": head + tail[:64] + tail,
            }[what]
        return changed

    return st.lists(edit, min_size=1, max_size=6).map(apply)


def edited_header(data: bytes) -> st.SearchStrategy[bytes]:
    """A .safetensors file whose header, still JSON, says something else."""
    size = struct.unpack("<Q", data[:8])[0]
    facts = json.loads(data[8 : 8 + size])
    words = st.sampled_from(["0", "-1", "1e99", "nan", "[1,2]", "[[[", "\x1b[2J", "9" * 99])
    dtypes = st.sampled_from(["F16", "BF16", "F64", "I8", "BOOL", "F8_E4M3", "F4", "C64", "U64"])

    def apply(name: str, key: str, word: str, dtype: str, shape: list[int]) -> bytes:
        new = json.loads(json.dumps(facts))
        if name == "__metadata__":
            new[name] = {**new[name], key: word}
        else:
            new[name]["shape"] = shape if key == "width" else new[name]["shape"][::-1]
            new[name]["dtype"] = dtype if key == "crop" else new[name]["dtype"]
        head = json.dumps(new).encode()
        return struct.pack("<Q", len(head)) + head + data[8 + size :]

    keys = st.sampled_from(["width", "crop", "image_px", "property", "kind"])
    shapes = st.lists(st.sampled_from([0, 1, 2, 3, 2**31, 2**62]), max_size=5)
    return st.builds(apply, st.sampled_from(sorted(facts)), keys, words, dtypes, shapes)


def inputs(files: list[tuple[str, bytes]]) -> st.SearchStrategy[tuple[str, bytes]]:
    """Broken files, and now and then any bytes at all."""
    ways = []
    for suffix, data in files:
        ways.append(st.tuples(st.just(suffix), edited(data)))
        if suffix == ".safetensors":
            ways.append(st.tuples(st.just(suffix), edited_header(data)))
    ends = st.sampled_from(sorted({suffix for suffix, _ in files}))
    return st.one_of(*ways, st.tuples(ends, st.binary(max_size=300)))


@dataclass
class Tally:
    """What was fed, and what came of it."""

    counts: Counter = field(default_factory=Counter)
    problems: dict[str, str] = field(default_factory=dict)


def feed(read: Callable, path: Path, tally: Tally) -> None:
    """Reads one broken file and says what is not as it must be."""
    signal.alarm(SLOW_SEC)
    try:
        read(path)
        tally.counts["read"] += 1
        return
    except ValueError as error:
        if (
            path.name in str(error)
            and len(str(error).splitlines()) == 1
            and type(error) is ValueError
        ):
            tally.counts["refused in one line"] += 1
            return
        problem = f"not one line that names the file: {error!r}"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        problem = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {error}"
    finally:
        signal.alarm(0)
    tally.counts["not as it must be"] += 1
    kind = problem[:60]
    if kind not in tally.problems:
        kept = path.with_name(f"kept-{len(tally.problems)}{path.suffix}")
        kept.write_bytes(path.read_bytes())
        tally.problems[kind] = f"{kept}: {problem}"


def work(target: str, number: int, until: float, folder: Path, answers: object) -> None:
    """Feeds one loader until the time is over; its own process."""
    faulthandler.enable()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    make, read = TARGETS[target]
    strategy, tally = inputs(make(folder)), Tally()
    while time.time() < until:

        @seed(number)
        @settings(
            max_examples=200,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(broken=strategy)
        def batch(broken: tuple[str, bytes]) -> None:
            if time.time() < until:
                path = folder / f"broken{broken[0]}"
                path.write_bytes(broken[1])
                feed(read, path, tally)

        batch()
        number += 1
        answers.put((number, dict(tally.counts), dict(tally.problems)))


def run(target: str, number: int, seconds: float, folder: Path) -> Tally:
    """Feeds one loader, and starts again where its process died."""
    context, until, total = multiprocessing.get_context("spawn"), time.time() + seconds, Tally()
    while time.time() < until:
        answers = context.Queue()
        process = context.Process(target=work, args=(target, number, until, folder, answers))
        process.start()
        counts: dict[str, int] = {}
        while process.is_alive() or not answers.empty():
            try:
                number, counts, problems = answers.get(timeout=1)
            except OSError:
                break
            except Exception:  # queue.Empty: nothing new yet
                continue
            total.problems |= problems
        process.join()
        total.counts.update(counts)
        if process.exitcode:
            kept = [path.rename(path.with_name(f"died-{number}{path.suffix}"))
                    for path in folder.glob("broken.*")]  # fmt: skip
            total.counts["died"] += 1
            total.problems[f"died {number}"] = f"{kept}: the process ended with {process.exitcode}"
            number += 1
    if (Path.cwd() / "trap").exists():
        total.problems["trap"] = "code in a weight file was executed: ./trap is there"
    return total


def main() -> None:
    """Reads the command line, feeds every loader, prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=TARGETS, help="one loader")
    asked = parser.parse_args()
    targets = [asked.only] if asked.only else list(TARGETS)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    problems: list[str] = []
    for target in targets:
        place = folder / target
        place.mkdir()
        total = run(target, asked.seed, asked.minutes * 60 / len(targets), place)
        counts = ", ".join(f"{count:,} {what}" for what, count in sorted(total.counts.items()))
        sys.stdout.write(f"{target}: {counts or 'nothing'}\n")
        problems += total.problems.values()
    sys.stdout.write("".join(f"  {problem}\n" for problem in problems) or "Nothing found.\n")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
