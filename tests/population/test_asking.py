"""Choosing images finds rare values and learns from fewer answers, and bends no share."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from ohlora_lib.population.asking import features, guess, next_images, weights

COUNT, NUMBERS = 2500, 24
ASKED = 1500  # the first of them, where the others test
SHARE = 0.04  # of the rare value


@pytest.fixture(scope="module")
def made():
    """Features and a rare label that depends on them, with some noise."""
    random = np.random.default_rng(0)
    found = random.standard_normal((COUNT, NUMBERS)).astype(np.float32)
    logits = 5 * found[:, :4].sum(1) / 2 + random.standard_normal(COUNT)
    return found, (logits > np.quantile(logits, 1 - SHARE)).astype(float)


def answered(found, truth, *, share=0.2, seed=0, rounds=(100, 50, 50), asked_of=COUNT):
    """Labels and sources, (N,), after some rounds of questions; a share of each is random."""
    labels, source = np.full(len(truth), np.nan), np.full(len(truth), "", dtype=object)
    random = np.random.default_rng(seed)
    for count in rounds:
        left = random.permutation(np.flatnonzero(np.isnan(labels[:asked_of])))
        draws = int(count * share) if count < 100 else count
        chosen = next_images(found, labels, left[draws:], count - draws)
        assert len(set(chosen) & set(left[draws:])) == count - draws
        for kind, rows in (("random", left[:draws]), ("chosen", chosen)):
            labels[rows], source[rows] = truth[rows], kind
    return labels, source


def test_choosing_finds_rare_values_and_learns_more_than_random_order(made):
    found, truth = made
    unseen = np.arange(COUNT) >= ASKED
    positives, auroc = {0.2: [], 1.0: []}, {0.2: [], 1.0: []}
    for share in positives:
        for seed in range(3):
            labels, _ = answered(found, truth, share=share, seed=seed, asked_of=ASKED)
            positives[share].append(np.nansum(labels))
            scores = guess(found, labels)[unseen]
            auroc[share].append(roc_auc_score(truth[unseen], scores))
    assert np.sum(positives[0.2]) > 2 * np.sum(positives[1.0])  # 3.1
    assert np.mean(auroc[0.2]) > np.mean(auroc[1.0]) + 0.01  # .982 and .953


def test_weights_undo_the_choice(made):
    found, truth = made
    labels, source = answered(found, truth)
    rows = np.flatnonzero(~np.isnan(labels))
    bent, known = labels[rows].mean(), guess(found, labels)
    mine = weights(known, rows, source[rows])
    assert bent > 4 * SHARE  # .21
    assert mine.mean() == pytest.approx(1)
    assert (mine * labels[rows]).mean() == pytest.approx(SHARE, abs=0.015)  # .038
    probability = guess(found, labels, weights=mine)
    assert probability.mean() == pytest.approx(SHARE, abs=0.02)  # .030
    assert (weights(known, rows, np.full(len(rows), "random")) == 1).all()


def test_guesses_from_chosen_answers_are_calibrated():
    random, gaps = np.random.default_rng(0), []
    found = random.standard_normal((COUNT, NUMBERS)).astype(np.float32)
    signal = 5 * found[:, :4].sum(1) / 2
    truth = (signal + random.standard_normal(COUNT) > 0).astype(float)
    chance = norm.cdf(signal)
    for seed in range(6):
        labels, source = answered(
            found, truth, seed=seed, rounds=(100, 50, 50, 50), asked_of=ASKED
        )
        rows = np.flatnonzero(~np.isnan(labels))
        mine = weights(guess(found[:ASKED], labels[:ASKED]), rows, source[rows])
        probability = guess(found, labels, weights=mine)[ASKED:]
        tenth = (probability * 10).astype(int)
        gaps.append(
            np.abs(np.bincount(tenth, probability - chance[ASKED:])).sum() / (COUNT - ASKED)
        )
    assert np.mean(gaps) < 0.02  # .014; .10 uncalibrated


def test_a_copy_is_not_asked_about_in_the_same_round(made):
    found, truth = (np.concatenate([part, part]) for part in made)
    labels, _ = answered(found, truth)
    asked = next_images(found, labels, np.flatnonzero(np.isnan(labels)), 50) % COUNT
    assert len(set(asked)) == 50
    assert np.isnan(labels[asked]).all()


def test_with_one_answer_only_there_is_no_guess_and_the_order_is_kept(made):
    found, _ = made
    labels, rest = np.full(COUNT, np.nan), np.arange(COUNT - 1, 50, -1)
    labels[:50] = 0
    assert np.isnan(guess(found, labels)).all()
    assert (weights(guess(found, labels), np.arange(50), np.full(50, "chosen")) == 1).all()
    assert next_images(found, labels, rest, 10).tolist() == rest[:10].tolist()
    labels[50] = 1
    assert 0 < guess(found, labels).mean() < 0.2
    assert next_images(found, labels, rest, 10).tolist() != rest[:10].tolist()


def test_the_last_images_are_asked_about_too(made):
    found, truth = made
    labels = truth.copy()
    labels[:7] = np.nan
    assert sorted(next_images(found, labels, np.arange(7), 20)) == list(range(7))
    assert not len(next_images(found, truth, np.arange(0), 20))


@pytest.fixture(scope="module")
def loaded():
    """The first load of a network takes a second in every process."""
    return features(np.zeros((1, 64, 64, 3), np.uint8))


@pytest.mark.parametrize("image_px", [32, 96])
def test_features_are_finite_and_repeatable_at_any_size(loaded, image_px):
    state = torch.get_rng_state()
    images = np.random.default_rng(0).integers(0, 256, (6, image_px, image_px, 3), np.uint8)
    found = features(images)
    assert found.dtype == np.float32
    assert found.shape[0] == 6
    assert np.isfinite(found).all()
    assert np.square(found).mean() == pytest.approx(1, rel=1e-3)
    assert np.array_equal(found, features(images))
    assert torch.equal(state, torch.get_rng_state())
    assert np.isfinite(features(np.zeros((3, 64, 64, 3), np.uint8))).all()
