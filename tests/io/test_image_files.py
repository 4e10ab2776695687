"""Reading image files: the pixels people see, and nothing dropped without a word."""

import struct
import zlib
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image, features

from ohlora_lib.io.image_files import Importer, read_image
from ohlora_lib.io.images import new_store, open_store
from ohlora_lib.io.pictures import FORMATS, find_images
from ohlora_lib.study.openings import content_hash


def halves(width=40, height=20, left=(255, 0, 0), right=(0, 0, 255)):
    """Red on the left, blue on the right."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = left, right
    return Image.fromarray(pixels)


def test_centre_crop_and_pad(tmp_path):
    path = tmp_path / "wide.png"
    picture = halves(40, 20)
    picture.paste((0, 255, 0), (0, 0, 10, 20))  # a green edge, which the crop cuts off
    picture.save(path)
    cropped = read_image(path, 16)
    assert cropped.shape == (16, 16, 3)
    assert cropped.dtype == np.uint8
    assert tuple(cropped[8, 3]) == (255, 0, 0)
    assert tuple(cropped[8, 12]) == (0, 0, 255)
    padded = read_image(path, 16, fit="pad")
    assert tuple(padded[0, 8]) == (255, 255, 255)  # above a wide image
    assert padded[8, 1, 1] > 250  # the edge is still there
    assert padded[8, 1, 0] < 5


KINDS = {
    **dict.fromkeys((".jpg", ".jpe", ".jfif"), "JPEG"), ".jp2": "JPEG2000", ".jpx": "JPEG2000",
    **dict.fromkeys((".pgm", ".pbm", ".pnm"), "PPM"), **dict.fromkeys((".heic", ".heif"), "HEIF"),
    ".tif": "TIFF",
}  # fmt: skip
MODES = {".pgm": "L", ".pbm": "1"}


@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_every_known_suffix_is_read_or_says_what_it_needs(tmp_path, suffix):
    path, kind = tmp_path / f"a{suffix}", KINDS.get(suffix, suffix[1:].upper())
    head = {"HEIF": b"heic", "AVIF": b"avif"}.get(kind)
    if (kind == "HEIF" and not find_spec("pillow_heif")) or (
        kind == "AVIF" and not features.check("avif")
    ):
        path.write_bytes(b"\0\0\0\x18ftyp" + head + bytes(500))
        with pytest.raises(ValueError, match=f"a{suffix}: (HEIC|AVIF) needs: pip install"):
            read_image(path, 16)
        return
    if kind == "HEIF":
        import_module("pillow_heif").register_heif_opener()
    mode = MODES.get(suffix, "RGB")
    halves(32, 32, left=(255, 255, 255), right=(0, 0, 0)).convert(mode).save(path, kind)
    image = read_image(path, 16).astype(int)
    assert image[8, 3].min() > 240
    assert image[8, 12].max() < 15


def test_the_reason_is_said_without_the_path(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"a\.png: not a readable image \(its content is of no"):
        read_image(tmp_path / "a.png", 16)
    with pytest.raises(ValueError, match=r"b\.png: not a readable image \(no such file"):
        read_image(tmp_path / "b.png", 16)


def test_exif_orientation_is_honoured(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    halves(32, 32).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    image = read_image(tmp_path / "turned.jpg", 16).astype(int)
    assert image[8, 3, 2] > 200  # blue is on the left now
    assert image[8, 12, 0] > 200


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_become_white(tmp_path, mode):
    picture = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    picture.paste((200, 0, 0, 255), (0, 0, 10, 20))
    picture.convert(mode).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", 20)
    assert tuple(image[10, 15]) == (255, 255, 255)
    assert image[10, 3].tolist() != [255, 255, 255]


def test_sixteen_bit_grey_keeps_its_shades(tmp_path):
    grey = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", 32)
    assert image[0, 0, 0] < 5
    assert image[31, 31, 0] > 250
    assert 110 < image[16, 0, 0] < 145


def test_enlarged_from_one_pixel(tmp_path):
    Image.new("RGB", (1, 1), (9, 8, 7)).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png", 8) == (9, 8, 7)).all()


@pytest.mark.parametrize(
    "content", [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0garbage", b"GIF89a"]
)
def test_damaged_files_are_one_line(tmp_path, content):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a readable image") as caught:
        read_image(path, 16)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_files_are_one_line(tmp_path, share):
    rng = np.random.default_rng(0)
    for suffix in ("jpg", "png"):
        path = tmp_path / f"cut.{suffix}"
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        with pytest.raises(ValueError, match="not a readable image"):
            read_image(path, 16)


@pytest.mark.parametrize(
    ("mode", "suffix", "options"),
    [
        ("CMYK", "jpg", {}),
        ("CMYK", "tiff", {}),
        ("YCbCr", "jpg", {"progressive": True}),
        ("P", "png", {}),
        ("P", "gif", {}),
        ("1", "png", {}),
        ("L", "jpg", {}),
        ("LA", "png", {}),
        ("RGBA", "webp", {"lossless": True}),
    ],
)
def test_modes_of_cameras_and_print(tmp_path, mode, suffix, options):
    path = tmp_path / f"a.{suffix}"
    halves(32, 32, left=(255, 255, 255), right=(0, 0, 0)).convert(mode).save(path, **options)
    image = read_image(path, 16).astype(int)
    assert image[8, 3].min() > 240
    assert image[8, 12].max() < 15


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_of_an_animation_the_first_picture_is_taken(tmp_path, suffix):
    frames = [Image.new("RGB", (16, 16), color) for color in ("white", "black", "red")]
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with Image.open(path) as file:
        assert file.n_frames == 3
    assert read_image(path, 8).min() > 250


def png(width, height, body=b"\0" * 1000):
    """A PNG that says it is so large."""

    def chunk(kind, data):
        head = struct.pack(">I", len(data)) + kind + data
        return head + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = (b"IHDR", head), (b"IDAT", zlib.compress(body)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(11_000, 11_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_bombs_are_refused_by_their_size_before_they_are_unpacked(tmp_path, size):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(*size))
    with pytest.raises(ValueError, match=r"bomb\.png: not a readable image \(.*(pixels|size)"):
        read_image(path, 16)


def test_many_bytes_of_text_in_a_picture_are_no_memory(tmp_path):
    text = b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 2**27, 9)
    path = tmp_path / "text.png"
    data = png(8, 8, b"\0" * 72)
    chunk = struct.pack(">I", len(text[1])) + text[0] + text[1]
    chunk += struct.pack(">I", zlib.crc32(text[0] + text[1]))
    path.write_bytes(data[:33] + chunk + data[33:])
    with pytest.raises(ValueError, match="not a readable image"):
        read_image(path, 16)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
def test_no_program_is_started_to_draw_a_picture(tmp_path, monkeypatch, name):
    def refuse(*_, **__):
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.Popen", refuse)
    monkeypatch.setattr("subprocess.check_call", refuse)
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / name).write_bytes(script)
    with Image.open(tmp_path / name) as file:
        assert file.format == "EPS"  # Pillow would draw it, by Ghostscript
    with pytest.raises(ValueError, match="not a readable image"):
        read_image(tmp_path / name, 16)


def test_find_images_goes_into_folders_and_leaves_hidden_ones_out(tmp_path):
    for name in ("b.PNG", "a/c.jpg", ".hidden/d.png", "notes.txt", "a/.e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a/c.jpg", "b.PNG"]


def test_links_to_folders_are_followed_and_rings_end(tmp_path):
    store, faces = tmp_path / "store", tmp_path / "faces"
    files = ("store/inner/a.png", "store/b.png", "faces/real/c.png", "faces/d.png")
    for shade, name in enumerate(files):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        halves(left=(20 * shade, 0, 0)).save(tmp_path / name)
    (faces / "batch1").symlink_to(store)
    (faces / "alias").symlink_to("real")  # comes first, and is no second name of c.png
    (store / "ring").symlink_to(faces)
    (faces / "gone").symlink_to("/nowhere")
    (faces / "gone.png").symlink_to("/nowhere.png")
    paths = find_images(faces)
    names = ["batch1/b.png", "batch1/inner/a.png", "d.png", "gone.png", "real/c.png"]
    assert [path.relative_to(faces).as_posix() for path in paths] == names
    with new_store(tmp_path / "images.npy", 16) as writer:
        importer = Importer(writer)
        list(importer.run(paths, faces))
        importer.leave_out(faces)
    became = importer.table().set_index("file")[["status", "detail"]]
    assert (became.loc[["d.png", "batch1/inner/a.png"], "status"] == "read").all()
    assert became.loc["gone.png", "status"] == "unreadable"
    read_already = "leads to a folder that is read already"
    left_out = {"gone": "leads nowhere", "alias": read_already, "batch1/ring": read_already}
    assert became[became["status"] == "not entered"]["detail"].to_dict() == left_out


def test_the_hash_of_a_folder_sees_what_is_read_and_nothing_else(tmp_path):
    faces = tmp_path / "faces"
    (tmp_path / "store").mkdir()
    faces.mkdir()
    halves().save(faces / "a.png")
    (faces / "batch").symlink_to("../store")
    before = content_hash(faces)
    (faces / ".ipynb_checkpoints").mkdir()
    for name in (".DS_Store", "Thumbs.db", "notes.txt", ".ipynb_checkpoints/a.png", "._a.png"):
        (faces / name).write_bytes(b"new")
    assert content_hash(faces) == before
    seen = {before}
    for name in ("b.png", "list_attr_celeba.txt", "gender_0.pth", "batch/c.jpg"):
        (faces / name).write_bytes(b"new")
        seen.add(content_hash(faces))
    assert len(seen) == 5


def test_no_folder_and_no_images(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        find_images(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match=r"holds no image files; it has \['.txt'\]"):
        find_images(tmp_path)


def test_importer_keeps_each_image_once_and_names_the_rest(tmp_path):
    halves().save(tmp_path / "a.png")
    halves().save(tmp_path / "b.bmp")  # the same pixels in another format
    (tmp_path / "c.png").write_bytes(b"no image")
    halves(left=(0, 255, 0)).save(tmp_path / "d.png")
    with new_store(tmp_path / "images.npy", 16) as store:
        importer = Importer(store)
        assert list(importer.run(find_images(tmp_path), tmp_path)) == [4]
    table = importer.table()
    assert table["file"].tolist() == ["a.png", "b.bmp", "c.png", "d.png"]
    assert table["status"].tolist() == ["read", "duplicate", "unreadable", "read"]
    assert table["img_no"].dropna().tolist() == [0, 1]
    assert table["detail"][1] == "same pixels as a.png"
    images = open_store(tmp_path / "images.npy")
    assert images.shape == (2, 16, 16, 3)
    assert tuple(images[1, 8, 2]) == (0, 255, 0)


@pytest.mark.parametrize("top", [1, 255, 65535])
def test_measured_grey_keeps_its_shades(tmp_path, top):
    ramp = np.linspace(0, top, 64, dtype=np.float32).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "f.tif")
    assert np.ptp(read_image(tmp_path / "f.tif", 8)) == 255


@pytest.mark.parametrize("value", [np.nan, -1, 1e9])
def test_measured_grey_out_of_range_is_one_line(tmp_path, value):
    Image.fromarray(np.full((8, 8), value, dtype=np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(ValueError, match="not from 0 to 65,535"):
        read_image(tmp_path / "f.tif", 8)
