"""Candidates: batch by batch gives what all at once gives, and a dead end writes nothing."""

import numpy as np
import pandas as pd
import pytest
import torch

from ohlora_lib import candidates
from ohlora_lib.candidates import align_scores, choose, choose_rows, stored
from ohlora_lib.conditions import Condition
from ohlora_lib.images import new_store, open_store
from ohlora_lib.nets import PropertyCNN
from ohlora_lib.property_ensemble import Ensemble
from ohlora_lib.shards import Shards

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
    assert np.array_equal(chosen.first, images)
    table = chosen.table()
    assert table["img_no"].tolist() == list(range(250))
    assert table["kept"].tolist() == flags.astype(int).tolist()
    assert chosen.means().loc["age_score", "kept"] == scores["age_score"][flags].mean()


def test_a_stopped_scoring_goes_on_with_the_next_shard(tmp_path, images, scores, monkeypatch):
    monkeypatch.setattr(candidates, "SHARD_BATCHES", 2)
    monkeypatch.setattr(candidates, "BATCH", 30)
    cpu, seen = torch.device("cpu"), []
    whole = choose(stored(images, cpu), scores, WANTED, tmp_path / "whole.npy", skip_first=30)

    def watched(first, stop=99):
        for number, batch in enumerate(stored(images[first:], cpu)):
            if number == stop:
                raise KeyboardInterrupt
            seen.append(batch)
            yield batch

    shards = Shards(tmp_path / "part", {"seed": 1})
    options = {"skip_first": 30, "path": tmp_path / "part" / "kept.npy"}
    with pytest.raises(KeyboardInterrupt):
        choose(watched(0, stop=5), scores, WANTED, shards=shards, **options)
    assert not options["path"].exists()
    again = Shards(tmp_path / "part", {"seed": 1})
    assert again.done == 120  # two shards of two batches; the fifth batch is scored again
    seen.clear()
    chosen = choose(watched(again.done), scores, WANTED, shards=again, **options)
    assert sum(map(len, seen)) == 130
    pd.testing.assert_frame_equal(chosen.table(), whole.table())
    for name in ("kept", "thrown", "first"):
        assert np.array_equal(getattr(chosen, name), getattr(whole, name)), name
    last = Shards(tmp_path / "part", {"seed": 1})
    chosen = choose(iter(()), scores, WANTED, shards=last, **options)  # all is in shards already
    assert np.array_equal(chosen.kept, whole.kept)
    with pytest.raises(ValueError, match="seed was 1 and is now 2"):
        Shards(tmp_path / "part", {"seed": 2})


def test_a_dead_end_leaves_no_shards(tmp_path, images, scores):
    shards = Shards(tmp_path, {})
    hopeless = [Condition("gender", ">=", 2.0)]
    batches = stored(images, torch.device("cpu"))
    with pytest.raises(ValueError, match="Loosen gender"):
        choose(batches, scores, hopeless, tmp_path / "kept.npy", shards=shards)
    assert list(tmp_path.iterdir()) == []


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
