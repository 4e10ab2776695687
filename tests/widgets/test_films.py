"""Films hold the frames they should, in MP4 and in animated WebP."""

import importlib.util
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from ohlora_lib.io.images import save_png
from ohlora_lib.nets import Generator
from ohlora_lib.widgets import films
from ohlora_lib.widgets.explorer import Explorer, Latent

needs_ffmpeg = pytest.mark.skipif(
    not importlib.util.find_spec("imageio_ffmpeg"), reason="no imageio-ffmpeg here"
)


def frames(count=5):
    """Frames that get brighter."""
    return [np.full((16, 32, 3), 40 * k % 240 + 20, dtype=np.uint8) for k in range(count)]


def test_webp_needs_nothing_else(tmp_path):
    assert films.write_film(frames(), tmp_path / "a.webp", fps=10) == 5
    with Image.open(tmp_path / "a.webp") as film:
        assert (film.n_frames, film.size) == (5, (512, 256))
        means = []
        for k in range(5):
            film.seek(k)
            means.append(np.asarray(film.convert("RGB")).mean())
    assert means == pytest.approx([20, 60, 100, 140, 180], abs=4)


@needs_ffmpeg
def test_mp4(tmp_path):
    from imageio_ffmpeg import count_frames_and_secs

    assert films.write_film(frames(12), tmp_path / "a.mp4", fps=6) == 12
    assert count_frames_and_secs(str(tmp_path / "a.mp4")) == (12, pytest.approx(2, abs=0.1))
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_mp4_without_its_library_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ValueError, match=r"pip install 'ohlora\[video\]'"):
        films.write_film(frames(), tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.gif", "a"])
def test_other_suffixes(tmp_path, name):
    with pytest.raises(ValueError, match="suffix must be one of"):
        films.write_film(frames(), tmp_path / name)


def test_no_frames(tmp_path):
    with pytest.raises(ValueError, match="no frames"):
        films.write_film([], tmp_path / "a.webp")
    assert not list(tmp_path.iterdir())


def test_walk_goes_through_its_seeds_and_comes_back():
    torch.manual_seed(0)
    explorer = Explorer({"before": Generator(16, z_dim=16, w_dim=16, fmaps_base=128)})
    walk = list(films.latent_walk(explorer, [3, 8], steps=4))
    assert len(walk) == 8
    for place, seed in ((0, 3), (4, 8)):
        assert np.array_equal(walk[place], explorer.view(Latent(seed=seed)).images["before"])
    with pytest.raises(ValueError, match="at least two"):
        next(films.latent_walk(explorer, [3]))


def test_training_film_holds_each_grid(tmp_path):
    for k in range(3):
        save_png(tmp_path / "images" / f"fixed-epoch000{k}-idx00000.png", frames()[k])
    film = list(films.training_film(tmp_path, hold=2))
    assert [frame.mean() for frame in film] == [20, 20, 60, 60, 100, 100]
    with pytest.raises(ValueError, match="no grids"):
        next(films.training_film(tmp_path / "images"))
