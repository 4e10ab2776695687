"""Evidence beside scores: disagreement, copies; each found where it was planted."""

import numpy as np
import pandas as pd
import pytest
import torch

from ohlora_lib.evaluation import evidence
from ohlora_lib.nets import CompactCNN
from ohlora_lib.properties.ensemble import Ensemble


def test_members_are_listed_with_their_disagreement():
    torch.manual_seed(0)
    nets = [CompactCNN(["age"], image_px=32, width=0.25) for _ in range(3)]
    for net in nets:
        net.calibration[0] = 30  # far apart, so that means of logits and probabilities differ
    images = torch.randint(256, (6, 32, 32, 3), dtype=torch.uint8)
    ensemble = Ensemble({"age": nets})
    apart = evidence.member_table({"selector": ensemble}, images).iloc[0]
    alike = evidence.member_table({"judge": Ensemble({"age": nets[:1] * 3})}, images).iloc[0]
    assert (apart["by"], apart["CNNs"]) == ("selector", 3)
    assert apart["mean"] == pytest.approx(ensemble.scores(images).mean().item())  # on every page
    assert apart["lowest"] < apart["mean"] < apart["highest"]
    assert apart["disagreement"] > 1e-4
    assert alike["disagreement"] == pytest.approx(0, abs=1e-6)


def test_copies_are_found():
    torch.manual_seed(0)
    selected = torch.randn(50, 32)
    samples = torch.randn(20, 32)
    samples[3] = selected[17] + 0.001
    nearest = evidence.nearest_selected(samples, selected)
    assert (nearest.index[0], nearest["row"].iloc[0]) == (3, 17)
    assert evidence.copies_sentence(nearest["ratio"]).startswith("1 of 20 samples")
    nearest = evidence.nearest_selected(samples, selected[:1])
    assert "fewer than two selected images" in evidence.copies_sentence(nearest["ratio"])
    assert len(nearest.head(3)) == 3


def test_best_median_and_worst():
    scores = pd.DataFrame({"age": np.linspace(0, 1, 9), "gender": np.linspace(1, 0, 9)})
    found = evidence.examples(scores, {"age": 0, "gender": 1}, 3)
    assert {kind: rows.tolist() for kind, rows in found.items()} == {
        "random": [0, 1, 2], "best": [0, 1, 2], "median": [3, 4, 5], "worst": [6, 7, 8],
    }  # fmt: skip
    few = evidence.examples(scores[:2], {"age": 0, "gender": 1}, 3)
    assert [len(rows) for rows in few.values()] == [2, 2, 2, 2]


def unseen_table(count=4000, *, wrong=0, power=1.0):
    """Honest scores of a property, the first labels of which are wrong; too sure if power > 1."""
    random = np.random.default_rng(0)
    true = random.beta(0.4, 0.4, count)
    label = (random.random(count) < true).astype(int)
    label[:wrong] = 1 - (true[:wrong] > 0.5)
    odds = (true / (1 - true)) ** power
    columns = {
        "image": range(count),
        "property": "hat",
        "score": odds / (1 + odds),
        "label": label,
    }
    return pd.DataFrame(columns)


def test_calibration_error_is_small_for_honest_scores_and_known_for_others():
    tables = {"honest": unseen_table(), "too sure": unseen_table(power=3)}
    found = evidence.calibration_table(tables)["error"].droplevel("property")
    assert found["honest"] < 0.02
    assert found["too sure"] > 0.05
    row = evidence.calibration_table({"a": unseen_table(300)}).iloc[0]
    assert 0 == row["error_low"] < row["error"] <= row["error_high"]
    row = evidence.calibration_table({"a": unseen_table(power=3)}).iloc[0]
    assert 0.04 < row["error_low"] < row["error"] < row["error_high"]


def test_labels_that_confident_scores_contradict_are_to_check():
    table = unseen_table(1000, wrong=20)
    found = evidence.labels_to_check(table)
    sure = table[:20][(table["score"][:20] - 0.5).abs() > 0.45]
    assert set(sure["image"]) <= set(found["image"])
    assert len(found) < 150
    gap = (found["score"] - found["label"]).abs()
    assert gap.is_monotonic_decreasing
    assert gap.min() > 0.5
    assert evidence.labels_to_check(table.assign(label=1)).empty


def test_labels_that_are_all_alike_say_nothing():
    row = evidence.auroc_table({"a": unseen_table(300).assign(label=0)}).iloc[0]
    assert row.tolist() == [0.5, 0, 1]


def test_only_images_drawn_at_random_test_the_cnns():
    labels = pd.DataFrame({"hat": [0, 1, 1], "source": ["random", "chosen", "random"]})
    scores = pd.DataFrame({"image": [2, 1, 0], "property": "hat", "score": 0.5, "label": 1})
    kept = evidence.at_random({"judge": scores}, labels)["judge"]
    assert kept["image"].tolist() == [2, 0]
    same = evidence.at_random({"judge": scores}, labels[["hat"]])["judge"]
    pd.testing.assert_frame_equal(same, scores)
