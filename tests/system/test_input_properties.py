"""Any untrusted file gives a valid object or an error of one line, never another exception."""

import io

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ohlora_lib.io.conversion import convert, describe
from ohlora_lib.io.pictures import read_image
from ohlora_lib.io.weights import save_weights
from ohlora_lib.nets import Discriminator, Generator, PropertyCNN
from ohlora_lib.population.agreement import merge_tables
from ohlora_lib.population.labels import match_rows, read_table
from ohlora_lib.population.labels import with_properties as labelled
from ohlora_lib.verdict import logs
from tests.official_file import official_file, trapped

quick = settings(
    max_examples=80,
    deadline=None,  # the first example imports
    derandomize=True,  # the same in every run
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def outcome(read, path, *rest):
    """Returns what was read, or None after a ValueError of one line that names the file."""
    try:
        return read(path, *rest)
    except ValueError as error:
        said = error
    assert type(said) is ValueError
    assert len(str(said).splitlines()) == 1
    assert path.name in str(said)
    return None


TAILS = [b"\0", b"\xff" * 8, b"\x7f\xff\xff\xff", b"\x00\x00\x00\x01", b"\xff\xff\xff\x7f"]


@st.composite
def broken(draw, files):
    """One of the files, with its suffix; some bytes are changed, removed, repeated or added."""
    suffix, data = draw(st.sampled_from(files))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, min(len(data), 160)) | st.integers(0, len(data)))
        new = draw(st.binary(max_size=8) | st.sampled_from(TAILS))
        head, tail = data[:place], data[place:]
        ways = [head + new + tail[len(new) :], head + tail[4 * len(new) :], head + new + tail,
                head, head + tail[:64] + tail]  # fmt: skip
        data = draw(st.sampled_from(ways))
    return suffix, data


def picture_files():
    """Small pictures in formats and modes that Pillow can write."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    kinds = {"png": "RGBA", "jpeg": "CMYK", "gif": "P", "bmp": "RGB", "tiff": "L", "webp": "RGB",
             "ppm": "1", "tga": "RGB", "ico": "RGBA", "jpeg2000": "RGB"}  # fmt: skip
    for kind, mode in kinds.items():
        file = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(file, kind)
        yield f".{kind}", file.getvalue()


@pytest.mark.filterwarnings("ignore")
@quick
@given(file=broken(list(picture_files())))
def test_broken_pictures_read_or_say_why(tmp_path, file):
    path = tmp_path / f"broken{file[0]}"
    path.write_bytes(file[1])
    picture = outcome(read_image, path, 16)
    assert picture is None or picture.shape == (16, 16, 3)


@pytest.fixture(scope="module")
def weight_files(tmp_path_factory):
    """Small weight files of every network and file format."""
    path, found = tmp_path_factory.mktemp("weights") / "net.safetensors", []
    generator = Generator(8, z_dim=4, w_dim=4, fmaps_base=16, num_properties=2, wide_dim=3)
    cnn = PropertyCNN("age", image_px=64, width=0.02)
    for net in (generator, Discriminator(8, fmaps_base=16), cnn):
        save_weights(net, path)
        found.append((".safetensors", path.read_bytes()))
        for new in (True, False):
            file = io.BytesIO()
            torch.save({"net": net.state_dict()}, file, _use_new_zipfile_serialization=new)
            found.append((".pth", file.getvalue()))
    with pytest.MonkeyPatch.context() as monkeypatch:
        trapped(monkeypatch, path.with_name("trap"))
        official_file(path)
        found += [(".pkl", path.read_bytes())] * 6  # half of all files
        convert(
            path.rename(path.with_suffix(".pkl")), path.with_suffix(".pt"), layout="rosinality"
        )
    found.append((".pt", path.with_suffix(".pt").read_bytes()))
    return found


@quick
@given(data=st.data())
def test_broken_weights_read_or_say_why(tmp_path, weight_files, data):
    suffix, content = data.draw(broken(weight_files))
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    outcome(describe, path)


ODD = ["", "0", "1", "-1", "1e5", "nan", "inf", "NA", "0x1", "1_0", "yes"]
ODD += ['"', '"a', ",", ";", "\t", "\0", "\r", "\n", "é", "\ufeff", "\u2028", "=1+1", " 1"]
HEADS = ["file", "img_no", "hat", "age", "path", "epoch", "idx", "d_loss", "g_loss"]
HEADS += ["real_fake_auroc", "mean_hat_score", "", "Unnamed: 0", "a.1"]
LETTERS = "".join(map(chr, range(32, 256))) + "\0\t\n\r\u0416\u05d0\u4e2d\u200b\U0001f600"
cells = st.sampled_from(ODD) | st.text(LETTERS, max_size=4)  # of all letters, the table takes long
numbers = st.sampled_from(["0", "1", "2", "0.5", "", "nan"])


@st.composite
def tables(draw, heads=HEADS):
    """A table that may be well-formed or malformed."""
    columns = draw(
        st.lists(st.sampled_from(heads), min_size=1, max_size=8, unique=draw(st.booleans()))
    )
    cell = draw(st.sampled_from([numbers, numbers | cells]))
    width = st.just(len(columns)) if draw(st.booleans()) else st.integers(0, 9)
    rows = [[draw(cell) for _ in range(draw(width))] for _ in range(draw(st.integers(0, 5)))]
    end = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    return end.join(",".join(row) for row in [columns, *rows]).encode("utf-8", "surrogatepass")


@quick
@given(content=tables() | st.binary(max_size=200))
def test_label_tables_read_or_say_why(tmp_path, content):
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    table = outcome(read_table, path, [])
    if table is not None:
        found = outcome(lambda path: labelled(table, {"cap": "hat>=1"}, str(path)), path)
        for name in found[1] if found else ():
            assert set(found[0][name].dropna()) <= {0, 1}
        files = ["0.png", "1.png", "sub/a.png"]
        outcome(lambda path: match_rows(table, files, str(path)), path)
        outcome(lambda path: merge_tables([path, path]), path)


@quick
@given(content=tables() | tables(HEADS[5:]) | st.binary(max_size=200))
def test_logs_read_or_say_why(tmp_path, content):
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    log = outcome(logs.read_log, path)
    if log is not None:
        assert (log["time_epochs"].diff().dropna() > 0).all()
