"""Images: nothing is lost on the way from disk to network and back."""

import numpy as np
import pytest
import torch
from PIL import Image

from ohlora_lib.images import (
    grid_image,
    make_grid,
    open_store,
    read_folder,
    save_png,
    save_store,
    to_signed,
    to_tensor,
    to_uint8,
    to_unit,
)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)


def test_every_level_survives_the_way_to_floats_and_back():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    signed = to_signed(levels)
    assert signed.shape == (1, 3, 16, 16)
    assert (signed.min().item(), signed.max().item()) == (-1.0, 1.0)
    assert torch.equal(to_uint8(signed), levels)
    assert (to_unit(levels).min().item(), to_unit(levels).max().item()) == (0.0, 1.0)
    half_a_level = 0.9 / 255
    assert torch.equal(to_uint8((signed + half_a_level).clamp(-1, 1)), levels)  # not cut off


def test_out_of_range_is_clamped():
    x = torch.tensor([-7.0, 7.0]).view(1, 1, 1, 2).expand(1, 3, 2, 2)
    assert to_uint8(x)[0, 0, :, 0].tolist() == [0, 255]  # wrapping would give 6 and 249


def test_axes_are_not_mixed_up(images):
    signed = to_signed(to_tensor(images))
    assert signed[2, 1, 3, 5].item() == pytest.approx(images[2, 3, 5, 1] / 127.5 - 1)


def test_store_round_trip(tmp_path, images):
    save_store(tmp_path / "x.npy", images)
    back = open_store(tmp_path / "x.npy")
    np.testing.assert_array_equal(back, images)
    assert isinstance(back, np.memmap)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


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


def test_read_folder_crops_the_centre(tmp_path):
    wide = np.zeros((16, 48, 3), np.uint8)
    wide[:, 16:32] = (200, 100, 50)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(wide).convert("RGBA").rotate(90, expand=True).save(tmp_path / "tall.png")
    images = read_folder([tmp_path / "wide.png", tmp_path / "tall.png"], 16)
    assert images.shape == (2, 16, 16, 3)
    inside = images[:, 2:-2, 2:-2].astype(int)  # the filter reaches over the edge of the crop
    assert np.abs(inside - [200, 100, 50]).max() <= 8  # black where not the centre is cropped


def test_read_folder_names_the_bad_file(tmp_path):
    (tmp_path / "bad.png").write_text("no image")
    with pytest.raises(ValueError, match=r"bad\.png: not a readable image"):
        read_folder([tmp_path / "bad.png"], 8)
