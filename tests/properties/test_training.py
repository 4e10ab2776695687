"""Property CNNs learn real properties and no random ones; an interrupt loses no trained fold."""

import itertools
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ohlora_lib.io.weights import load_property_cnn
from ohlora_lib.population.labels import split_halves
from ohlora_lib.properties import published, training
from ohlora_lib.properties.ensemble import Ensemble
from ohlora_lib.properties.lesson import CNNSettings, Lesson, stratified_folds
from ohlora_lib.properties.published import WHOLE, choose_crop, train_fold
from ohlora_lib.properties.training import fold_table, split_rows, train_ensemble
from ohlora_lib.training.checkpoint import load_state, save_state
from ohlora_lib.training.losses import NotFiniteError

SETTINGS = {
    "architecture": "published", "folds": 2, "width": 0.125, "batch": 8, "max_epochs": 12,
    "patience": 12, "learning_rate": {"bright": 3e-3, "dark": 2e-3}, "max_attempts": 1, "seed": 1,
    "mirror": False,
}  # fmt: skip


def planted(count=160, seed=0):
    """Noise images, brighter if labelled 1; the pixel values of the classes overlap."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(count) % 2)
    images = random.integers(0, 170, (count, 32, 32, 3)) + 80 * labels[:, None, None, None]
    return torch.from_numpy(images.astype(np.uint8)), labels


def lesson(images, labels, **changes):
    return Lesson(images, labels[:, None], ("bright",), CNNSettings(**SETTINGS | changes))


def train_folds(images, labels, **changes):
    one = lesson(images, labels, **changes)
    return [train_fold(one, k, rows) for k, rows in enumerate(stratified_folds(one))]


def first_fold(count, **changes):
    one = lesson(*planted(count), **changes)
    return train_fold(one, 0, stratified_folds(one)[0])


def test_folds_are_stratified_disjoint_and_complete():
    labels = np.repeat([0, 1], [80, 20])
    folds, other = (stratified_folds(lesson(None, labels, folds=5, seed=seed)) for seed in (1, 2))
    assert sorted(np.concatenate([valid for _, valid in folds])) == list(range(100))
    for train, valid in folds:
        assert not set(train) & set(valid)
        assert len(train) + len(valid) == 100
        assert labels[valid].sum() == 4  # would vary without stratification
    assert not np.array_equal(folds[0][1], other[0][1])


@pytest.mark.parametrize(("zeros", "ones"), [(10, 0), (10, 4)])
def test_too_few_of_a_class(zeros, ones):
    said = f"^bright: {zeros} images? labelled 0 and {ones} labelled 1; .* use fewer folds"
    with pytest.raises(ValueError, match=said):
        stratified_folds(lesson(None, np.repeat([0, 1], [zeros, ones]), folds=5))


def test_planted_property_is_learnt_and_the_best_epoch_kept():
    images, labels = planted()
    rows = stratified_folds(lesson(images, labels))
    for fold, (_, valid) in zip(train_folds(images, labels), rows, strict=True):
        assert not fold.net.training
        scores = Ensemble({"bright": [fold.net]}).scores(images[valid])[:, 0].numpy()
        assert roc_auc_score(labels[valid], scores) == pytest.approx(
            fold.auroc["bright"], abs=1e-3
        )
        assert fold.auroc["bright"] > 0.95
        loss = -np.log(np.where(labels[valid], scores, 1 - scores)).mean()
        assert loss == pytest.approx(fold.best_loss, rel=1e-3)
        assert fold.best_loss == fold.history["valid_loss"].min()


def test_shuffled_labels_are_not_learnt():
    """Leaked validation rows, or an AUROC over training images, would score high."""
    images, labels = planted()
    shuffled = np.random.default_rng(5).permutation(labels)
    assert np.mean([fold.auroc["bright"] for fold in train_folds(images, shuffled)]) < 0.7


def test_a_seed_decides_the_weights_and_a_second_attempt_starts_from_others():
    runs = [first_fold(64, max_epochs=2, seed=seed) for seed in (1, 1, 2)]
    first, same, other = (run.net.state_dict()["conv1.0.weight"] for run in runs)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    pd.testing.assert_frame_equal(runs[0].history, runs[1].history)
    one = lesson(*planted(64), max_epochs=2)
    again = published._attempt(one, 0, stratified_folds(one)[0], 2)
    assert not torch.equal(again.net.state_dict()["conv1.0.weight"], first)


@pytest.mark.filterwarnings(  # the replaced epoch steps the schedule but no optimizer
    "ignore:Detected call of `lr_scheduler.step"
)
@pytest.mark.parametrize(
    ("changes", "losses", "kept", "attempts"),
    [  # the 0 ending each attempt becomes the logits of its final scores
        (
            {"patience": 2, "max_epochs": 50, "loss_limit": {"bright": 0.45}},
            [0.9, 0.6, 0.7, 0.8, 0, 0.8, 0.5, 0.9, 0.4, 0.45, 0.6, 0],
            [0.8, 0.5, 0.9, 0.4, 0.45, 0.6],
            2,
        ),
        (
            {"max_epochs": 1, "loss_limit": {"bright": 0.1}},  # all exceed it: the best is kept
            [0.9, 0, 0.6, 0, 0.8, 0],
            [0.6],
            2,
        ),
    ],
)
def test_early_stop_and_attempts(monkeypatch, changes, losses, kept, attempts):
    left = iter(losses)
    monkeypatch.setattr(published, "train_epoch", lambda *_: 1.0)
    monkeypatch.setattr(
        Lesson, "logits", lambda _, __, rows: torch.full((len(rows), 1), next(left))
    )
    monkeypatch.setattr(
        published.F, "binary_cross_entropy_with_logits", lambda logits, _: logits.mean()
    )
    fold = first_fold(8, max_attempts=3, **changes)
    assert fold.history["valid_loss"].tolist() == pytest.approx(kept)
    assert fold.best_loss == pytest.approx(min(kept))
    assert fold.attempts == attempts
    assert not list(left)


def test_a_loss_that_is_not_finite_ends_the_fold():
    with pytest.raises(NotFiniteError, match=r"^bright, fold 0, epoch \d+: .*loss is (nan|inf)"):
        first_fold(8, max_epochs=30, learning_rate={"bright": 1e30})


def test_crop_of_the_settings_is_used():
    crop = [0.0, 0.5, 0.0, 1.0]
    assert lesson(*planted(2), crops={"bright": crop}).new_net().crop == tuple(crop)


def test_auto_takes_the_crop_with_the_higher_auroc():
    images, labels = planted()
    images = images.clone()
    images[:, :24] = torch.randint(0, 256, (len(images), 24, 32, 3), dtype=torch.uint8)
    below = Lesson(images, labels[:, None], ("age",), CNNSettings(**SETTINGS | {"crops": "auto"}))
    fold = choose_crop(below, 0, stratified_folds(below)[0])
    assert fold.net.crop == WHOLE  # its own crop ends above it


def train(folder, stop_after=99, bright=0, blank=False, **changes):
    images, labels = planted(96)
    images[0] += bright
    table = pd.DataFrame({"bright": labels, "dark": 1 - labels})
    if blank:
        images[1::2], table.iloc[1::2] = 0, 0
    settings = CNNSettings(**SETTINGS | {"max_epochs": 2} | changes)
    data = (images, table, np.arange(0, 96, 2), list(table), settings, folder)
    return list(itertools.islice(train_ensemble(*data), stop_after))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(folder)


def test_resuming_after_a_fold_equals_an_uninterrupted_training(whole, tmp_path, monkeypatch):
    train(tmp_path, stop_after=3)
    (tmp_path / "dark-fold0.safetensors").unlink()  # killed between writing the two files
    older = tmp_path / "checkpoints" / "state-bright-fold0.pt"  # saved by an earlier version
    state, facts = load_state(older)
    save_state(older, {"valid_rows": 0} | state, facts)
    calls = []

    def count(one, fold, rows):
        calls.append((one.name, fold))
        return train_fold(one, fold, rows)

    monkeypatch.setitem(training.TRAINERS, "published", count)
    again = train(tmp_path)
    assert calls == [("bright", 0), ("dark", 1)]
    pd.testing.assert_frame_equal(fold_table(again), fold_table(whole[1]))
    for a, b in zip(again, whole[1], strict=True):
        pd.testing.assert_frame_equal(a.history, b.history)
        name = f"{a.name}-fold{a.fold}.safetensors"
        there, here = (load_property_cnn(f / name).state_dict() for f in (whole[0], tmp_path))
        assert all(torch.equal(there[k], here[k]) for k in there)


def test_crops_tried_are_trained_once_and_kept_when_resuming(tmp_path, monkeypatch):
    crops = []

    def count(one, fold, rows):
        crops.append((one.settings.crops["age"], fold))
        return train_fold(one, fold, rows)

    monkeypatch.setattr(published, "train_fold", count)
    monkeypatch.setitem(training.TRAINERS, "published", count)
    images, labels = planted(96)
    settings = CNNSettings(**SETTINGS | {"crops": "auto", "max_epochs": 1})
    data = (images, pd.DataFrame({"age": labels}), np.arange(96), ["age"], settings, tmp_path)
    first = next(train_ensemble(*data))
    folds = list(train_ensemble(*data))
    own = published.LAYOUTS["age"].crop
    assert crops == [(own, 0), (WHOLE, 0), (first.net.crop, 1)]
    assert [fold.net.crop for fold in folds] == [first.net.crop] * 2
    assert torch.equal(folds[0].net.fc1[0].weight, first.net.fc1[0].weight)


def test_only_the_given_rows_are_trained_on(whole, tmp_path):
    (again,) = train(tmp_path, stop_after=1, blank=True)
    assert again.best_loss == whole[1][0].best_loss


@pytest.mark.parametrize(
    ("change", "said"),
    [({"mirror": True}, "mirror was False and is now True"), ({"bright": 1}, "images changed")],
)
def test_other_parameters_or_images_are_named(tmp_path, change, said):
    train(tmp_path, stop_after=1)
    with pytest.raises(ValueError, match=said):
        train(tmp_path, **change)


def test_folds_left_by_an_earlier_run_do_not_vote(tmp_path):
    train(tmp_path)
    for name in ("bright-fold7.safetensors", "hat-fold0.safetensors"):
        shutil.copy(tmp_path / "dark-fold0.safetensors", tmp_path / name)
    train(tmp_path)
    names = {path.name for path in tmp_path.glob("*-fold*.safetensors")}
    assert names == {f"{p}-fold{k}.safetensors" for p in ("bright", "dark") for k in range(2)}


def test_selector_and_judge_share_random_and_chosen_positives():
    random = np.random.default_rng(0)
    table = pd.DataFrame({"rare": np.repeat([1, 0, 1, 0], [6, 114, 60, 120])})
    table["source"] = np.repeat(["random", "chosen"], [120, 180])
    table = table.iloc[random.permutation(300)].reset_index(drop=True)
    for rows in split_rows(table, ["rare"], seed=0).values():
        counts = table.iloc[rows].groupby(["source", "rare"]).size()
        assert counts.to_dict() == {
            ("random", 1): 3, ("random", 0): 57, ("chosen", 1): 30, ("chosen", 0): 60,
        }  # fmt: skip
    halves = split_rows(table.drop(columns="source"), ["rare"], seed=0).values()
    for rows, other in zip(halves, split_halves(300, seed=0), strict=True):
        assert np.array_equal(rows, other)


@pytest.mark.parametrize("architecture", ["compact", "published"])
def test_images_chosen_for_one_property_train_its_cnns(tmp_path, architecture):
    images, labels = planted(60)
    table = pd.DataFrame({"bright": labels.astype(float), "dark": 1.0 - labels})
    table["source"] = np.where(np.arange(60) < 40, "random", "chosen")
    table.loc[50:, "dark"] = np.nan
    changes = {"architecture": architecture, "max_epochs": 1, "batch": 32}
    settings = CNNSettings(**SETTINGS | changes)

    def folds(table, *guesses):
        data = (images, table, np.arange(60), ["bright", "dark"], settings, tmp_path)
        return fold_table(list(train_ensemble(*data, *guesses)))

    found = folds(table)
    assert found["auroc"].notna().all()
    assert len(found) == 4
    with pytest.raises(ValueError, match="weights"):  # trained with other weights
        folds(table.assign(bright_weight=np.where(table["source"] == "chosen", 0.5, 1)))
    shutil.rmtree(tmp_path)
    table.loc[45:, ["bright", "dark"]] = np.nan
    guesses = np.full((60, 2), 0.5) if architecture == "compact" else None
    assert len(folds(table, guesses)) == 4
