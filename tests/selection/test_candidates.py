"""Candidates: batch by batch gives what all at once gives, and a dead end writes nothing."""

import numpy as np
import pandas as pd
import pytest
import torch

from ohlora_lib.io.images import new_store, open_store
from ohlora_lib.nets import PropertyCNN
from ohlora_lib.properties.ensemble import Ensemble
from ohlora_lib.selection.candidates import align_scores, choose, choose_rows, stored
from ohlora_lib.study.conditions import Condition

WANTED = [Condition("gender", ">=", 0.5), Condition("age", "<=", 0.6)]


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (250, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def scores():
    draws = np.random.default_rng(1).random((250, 2))
    return pd.DataFrame(draws, columns=["gender_score", "age_score"])


def test_kept_are_those_that_meet_every_condition(tmp_path, images, scores):
    batches = stored(images, torch.device("cpu"))
    chosen = choose(batches, scores, WANTED, tmp_path / "kept.npy", skip_first=30)
    flags = (scores["gender_score"] >= 0.5) & (scores["age_score"] <= 0.6)
    flags[:30] = False
    assert chosen.selection.kept.tolist() == flags.tolist()
    assert np.array_equal(chosen.kept, images[flags])
    assert np.array_equal(chosen.thrown, images[~flags][:48])
    table = chosen.table()
    assert table["img_no"].tolist() == list(range(250))
    assert table["kept"].tolist() == flags.astype(int).tolist()
    assert chosen.means().loc["age_score", "kept"] == scores["age_score"][flags].mean()


def test_a_dead_end_writes_nothing(tmp_path, images, scores):
    hopeless = [Condition("gender", ">=", 2.0)]
    with pytest.raises(ValueError, match="Loosen gender"):
        choose(stored(images, torch.device("cpu")), scores, hopeless, tmp_path / "kept.npy")
    assert list(tmp_path.iterdir()) == []


def test_rows_of_a_table_alone(scores):
    chosen = choose_rows(scores, WANTED, skip_first=10)
    assert len(chosen.kept) == 0
    assert chosen.selection.kept[:10].sum() == 0
    assert chosen.table()["kept"].sum() == chosen.selection.kept.sum() > 0


def test_scores_find_their_images_and_images_without_a_row_are_never_kept(tmp_path, images):
    files = pd.DataFrame({
        "img_no": [0, pd.NA, 1, 2],
        "file": ["a.png", "broken.png", "b.png", "c.png"],
    }).astype({"img_no": "Int64"})  # fmt: skip
    table = pd.DataFrame({"file": ["c.png", "a.png"], "gender_score": [0.9, 0.2]})
    aligned = align_scores(table, files, "scores.csv")
    assert aligned["gender_score"].tolist()[::2] == [0.2, 0.9]
    assert np.isnan(aligned["gender_score"][1])
    batches = stored(images[:3], torch.device("cpu"))
    low = [Condition("gender", "<=", 1.0)]
    chosen = choose(batches, aligned, low, tmp_path / "kept.npy")
    assert chosen.selection.kept.tolist() == [True, False, True]


def test_a_store_grows_batch_by_batch_and_reads_as_one(tmp_path, images):
    with new_store(tmp_path / "a.npy", 8) as store:
        for first in range(0, 250, 33):
            store.append(images[first : first + 33])
        assert not (tmp_path / "a.npy").exists()
    assert np.array_equal(open_store(tmp_path / "a.npy"), images)
    np.save(tmp_path / "b.npy", images)
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


def test_cnns_of_another_size_are_named_in_a_line(tmp_path):
    cnns = Ensemble({"age": [PropertyCNN("age", image_px=32, width=0.125)]})
    batches = iter([torch.zeros(2, 64, 64, 3, dtype=torch.uint8)])
    with pytest.raises(ValueError, match=r"64 px, the property CNNs read \[32\] px"):
        choose(batches, cnns, [], tmp_path / "selected.npy")
