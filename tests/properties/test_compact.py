"""The compact CNN learns rare and common properties together, and its scores are calibrated."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ohlora_lib.nets import CompactCNN
from ohlora_lib.properties.compact import (
    _calibration,
    _loss,
    _steppers,
    augment,
    calibrate,
    class_weights,
)
from ohlora_lib.properties.ensemble import import_cnns, load_ensemble
from ohlora_lib.properties.lesson import CNNSettings, Lesson, stratified_folds
from ohlora_lib.properties.training import fold_table, train_ensemble

SETTINGS = CNNSettings(folds=2, width=0.25, batch=16, max_epochs=6, seed=1)
ROWS = np.arange(300)


def planted(count=600):
    """Noise images: brighter in the top half if `bright`, redder in the bottom half if `rare`."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {"bright": random.random(count) < 0.5, "rare": random.random(count) < 0.1}
    )
    images = random.integers(0, 170, (count, 32, 32, 3))
    images[:, :16] += 30 * table["bright"].to_numpy()[:, None, None, None]
    images[:, 16:, :, 0] += 40 * table["rare"].to_numpy()[:, None, None]
    return torch.from_numpy(images.astype(np.uint8)), table.astype(int)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("selector")
    images, table = planted()
    return folder, list(train_ensemble(images, table, ROWS, list(table), SETTINGS, folder))


@pytest.mark.slow
def test_both_properties_are_learnt_and_scores_are_calibrated(trained):
    folder, folds = trained
    images, table = planted()
    assert fold_table(folds)["property"].tolist() == ["bright", "rare"] * 2
    scores = load_ensemble(folder, list(table)).scores(images[300:]).numpy()
    for k, prop in enumerate(table):
        truth = table[prop].to_numpy()[300:]
        assert roc_auc_score(truth, scores[:, k]) > 0.9
        assert scores[:, k].mean() == pytest.approx(truth.mean(), abs=0.08)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 9])
def test_a_training_of_few_steps_warms_up_and_ends_slowly(steps):
    """Torch's schedule divides by zero where its rise or its fall takes one step."""
    net = CompactCNN(["a"], image_px=16)
    steppers, rates = _steppers(net, steps), []
    for _ in range(steps):
        net.zero_grad()
        net.raw_logits(torch.rand(4, 3, 16, 16)).sum().backward()
        rates.append(steppers[1].param_groups[0]["lr"])
        for stepper in steppers:
            stepper.step()
    assert rates[0] < 0.1 * max(rates) or steps == 1
    assert rates[-1] < 0.01 * max(rates) or steps < 3


@pytest.mark.slow
def test_folds_are_trained_once_and_imported_whole_or_in_part(trained, tmp_path):
    folder, folds = trained
    images, table = planted()
    shutil.copytree(folder, tmp_path / "again")
    data = (images, table, ROWS, list(table), SETTINGS, tmp_path / "again")
    again = list(train_ensemble(*data))
    pd.testing.assert_frame_equal(fold_table(again), fold_table(folds))
    assert import_cnns(folder, ["rare"], tmp_path / "in") == "Imported 2 CNNs for rare."
    there, here = load_ensemble(folder, list(table)), load_ensemble(tmp_path / "in", ["rare"])
    torch.testing.assert_close(here.scores(images[:20])[:, 0], there.scores(images[:20])[:, 1])
    with pytest.raises(ValueError, match=r"holds a CNN for 'bright' and 'rare'"):
        import_cnns(folder, ["hat"], tmp_path / "out")


def test_every_fold_has_its_share_of_a_rare_class():
    random = np.random.default_rng(0)
    labels = np.stack([random.permutation(1000) < 10, random.random(1000) < 0.4], axis=1)
    lesson = Lesson(None, labels.astype(int), ("rare", "usual"), CNNSettings(folds=5))
    rows = stratified_folds(lesson)
    assert sorted(np.concatenate([valid for _, valid in rows])) == list(range(1000))
    for train, valid in rows:
        assert labels[valid, 0].sum() == 2
        assert labels[valid, 1].mean() == pytest.approx(labels[:, 1].mean(), abs=0.01)
        assert not set(train) & set(valid)


def test_augmented_images_are_mirrored_shifted_and_brightened_but_not_mixed():
    images = torch.rand(64, 3, 32, 32)
    changed = augment(images, torch.Generator().manual_seed(0), mirror=True)
    seen = set()
    for original, image in zip(images, changed, strict=True):
        fits = {}
        for flip, down, across in np.ndindex(2, 3, 3):
            crop = (original.flip(2) if flip else original)[:, 3 + down :, 3 + across :][
                :, :24, :24
            ]
            pair = torch.stack([image[:, 4:28, 4:28].flatten(), crop.flatten()])
            fits[flip, down, across] = torch.corrcoef(pair)[0, 1].item()
        assert max(fits.values()) > 0.999
        seen.add(max(fits, key=fits.get))
    assert len(seen) > 12  # of 18


def test_calibration_undoes_class_weights():
    random = np.random.default_rng(0)
    honest = random.normal(-2, 2, 20_000)
    labels = (random.random(20_000) < 1 / (1 + np.exp(-honest))).astype(int)
    ones = np.ones((20_000, 1), dtype=np.float32)
    scale, shift = calibrate(2 * honest[:, None] + 3, labels[:, None], ones)[:, 0]  # overconfident
    assert scale == pytest.approx(0.5, abs=0.03)
    assert shift == pytest.approx(-1.5, abs=0.1)
    scale, shift = calibrate(-honest[:, None], labels[:, None], ones)[:, 0]  # worse than chance
    assert (scale, 1 / (1 + np.exp(-shift))) == pytest.approx((0, labels.mean()), abs=1e-3)


def test_calibration_is_not_bent_by_how_images_were_chosen():
    random = np.random.default_rng(0)
    honest = random.normal(-2, 2, 40_000)
    labels = (random.random(40_000) < 1 / (1 + np.exp(-honest))).astype(float)
    kept = random.random(40_000) < np.where(
        labels == 1, 1.0, 0.1
    )  # ones chosen ten times as often
    logits, given = honest[kept, None], labels[kept, None]
    weights = np.where(given == 1, 0.1, 1.0)
    assert calibrate(logits, given, np.ones_like(given))[1, 0] > 2  # log(10) too high
    assert calibrate(logits, given, weights)[:, 0] == pytest.approx([1, 0], abs=0.1)


def test_guesses_help_to_calibrate_where_few_labels_are_held_out(monkeypatch):
    random = np.random.default_rng(0)
    honest = random.normal(-3, 2, (2030, 1))
    labels = (random.random((2030, 1)) < 1 / (1 + np.exp(-honest))).astype(float)
    labels[30:] = np.nan
    images = torch.zeros(2030, 1, 1, 3, dtype=torch.uint8)
    weights = np.where(np.isnan(labels), 0.0, 1.0)
    guesses, errors = 1 / (1 + np.exp(-honest)), {}
    monkeypatch.setattr(Lesson, "logits", lambda _, net, rows: torch.from_numpy(honest / 2)[rows])
    for name, soft in {"labels": None, "both": guesses}.items():
        lesson = Lesson(images, labels, ("rare",), CNNSettings(), weights, None, soft)
        scale, shift = _calibration(None, lesson, np.arange(30), honest[:30] / 2)[:, 0]
        probability = 1 / (1 + np.exp(-scale * honest / 2 - shift))
        errors[name] = np.abs(probability - guesses).mean()
    assert errors["labels"] > 1.15 * errors["both"]  # .048 and .038


def test_a_missing_label_teaches_nothing_and_tests_use_random_images():
    images, table = planted(200)
    labels = table.to_numpy(float, copy=True)
    known = np.arange(200) % 2 == 0
    labels[~known, 1] = np.nan
    weights, drawn = np.where(np.isnan(labels), 0.0, 1.0), np.arange(200) < 120
    settings = CNNSettings(folds=2, width=0.125, batch=50, max_epochs=1, seed=1)
    one = Lesson(images, labels, ("bright", "rare"), settings, weights, drawn)
    for train, valid in stratified_folds(one):
        assert len(train) + len(valid) == 200
        assert 55 <= drawn[valid].sum() <= 65
    logits = torch.zeros(200, 2, requires_grad=True)
    loss = _loss(logits, one.target, class_weights(one.target, one.learn), one.learn)
    loss.sum().backward()
    assert ((logits.grad[:, 1] != 0).numpy() == known).all()
    share = table["rare"][known].mean()
    assert class_weights(one.target, one.learn)[1, 1] == pytest.approx((0.5 / share) ** 0.5)
    rows = np.arange(200)
    scores = np.where(drawn[:, None], labels, 1 - labels)  # right on random images only
    assert one.validation_auroc(rows, np.nan_to_num(scores)) == {"bright": 1, "rare": 1}
    ones = np.flatnonzero(labels[:, 0] == 1)
    assert np.isnan(one.validation_auroc(ones, scores[ones])["bright"])
    with pytest.raises(ValueError, match="^rare: 0 labelled images drawn at random;"):
        stratified_folds(replace(one, drawn=drawn & ~known))


def test_guesses_are_learnt_in_every_fold_and_never_validated():
    images, table = planted(120)
    labels = table.to_numpy(float, copy=True)
    labels[80:] = np.nan
    guesses = np.full((120, 2), 0.25)
    weights, drawn = np.where(np.isnan(labels), 0.0, 1.0), np.arange(120) < 60
    settings = CNNSettings(folds=2, width=0.125, batch=50, max_epochs=1, seed=1)
    one = Lesson(images, labels, ("bright", "rare"), settings, weights, drawn, guesses)
    for train, valid in stratified_folds(one):
        assert set(range(80, 120)) <= set(train)
        assert valid.max() < 80
    assert (one.target[80:] == 0.25).all()
    assert torch.equal(one.target[:80], torch.tensor(labels[:80], dtype=torch.float32))
    assert (one.learn == 1).all()
    assert (one.valid[80:] == 0).all()
    loss = _loss(torch.zeros(120, 2), one.target, torch.tensor([[1.0], [3.0]]), one.learn)
    assert torch.allclose(loss[80:], torch.tensor(1.5 * np.log(2)).float())  # 1/4 of 3, 3/4 of 1
