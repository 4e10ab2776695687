"""The explorer draws what it says, and the same again from what it saved."""

import json
import re
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch

from ohlora_lib.io.weights import split_mapping
from ohlora_lib.nets import Generator
from ohlora_lib.widgets.explore_widget import ExploreWidget
from ohlora_lib.widgets.explorer import Explorer, Latent, View, load_latent

PLAIN = Latent()
ODD = ({"seed": -1}, {"psi": "1"}, {"way": 2}, {"mix_from": 1.5}, {"noise_seed": True})


@pytest.fixture(scope="module")
def explorer():
    torch.manual_seed(0)
    base = Generator(16, z_dim=16, w_dim=16, fmaps_base=128)
    base.truncation.w_avg.normal_()
    for k in range(6):
        getattr(base.synthesis, f"layer{k}").apply_noise.weight.data.fill_(0.5)
    nets = {"before": base, "after": split_mapping(base, 24, torch.Generator().manual_seed(0))}
    return Explorer(nets)


def picture(explorer, name="before", **changes):
    return explorer.view(replace(PLAIN, **changes)).images[name]


def test_every_control_changes_the_picture_and_its_ends_are_what_they_say(explorer):
    here = picture(explorer)
    for change in ({"seed": 3}, {"way": 0.5}, {"mix_from": 2}, {"psi": 0.5}, {"noise_seed": 1}):
        assert not np.array_equal(picture(explorer, **change), here), change
    there = picture(explorer, seed=1000)
    assert np.array_equal(picture(explorer, way=1.0), there)
    assert np.array_equal(picture(explorer, mix_from=0), there)
    assert np.array_equal(picture(explorer, psi=0.0), picture(explorer, psi=0.0, seed=7))
    assert np.array_equal(picture(explorer, noise_seed=4), picture(explorer, noise_seed=4))
    assert not np.array_equal(picture(explorer, "after"), here)


def test_it_draws_what_the_generator_draws_and_leaves_random_states_alone(explorer):
    from ohlora_lib.nets.samples import sample_images

    torch.manual_seed(5)
    state = torch.get_rng_state()
    drawn = picture(explorer, seed=11, noise_seed=-1)
    picture(explorer, noise_seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    net = explorer.generators["before"]
    (batch,) = sample_images(net, 1, seed=11, batch=1)
    assert np.array_equal(drawn, batch[0].numpy())


def test_saved_and_loaded_it_is_the_same(explorer, tmp_path):
    latent = Latent(seed=5, other_seed=9, way=0.3, mix_from=3, psi=0.7, noise_seed=2)
    path = explorer.save(latent, tmp_path, "latent-001")
    assert load_latent(path) == latent
    assert (tmp_path / "latent-001.png").is_file()
    assert json.loads(path.read_text())["generators"] == ["before", "after"]


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", '{"seed": 1}', *(json.dumps(asdict(PLAIN) | odd) for odd in ODD)],
)
def test_damaged_latents_are_one_line(tmp_path, text):
    (tmp_path / "latent.json").write_text(text)
    with pytest.raises(ValueError, match=r"latent\.json: not a saved latent") as caught:
        load_latent(tmp_path / "latent.json")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="no such latent"):
        load_latent(tmp_path / "absent.json")


def test_widget_draws_saves_and_loads(explorer, tmp_path):
    widget = ExploreWidget(explorer, tmp_path)
    first = widget.pictures["before"].value
    assert widget.scores.value == ""  # nobody scores
    widget.load()
    assert widget.said.value == "Nothing is saved yet."
    widget.save()
    widget.another()
    widget.controls["psi"].value = 0.5
    assert widget.pictures["before"].value != first
    assert widget.latent == Latent(seed=1, psi=0.5)
    widget.load()
    assert widget.latent == PLAIN
    assert widget.pictures["before"].value == first
    (tmp_path / "latent-001.json").write_text("{}")
    widget.load()
    assert "not a saved latent" in widget.said.value


def test_scores_stand_beside_what_they_mean(explorer, tmp_path, monkeypatch):
    scores = pd.DataFrame({"gender": [0.957, 0.1], "hat": [0.5, 0.5]}, ["before", "after"])
    view = View(explorer.view(PLAIN).images, scores, 0.0)
    monkeypatch.setattr(explorer, "view", lambda _: view)
    rows = ExploreWidget(explorer, tmp_path).scores.value.split("<tr>")
    cells = {
        row[0]: row[1:] for row in (re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in rows[1:])
    }
    assert cells["before"] == ["0.96", "0.50"]
    assert cells["meaning"] == ["1 = female, 0 = male", "0/1"]


def test_what_was_saved_is_never_written_over_nor_changed_on_loading(explorer, tmp_path):
    widget = ExploreWidget(explorer, tmp_path)
    for _ in range(3):
        widget.save()
    (tmp_path / "latent-001.json").unlink()
    kept = (tmp_path / "latent-003.json").read_bytes()
    widget.another()
    widget.save()
    assert widget.saved.value == "latent-004.json"
    assert (tmp_path / "latent-003.json").read_bytes() == kept
    (tmp_path / "latent-004.json").write_text(json.dumps(asdict(Latent(seed=3, mix_from=15))))
    widget.load()
    assert "not loaded: mix_from is 15, here it goes from -1 to 5" in widget.said.value
    assert widget.latent == Latent(seed=1)
