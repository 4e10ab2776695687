"""Images: nothing is lost on the way from disk to network and back."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from ohlora_lib.io.images import (
    StoredImages,
    grid_image,
    hold,
    make_grid,
    new_store,
    open_store,
    save_png,
    save_store,
    take,
)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)


def test_store_round_trip(tmp_path, images):
    save_store(tmp_path / "x.npy", images)
    back = open_store(tmp_path / "x.npy")
    np.testing.assert_array_equal(back, images)
    assert isinstance(back, np.memmap)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_a_store_grows_batch_by_batch_and_reads_as_one(tmp_path, images):
    with new_store(tmp_path / "a.npy", 8) as store:
        for first in range(0, 5, 2):
            store.append(images[first : first + 2])
        assert not (tmp_path / "a.npy").exists()
    np.save(tmp_path / "b.npy", images)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_bad_stores(tmp_path):
    with pytest.raises(ValueError, match=r"x\.npy: no such image store"):
        open_store(tmp_path / "x.npy")
    for array in (np.zeros((2, 8, 8, 3)), np.zeros((2, 8, 8), np.uint8)):
        np.save(tmp_path / "x.npy", array)
        with pytest.raises(ValueError, match=r"x\.npy: holds .* an image store is uint8"):
            open_store(tmp_path / "x.npy")
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"x\.npy: not an image store"):
        open_store(tmp_path / "x.npy")
    np.save(tmp_path / "x.npy", np.zeros((2, 8, 8, 3), np.uint8))
    data = (tmp_path / "x.npy").read_bytes()
    for size in (0, 50, len(data) - 10):
        (tmp_path / "x.npy").write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"x\.npy: not an image store"):
            open_store(tmp_path / "x.npy")


def test_grid_places_images_row_by_row(images):
    grid = make_grid(images, columns=3, gap_px=2)
    assert grid.shape == (18, 28, 3)
    np.testing.assert_array_equal(grid[10:18, 10:18], images[4])
    assert (grid[8:10] == 255).all()
    assert (grid[10:, 20:] == 255).all()  # no sixth image
    assert make_grid(images[:2], columns=8).shape == (8, 18, 3)


def test_png_round_trip(tmp_path, images):
    save_png(tmp_path / "a.png", images[0])
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), images[0])
    assert grid_image(images, columns=3, scale=2).size == (56, 36)


def test_images_left_on_disk_read_as_those_held(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)
    save_store(tmp_path / "a.npy", pixels)
    store, rows = open_store(tmp_path / "a.npy"), np.array([5, 3, 11, 7, 0])
    held, left = hold(store, rows=rows), hold(store, rows=rows, most_bytes=10)
    assert isinstance(held, torch.Tensor)
    assert isinstance(left, StoredImages)
    assert left.shape == held.shape == (5, 4, 4, 3)
    for pick in (torch.tensor([4, 0, 0]), np.array([1, 2]), slice(1, 4)):
        assert torch.equal(left[pick], held[pick])
    assert torch.equal(torch.cat(list(left.split(2))), held)
    part = pd.Series([3, 1]).to_numpy()  # read-only
    assert torch.equal(take(left, part)[:], take(held, part))
    assert torch.equal(take(held, part), torch.from_numpy(pixels[[7, 3]]))
