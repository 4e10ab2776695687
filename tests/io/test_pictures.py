"""Picture files give the pixels that people see; a file that cannot be read raises."""

import io
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, features

from ohlora_lib.io.pictures import FORMATS, find_images, read_image, walk
from ohlora_lib.study.records import content_hash
from tests.checks import complaint
from tests.system.bad_inputs.mistakes import png_bomb


def halves(left=(255, 255, 255), right=(0, 0, 0)):
    """White on the left, black on the right, 32 px."""
    pixels = np.full((32, 32, 3), right, dtype=np.uint8)
    pixels[:, :16] = left
    return Image.fromarray(pixels)


def check_halves(path):
    image = read_image(path, 16).astype(int)
    assert image[8, 3].min() > 240
    assert image[8, 12].max() < 15


def test_centre_crop_and_pad(tmp_path):
    path = tmp_path / "wide.png"
    picture = Image.new("RGB", (40, 20), (0, 0, 255))
    picture.paste((255, 0, 0), (0, 0, 20, 20))
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


@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_every_known_suffix_is_read_or_says_what_it_needs(tmp_path, suffix):
    path, kind = tmp_path / f"a{suffix}", KINDS.get(suffix, suffix[1:].upper())
    lacks_heif = kind == "HEIF" and not find_spec("pillow_heif")
    if lacks_heif or (kind == "AVIF" and not features.check("avif")):
        path.write_bytes(b"\0\0\0\x18ftyp" + bytes(500))
        with pytest.raises(ValueError, match=f"a{suffix}: .*{suffix} needs: pip install"):
            read_image(path, 16)
        return
    with pytest.raises(ValueError, match="No such file"):
        read_image(path, 16)  # registers HEIF
    mode = {".pgm": "L", ".pbm": "1"}.get(suffix, "RGB")
    halves().convert(mode).save(path, kind)
    check_halves(path)


def test_modes_and_orientations_of_cameras_and_print(tmp_path):
    for mode, suffix, options in (
        ("CMYK", "jpg", {}), ("YCbCr", "jpg", {"progressive": True}), ("P", "gif", {}),
        ("1", "png", {}), ("LA", "png", {}), ("RGBA", "webp", {"lossless": True}),
    ):  # fmt: skip
        path = tmp_path / f"{mode}.{suffix}"
        halves().convert(mode).save(path, **options)
        check_halves(path)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    halves((0, 0, 0), (255, 255, 255)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    check_halves(tmp_path / "a.jpg")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_become_white(tmp_path, mode):
    picture = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    picture.paste((200, 0, 0, 255), (0, 0, 10, 20))
    picture.convert(mode).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", 20)
    assert tuple(image[10, 15]) == (255, 255, 255)
    assert image[10, 3].tolist() != [255, 255, 255]


def test_the_first_frame_of_an_animation_is_read(tmp_path):
    frames = [Image.new("RGB", (16, 16), color) for color in ("white", "black", "red")]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.webp", 8).min() > 250


@pytest.mark.parametrize(
    ("top", "kind", "suffix"),
    [(65535, np.uint16, "png"), *((top, np.float32, "tif") for top in (1, 255, 65535))],
)
def test_measured_grey_keeps_its_shades(tmp_path, top, kind, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.linspace(0, top, 64).reshape(8, 8).astype(kind)).save(path)
    image = read_image(path, 8)
    assert np.ptp(image) == 255
    assert 100 < image[4, 0, 0] < 155


@pytest.mark.parametrize("value", [np.nan, -1, 1e9])
def test_measured_grey_out_of_range_is_one_line(tmp_path, value):
    Image.fromarray(np.full((8, 8), value, dtype=np.float32)).save(tmp_path / "f.tif")
    assert "not from 0 to 65,535" in complaint(read_image, tmp_path / "f.tif", 8)


def long_text():
    """A small PNG that decompresses to 128 MiB of text."""
    text, file = PngImagePlugin.PngInfo(), io.BytesIO()
    text.add_text("Comment", "x" * 2**27, zip=True)
    halves().save(file, "png", pnginfo=text)
    return file.getvalue()


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
DAMAGED = {
    "PostScript, for which Pillow starts a program": (lambda: POSTSCRIPT, "format is unknown"),
    "121 megapixels": (lambda: png_bomb(11_000), "pixels"),
    "3.6 gigapixels": (png_bomb, "pixels"),
    "128 MiB of text": (long_text, "Decompressed"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("case", DAMAGED)
def test_damage_and_bombs_are_one_line(tmp_path, case):
    content, reason = DAMAGED[case]
    path = tmp_path / "bad.png"
    path.write_bytes(content())
    said = complaint(read_image, path, 16)
    assert "bad.png: not a readable image (" in said
    assert reason in said


def test_links_to_folders_are_followed_once_and_hidden_files_are_skipped(tmp_path):
    store, faces = tmp_path / "store", tmp_path / "faces"
    names = ["store/inner/a.png", "store/b.PNG", "faces/real/c.png", "faces/d.png"]
    for name in [*names, "faces/.hidden/e.png", "faces/._f.png", "faces/notes.txt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (faces / "batch1").symlink_to(store)
    (faces / "batch2").symlink_to(store)
    (faces / "alias").symlink_to("real")  # sorts first, but must not list c.png
    (store / "ring").symlink_to(faces)
    (faces / "gone.png").symlink_to("/nowhere.png")  # the import reports it
    found = [path.relative_to(faces).as_posix() for path in find_images(faces)]
    assert found == ["batch1/b.PNG", "batch1/inner/a.png", "d.png", "gone.png", "real/c.png"]


def test_the_hash_of_a_folder_sees_what_is_read_and_nothing_else(tmp_path):
    seen = [content_hash(tmp_path)]
    for name in (".DS_Store", "Thumbs.db", "._a.png", "b.png", "list_attr_celeba.txt", "g_0.pth"):
        (tmp_path / name).write_bytes(b"new")
        seen.append(content_hash(tmp_path))
    assert len(set(seen)) == len(set(seen[3:])) == 4


def test_no_folder_and_no_images(tmp_path):
    assert "no such folder" in complaint(find_images, tmp_path / "absent")
    assert "Correct the path." in complaint(walk, tmp_path / "absent.csv")
    (tmp_path / "notes.txt").write_text("")
    assert "holds no images (.txt)" in complaint(find_images, tmp_path)
