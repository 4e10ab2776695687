"""The curve of labelling rises with answers, is tested on random images, and says its limits."""

import numpy as np
import pandas as pd
import pytest

from ohlora_lib.population import label_curve as lc


def answered(count=240, chosen=0, *, share=0.3, seed=0):
    """Features with a planted property, and answers: drawn at random first, then chosen."""
    random = np.random.default_rng(seed)
    labels = (random.random(count) < share).astype(int)
    features = random.normal(size=(count, 30)).astype(np.float32)
    features[:, :5] += labels[:, None]
    source = np.repeat(["random", "chosen"], [count - chosen, chosen])
    table = pd.DataFrame({"img_no": np.arange(count), "property": "hat", "source": source})
    return features, table.assign(answer=labels.astype(str), how="key")


def test_more_answers_raise_the_auroc_and_its_interval_holds_it():
    curve = lc.label_curve(*answered(seed=2))
    assert curve["answers"].tolist() == [30, 60, 120, 240]
    first, *_, last = curve["auroc"]
    assert last > max(0.85, first + 0.1)  # 0.90 and 0.71
    assert (curve["low"] < curve["auroc"]).all()
    assert (curve["auroc"] < curve["high"]).all()
    assert curve["positives"].is_monotonic_increasing
    features, table = answered(seed=2)
    skipped = table.assign(answer="skip", img_no=240 + np.arange(240)).iloc[:9]
    wrong = table.assign(answer=np.where(table["img_no"] < 50, "1", table["answer"]), how="grid")
    checks = table.assign(how="check").iloc[:50]  # and so corrected
    again = lc.label_curve(features, pd.concat([wrong, skipped, checks]))
    pd.testing.assert_frame_equal(again, curve)
    assert not lc.label_curve(features, wrong).equals(curve)


def test_chosen_images_never_test_and_no_image_tests_what_learned_from_it(monkeypatch):
    features, table = answered(240, 120)
    learned, tested = [], []

    def guess(features, labels, *, weights=None):
        learned.append(np.flatnonzero(~np.isnan(labels)))
        return features[:, 0].astype(float)

    monkeypatch.setattr(lc.asking, "guess", guess)
    monkeypatch.setattr(lc, "roc_auc_score", lambda y, score: tested.append(score) or 0.5)
    lc.label_curve(features, table)
    assert all(np.array_equal(score, features[:120, 0].astype(float)) for score in tested)
    assert len(learned) == 4 * lc.FOLDS
    everyone = learned[-lc.FOLDS :]  # with all answers
    assert all(set(rows) >= set(range(120, 240)) for rows in everyone)
    left_out = [set(range(240)) - set(rows) for rows in everyone]
    assert set.union(*left_out) == set(range(120))
    assert sum(map(len, left_out)) == 120
    assert all(rows.max() < 30 for rows in learned[: lc.FOLDS])


def test_random_labels_are_at_chance():
    features, table = answered(share=0.5)
    mixed = np.random.default_rng(1).permutation(table["answer"])
    last = lc.label_curve(features, table.assign(answer=mixed)).iloc[-1]
    assert last["low"] < 0.5 < last["high"]  # leaked labels would give over 0.9


@pytest.mark.parametrize(
    ("aurocs", "rarer", "words"),
    [
        ([0.6, 0.8, 0.9], 40, "hat: AUROC 0.900 (95 % interval 0.85 to 0.95) after 400 "
         "answers; 200 more would raise it to about 0.933"),
        ([0.9, 0.9, 0.9], 40, "more hardly help: 200 more would raise it by less than 0.005."),
        ([0.9, 0.8, 0.7], 40, "more hardly help"),
        ([1.0, 1.0, 1.0], 5, "This is uncertain: only 5 images drawn at random have the rarer"),
        ([np.nan, np.nan, np.nan], 2, "hat: too early to test, because only 2 images drawn at"),
        ([np.nan, 0.8, 0.9], 40, "too early for a forecast."),
    ],
)  # fmt: skip
def test_the_forecast_says_what_more_answers_bring_and_when_it_cannot(aurocs, rarer, words):
    curve = pd.DataFrame({
        "property": "hat", "answers": [100, 200, 400], "auroc": aurocs, "low": 0.85, "high": 0.95,
        "positives": 50, "rarer": rarer,
    })  # fmt: skip
    (text,) = lc.more_answers(curve)
    assert words in text


def test_few_or_equal_answers_give_a_curve_without_values():
    features, table = answered(12, share=0.1)
    for answers in (table, table.assign(answer="1"), table.assign(source="chosen")):
        curve = lc.label_curve(features, answers.iloc[:8])
        assert curve["answers"].tolist() == [8]
        assert "too early to test" in lc.more_answers(curve)[0]
    assert lc.label_curve(features, table.iloc[:0]).empty
    assert lc.more_answers(lc.label_curve(features, table.iloc[:0])) == []
