"""The explorer draws and restores latents as its controls state; films hold all their frames."""

import json
import re
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from ohlora_lib.io.images import save_png
from ohlora_lib.nets import Generator, stylegan2
from ohlora_lib.nets.samples import sample_images
from ohlora_lib.study.look import MEANING
from ohlora_lib.widgets import explorer as ex
from ohlora_lib.widgets.explorer import Explorer, ExploreWidget, Latent, write_film

PLAIN, NETS = Latent(), ("before", "after")
CHANGES = {"other_seed": 9, "way": 0.3, "mix_from": 3, "psi": 0.7, "noise_seed": 2}


BASES = {
    "stylegan1": (Generator, {"fmaps_base": 128}),
    "stylegan2": (stylegan2.Generator, {"channel_base": 128, "mapping_layers": 2}),
}


@pytest.fixture(scope="module", params=BASES)
def explorer(request):
    torch.manual_seed(0)
    kind, sizes = BASES[request.param]
    base = kind(16, z_dim=16, w_dim=16, **sizes)
    base.truncation.w_avg.normal_()
    for name, parameter in base.named_parameters():
        if name.endswith(("apply_noise.weight", "noise_strength")):
            parameter.data.fill_(0.5)
    after = base.split(24, torch.Generator().manual_seed(0))
    return Explorer(dict(zip(NETS, (base, after), strict=True)))


def picture(explorer, name="before", **changes):
    return explorer.view(Latent(**changes)).images[name]


def test_every_control_changes_the_image_and_its_limits_behave_as_described(explorer):
    here = picture(explorer)
    for change in ({"seed": 3}, {"way": 0.5}, {"mix_from": 2}, {"psi": 0.5}, {"noise_seed": 1}):
        assert not np.array_equal(picture(explorer, **change), here), change
    there = picture(explorer, seed=1000)
    assert np.array_equal(picture(explorer, way=1.0), there)
    assert np.array_equal(picture(explorer, mix_from=0), there)
    assert np.array_equal(picture(explorer, psi=0.0), picture(explorer, psi=0.0, seed=7))
    assert np.array_equal(picture(explorer, noise_seed=4), picture(explorer, noise_seed=4))
    assert not np.array_equal(picture(explorer, "after"), here)


def test_it_draws_what_the_generator_draws_and_keeps_random_states(explorer):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    drawn = picture(explorer, seed=11, noise_seed=-1)
    picture(explorer, noise_seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    net = explorer.generators["before"]
    (batch,) = sample_images(net, 1, seed=11, batch=1)
    assert np.array_equal(drawn, batch[0].numpy())


def test_widget_draws_saves_and_loads(explorer, tmp_path):
    widget = ExploreWidget(explorer, tmp_path, MEANING)
    first = widget.pictures["before"].value
    assert widget.scores.value == ""  # no ensemble
    widget.load()
    assert widget.said.value == "Choose a saved latent first."
    widget.save()
    widget.another()
    assert widget.said.value == "Saved latent-001.json and its image."  # kept by a redraw
    for name, value in CHANGES.items():
        widget.controls[name].value = value
    assert widget.pictures["before"].value != first
    assert widget.latent == Latent(seed=1, **CHANGES)
    widget.save()
    assert json.loads((tmp_path / "latent-002.json").read_text())["generators"] == list(NETS)
    widget.saved.value = "latent-001.json"
    widget.load()
    assert widget.latent == PLAIN
    assert widget.pictures["before"].value == first
    widget.saved.value = "latent-002.json"
    widget.load()
    assert widget.latent == Latent(seed=1, **CHANGES)
    (tmp_path / "latent-001.json").unlink()
    widget.save()
    assert widget.saved.value == "latent-003.json"  # never over another


def test_scores_are_shown_with_their_meaning(explorer, tmp_path, monkeypatch):
    scores = pd.DataFrame({"gender": [0.957, 0.1], "hat": [0.5, 0.5]}, ["before", "after"])
    view = ex.View(explorer.view(PLAIN).images, scores, 0.0)
    monkeypatch.setattr(explorer, "view", lambda _: view)
    rows = ExploreWidget(explorer, tmp_path, MEANING).scores.value.split("<tr>")
    cells = [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in rows]
    assert ["before", "0.96", "0.50"] in cells
    assert ["meaning", "1 = female, 0 = male", "0/1"] in cells


def frames(count=5):
    """Frames of increasing brightness and odd width."""
    return [np.full((16, 33, 3), 40 * k % 240 + 20, dtype=np.uint8) for k in range(count)]


def test_webp(tmp_path):
    assert write_film(frames(), tmp_path / "a.webp", fps=10) == 5
    with Image.open(tmp_path / "a.webp") as film:
        assert (film.n_frames, film.size) == (5, (528, 256))
        for k in range(5):
            film.seek(k)
            mean = np.asarray(film.convert("RGB")).mean()
            assert mean == pytest.approx(20 + 40 * k, abs=4)
        assert film.info["duration"] == 100


@pytest.mark.skipif(not find_spec("imageio_ffmpeg"), reason="needs imageio-ffmpeg")
def test_mp4(tmp_path):
    from imageio_ffmpeg import count_frames_and_secs

    odd = [np.pad(frame, ((0, 257), (0, 0), (0, 0))) for frame in frames(12)]
    assert write_film(odd, tmp_path / "a.mp4", fps=6) == 12
    assert count_frames_and_secs(str(tmp_path / "a.mp4")) == (12, pytest.approx(2, abs=0.1))
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("name", ["a.gif", "a"])
def test_films_that_cannot_be_written_are_errors(tmp_path, name):
    with pytest.raises(ValueError, match=r"ends in \.mp4 or"):
        write_film(frames(), tmp_path / name, fps=6)
    assert not list(tmp_path.iterdir())


def test_walk_passes_its_seeds_in_order(explorer):
    walk = list(ex.latent_walk(explorer, [3, 8]))
    assert len(walk) == 2 * ex.WALK_FRAMES
    for place, seed in ((0, 3), (ex.WALK_FRAMES, 8)):
        assert np.array_equal(walk[place][:, :16], picture(explorer, seed=seed))


def test_training_film_holds_each_grid(tmp_path):
    for k in range(3):
        save_png(tmp_path / "images" / f"fixed-epoch000{k}-idx00000.png", frames()[k])
    film = list(ex.training_film(tmp_path))
    assert [frame.mean() for frame in film[:: ex.GRID_FRAMES // 2]] == [20, 20, 60, 60, 100, 100]
    with pytest.raises(ValueError, match=r"no grids .*; give a run of stage 5"):
        next(ex.training_film(tmp_path / "images"))
    with pytest.raises(ValueError, match="absent: no such folder"):
        next(ex.training_film(tmp_path / "absent"))
