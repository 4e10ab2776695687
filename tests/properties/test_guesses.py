"""Images without labels add guesses, of each half's own labels, if images were chosen."""

import numpy as np
import pandas as pd
import pytest

from ohlora_lib.properties import guesses
from ohlora_lib.properties.guesses import with_guesses
from ohlora_lib.study.parameters import TrainPropertyCNN

CONFIG = TrainPropertyCNN.model_construct(properties=["bright"])
HALVES = {"selector": np.arange(0, 60, 2), "judge": np.arange(1, 60, 2)}


@pytest.fixture(autouse=True)
def pixels_as_features(monkeypatch):
    """Features of the first pixels, in place of the shipped discriminator's."""

    def features(images):
        return images[:, 0, :4, 0].astype(np.float32) / 50 - 2.5

    monkeypatch.setattr(guesses.asking, "features", features)


def planted(chosen=True):
    """100 images, bright if labelled 1; labels of 60 of them, half of which were chosen."""
    random = np.random.default_rng(0)
    truth = random.permutation(np.arange(100) % 2)
    images = random.integers(0, 120, (100, 4, 4, 3)) + 100 * truth[:, None, None, None]
    number = random.permutation(100)[:60]
    labels = pd.DataFrame({"img_no": number, "bright": truth[number].astype(float)})
    labels.loc[:4, "bright"] = np.nan
    if chosen:
        labels["source"] = np.where(np.arange(60) < 30, "random", "chosen")
    return images.astype(np.uint8), labels, truth


def test_each_half_guesses_from_its_own_labels_for_its_own_images():
    images, labels, truth = planted()
    found = with_guesses(labels, images, HALVES, CONFIG)
    assert sorted(found.labels["img_no"]) == list(range(100))
    pd.testing.assert_frame_equal(found.labels[:60][labels.columns.tolist()], labels)
    assert found.labels[60:]["bright"].isna().all()
    guessed = [set(found.rows[role][30:]) for role in HALVES]
    assert [len(part) for part in guessed] == [20, 20]
    assert set.union(*guessed) == set(range(60, 100))
    for role, half in HALVES.items():
        assert np.array_equal(found.rows[role][:30], half)
        right = (found.scores[role][:, 0] > 0.5) == truth[found.labels["img_no"]]
        assert right.mean() > 0.9
    other = labels.copy()
    other.loc[HALVES["judge"], "bright"] = 1 - other.loc[HALVES["judge"], "bright"]
    again = with_guesses(other, images, HALVES, CONFIG)
    assert np.array_equal(again.scores["selector"], found.scores["selector"])
    assert not np.allclose(again.scores["judge"], found.scores["judge"])
    assert found.sentence() == (
        "30 images train the selector. 30 images train the judge. "
        "40 images without labels add pseudo-labels, half of them for each."
    )


@pytest.mark.parametrize(
    ("chosen", "architecture"), [(False, "compact"), (None, "compact"), (True, "published")]
)
def test_without_chosen_images_or_compact_cnns_nothing_is_guessed(chosen, architecture):
    images, labels, _ = planted(chosen)
    if chosen is None:  # labelled in order: the table has the column all the same
        labels["source"] = "random"
    config = CONFIG.model_copy(update={"architecture": architecture})
    found = with_guesses(labels, images, HALVES, config)
    assert found.labels is labels
    assert found.scores == {}
    assert all(found.rows[role] is half for role, half in HALVES.items())
    assert found.sentence() == "30 images train the selector. 30 images train the judge."
