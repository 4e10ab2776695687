"""Images pass from disk to the networks and back without loss."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from ohlora_lib.io.images import (
    StoredImages,
    grid_image,
    hold,
    import_images,
    new_store,
    open_store,
    save_png,
    take,
)
from ohlora_lib.io.pictures import find_images
from tests.checks import complaint


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)


def test_a_store_grows_batch_by_batch_and_reads_as_one(tmp_path, images):
    with new_store(tmp_path / "a.npy", 8) as store:
        for first in range(0, 20, 8):
            store.append(images[first : first + 8])
        assert not (tmp_path / "a.npy").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]
    back = open_store(tmp_path / "a.npy")
    np.testing.assert_array_equal(back, images)
    assert isinstance(back, np.memmap)
    np.save(tmp_path / "b.npy", images)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_bad_stores(tmp_path):
    path = tmp_path / "x.npy"
    assert "x.npy: no such image store" in complaint(open_store, path)
    for array in (np.zeros((2, 8, 8, 3)), np.zeros((2, 8, 8), np.uint8)):
        np.save(path, array)
        with pytest.raises(ValueError, match=r"x\.npy: holds .* an image store is uint8"):
            open_store(path)
    np.save(path, np.zeros((2, 8, 8, 3), np.uint8))
    data = path.read_bytes()
    np.save(path, np.array([{}], dtype=object))
    for content in (path.read_bytes(), b"", data[:50], data[:-10]):
        path.write_bytes(content)
        assert "x.npy: not an image store" in complaint(open_store, path)


def test_grid_places_images_row_by_row(tmp_path, images):
    save_png(tmp_path / "a.png", grid_image(images[:5], columns=3))
    grid = np.asarray(Image.open(tmp_path / "a.png"))
    assert grid.shape == (18, 28, 3)
    np.testing.assert_array_equal(grid[10:18, 10:18], images[4])
    assert (grid[8:10] == 255).all()
    assert (grid[10:, 20:] == 255).all()  # no sixth image
    assert grid_image(images[:2], columns=8, scale=2).size == (36, 16)


def test_images_left_on_disk_read_like_images_in_memory(tmp_path, images):
    np.save(tmp_path / "a.npy", images)
    store, rows = open_store(tmp_path / "a.npy"), np.array([5, 3, 11, 7, 0])
    held, left = hold(store, rows=rows), hold(store, rows=rows, most_bytes=10)
    assert isinstance(held, torch.Tensor)
    assert isinstance(left, StoredImages)
    assert left.shape == held.shape == (5, 8, 8, 3)
    for pick in (torch.tensor([4, 0, 0]), np.array([1, 2]), slice(1, 4)):
        assert torch.equal(left[pick], held[pick])
    assert torch.equal(torch.cat(list(left.split(2))), held)
    part = pd.Series([3, 1]).to_numpy()  # read-only
    assert torch.equal(take(left, part)[:], take(held, part))
    assert torch.equal(take(held, part), torch.from_numpy(images[[7, 3]]))


def test_each_image_is_imported_once_and_the_others_are_named(tmp_path):
    for name, color in (("a.png", "white"), ("b.bmp", "white"), ("d.png", "lime")):
        Image.new("RGB", (32, 32), color).save(tmp_path / name)
    (tmp_path / "c.png").write_bytes(b"no image")
    (tmp_path / "e.png").symlink_to("e.png")
    with new_store(tmp_path / "images.npy", 16) as store:
        rows = list(import_images(store, find_images(tmp_path), tmp_path))
    assert [row[:3] for row in rows] == [
        (0, "a.png", "read"), (None, "b.bmp", "duplicate"), (None, "c.png", "unreadable"),
        (1, "d.png", "read"), (None, "e.png", "unreadable"),
    ]  # fmt: skip
    assert rows[1][3] == "same pixels as a.png"
    assert "its format is unknown" in rows[2][3]
    assert "symbolic links" in rows[4][3]
    assert open_store(tmp_path / "images.npy")[:, 8, 2].tolist() == [[255] * 3, [0, 255, 0]]
