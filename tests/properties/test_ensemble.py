"""An ensemble scores as its CNNs do, whether in memory, saved or imported."""

import numpy as np
import pandas as pd
import pytest
import torch

from ohlora_lib.io.weights import save_weights
from ohlora_lib.nets import PropertyCNN
from ohlora_lib.properties import ensemble as ensemble_module
from ohlora_lib.properties.ensemble import (
    Ensemble,
    import_cnns,
    load_ensemble,
    unseen_auroc,
    unseen_scores,
    what_is_seen,
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with two CNNs for each of two properties, the CNNs, and images."""
    folder = tmp_path_factory.mktemp("selector")
    torch.manual_seed(0)
    members = {
        prop: [PropertyCNN(prop, image_px=32, width=0.125).eval() for _ in range(2)]
        for prop in ("bright", "dark")
    }
    for prop, nets in members.items():
        for k, net in enumerate(nets):
            save_weights(net, folder / f"{prop}-fold{k}.safetensors")
    return folder, members, torch.randint(0, 256, (40, 32, 32, 3), dtype=torch.uint8)


def test_saved_ensemble_gives_identical_scores(saved):
    folder, members, images = saved
    back = load_ensemble(folder, list(members))
    assert torch.equal(back.scores(images), Ensemble(members).scores(images))
    assert not any(p.requires_grad for net in back.members["bright"] for p in net.parameters())


def test_score_is_the_mean_over_the_folds_for_any_batch_size(saved, monkeypatch):
    folder, _, images = saved
    ensemble = load_ensemble(folder, ["dark", "bright"])
    members, scores = ensemble.member_scores(images), ensemble.scores(images)
    assert members["dark"].shape == (40, 2)
    assert (members["dark"][:, 0] - members["dark"][:, 1]).abs().max().item() > 1e-4
    torch.testing.assert_close(scores[:, 0], members["dark"].mean(dim=1))
    table = ensemble.table(images)
    assert list(table) == ["dark_score", "bright_score"]  # in the requested order
    np.testing.assert_allclose(table["bright_score"], scores[:, 1])
    monkeypatch.setattr(ensemble_module, "images_at_once", lambda *_: 7)
    torch.testing.assert_close(ensemble.scores(images), scores)


def test_features_are_of_the_first_fold(saved):
    folder, members, images = saved
    features = load_ensemble(folder, list(members)).features(images[:5])
    width = members["bright"][0].fc1[0].out_features
    assert features.shape == (5, 2 * width)
    wanted = members["dark"][0].features(images[:5].permute(0, 3, 1, 2).float() / 255)
    torch.testing.assert_close(features[:, width:], wanted, rtol=1e-4, atol=1e-5)


def test_scores_of_unseen_images_as_a_table(saved):
    _, members, images = saved
    ones = np.arange(20) % 2
    labels = pd.DataFrame({"dark": 1 - ones, "bright": ones}, index=range(1, 40, 2))
    ensemble = Ensemble(members)
    unseen = unseen_scores(ensemble, images[1::2], labels)
    assert unseen["image"].tolist() == list(range(1, 40, 2)) * 2
    assert unseen["property"].tolist() == ["bright"] * 20 + ["dark"] * 20
    assert unseen["label"].tolist() == [*ones, *(1 - ones)]
    np.testing.assert_array_equal(unseen["score"][20:], ensemble.scores(images[1::2])[:, 1])
    perfect = unseen.assign(score=unseen["label"] + 0.1)
    assert unseen_auroc(perfect) == {"bright": 1.0, "dark": 1.0}


def test_missing_property_is_an_error(saved):
    with pytest.raises(ValueError, match=r"no CNN for property 'hat'; .*\['bright', 'dark'\]"):
        load_ensemble(saved[0], ["bright", "hat"])


def test_trained_cnns_are_imported_by_the_property_in_their_names(saved, tmp_path):
    folder, members, images = saved
    said = import_cnns(folder, ["dark"], tmp_path)
    assert said == "Imported 2 CNNs for dark."
    there, here = Ensemble({"dark": members["dark"]}), load_ensemble(tmp_path, ["dark"])
    assert torch.equal(here.scores(images), there.scores(images))
    with pytest.raises(ValueError, match="no file name contains 'hat'"):
        import_cnns(folder, ["hat"], tmp_path)
    (tmp_path / "dark-fold0.safetensors").rename(tmp_path / "bright_0.safetensors")
    with pytest.raises(ValueError, match="holds a CNN for 'dark', not 'bright'"):
        import_cnns(tmp_path, ["bright"], tmp_path / "out")


def test_the_frame_surrounds_the_crop_a_cnn_sees():
    images = torch.full((20, 32, 32, 3), 100, dtype=torch.uint8)
    net = PropertyCNN("hat", image_px=32, width=0.125, crop=[0.25, 0.75, 0.0, 0.5])
    pictures = what_is_seen(net, images, np.arange(20) % 2)
    assert pictures.shape == (7, 32, 32, 3)
    red = (pictures[-1] == (255, 0, 0)).all(axis=2)
    assert red.sum() == 4 * 16 - 4
    assert red[8, :16].all()
    assert red[23, :16].all()
    assert red[8:24, 0].all()
    assert red[8:24, 15].all()
    assert (pictures[0][~red] == 100).all()
