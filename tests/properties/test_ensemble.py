"""Property CNNs learn what is there, not what is not, and keep the halves apart."""

import numpy as np
import pandas as pd
import pytest
import torch

from ohlora_lib.nets import PropertyCNN
from ohlora_lib.properties import ensemble as property_ensemble
from ohlora_lib.properties.ensemble import (
    CNNSettings,
    Ensemble,
    fold_table,
    history_table,
    load_ensemble,
    stratified_folds,
    train_folds,
    unseen_auroc,
    unseen_scores,
)
from ohlora_lib.properties.training import train_ensemble
from ohlora_lib.training.losses import NotFiniteError

SETTINGS = {
    "folds": 2, "width": 0.125, "batch": 8, "max_epochs": 12, "patience": 12,
    "learning_rate": {"bright": 3e-3}, "max_attempts": 1, "seed": 1,
}  # fmt: skip


def settings(**changes):
    return CNNSettings(**{**SETTINGS, **changes})


def planted(count=160, seed=0):
    """Noise pictures, bright where the label is 1; the classes overlap pixel by pixel."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(count) % 2)
    images = random.integers(0, 170, (count, 32, 32, 3)) + 80 * labels[:, None, None, None]
    return torch.from_numpy(images.astype(np.uint8)), labels


@pytest.fixture(scope="module")
def learnt():
    return list(train_folds(*planted(), "bright", settings()))


def test_folds_are_stratified_disjoint_and_complete():
    labels = np.repeat([0, 1], [80, 20])
    folds = stratified_folds(labels, settings(folds=5), "age")
    assert sorted(np.concatenate([valid for _, valid in folds])) == list(range(100))
    for train, valid in folds:
        assert not set(train) & set(valid)
        assert len(train) + len(valid) == 100
        assert labels[valid].sum() == 4  # unstratified folds would vary
    other = stratified_folds(labels, settings(folds=5, seed=2), "age")
    assert not np.array_equal(folds[0][1], other[0][1])


@pytest.mark.parametrize(("zeros", "ones"), [(10, 0), (10, 4), (0, 10)])
def test_too_few_of_a_class(zeros, ones):
    labels = np.repeat([0, 1], [zeros, ones])
    with pytest.raises(ValueError, match="age") as caught:
        stratified_folds(labels, settings(folds=5), "age")
    message = str(caught.value)
    assert f"{zeros} images are labelled 0 and {ones} are labelled 1" in message
    assert "use fewer folds" in message
    assert "\n" not in message


def test_planted_property_is_learnt(learnt):
    assert [fold.fold for fold in learnt] == [0, 1]
    assert min(fold.auroc for fold in learnt) > 0.95
    for fold in learnt:
        assert not fold.net.training
        assert len(fold.valid_scores) == 80


def test_shuffled_labels_are_not_learnt():
    """A validation set that leaks into training, or an AUROC of training images, would be high."""
    images, labels = planted()
    shuffled = np.random.default_rng(5).permutation(labels)
    folds = list(train_folds(images, shuffled, "bright", settings()))
    assert np.mean([fold.auroc for fold in folds]) < 0.7


def test_scores_are_of_the_best_epoch(learnt):
    images, labels = planted()
    for fold in learnt:
        scores = Ensemble({"bright": [fold.net]}).scores(images[fold.valid_rows])[:, 0].numpy()
        np.testing.assert_allclose(scores, fold.valid_scores, atol=1e-5)
        truth = labels[fold.valid_rows]
        loss = -np.log(np.where(truth, scores, 1 - scores)).mean()
        assert loss == pytest.approx(fold.best_loss, rel=1e-3)
        assert fold.best_loss == fold.history["valid_loss"].min()


def test_same_seed_same_weights():
    runs = [
        next(train_folds(*planted(64), "bright", settings(max_epochs=2, seed=seed)))
        for seed in (1, 1, 2)
    ]
    first, same, other = (run.net.state_dict()["conv1.0.weight"] for run in runs)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    pd.testing.assert_frame_equal(runs[0].history, runs[1].history)


def scripted(monkeypatch, valid_losses):
    """Replaces training by given validation losses; returns how many epochs were trained."""
    left, epochs = iter(valid_losses), []

    def logits(net, images, rows, _):
        """A constant logit x gives the loss softplus(x) on zeros, softplus(-x) on ones."""
        if logits.scoring:
            return torch.zeros(len(rows), 1)
        return torch.full((len(rows), 1), float(np.log(np.expm1(next(left)))))

    logits.scoring = False

    def epoch(*_):
        epochs.append(0)
        return 1.0

    def loss_of(x, _):
        return torch.nn.functional.softplus(x).mean()

    monkeypatch.setattr(property_ensemble, "train_epoch", epoch)
    monkeypatch.setattr(property_ensemble, "_logits", logits)
    monkeypatch.setattr(property_ensemble.F, "binary_cross_entropy_with_logits", loss_of)
    return epochs


@pytest.mark.filterwarnings(  # the schedule is stepped, the replaced epoch steps no optimizer
    "ignore:Detected call of `lr_scheduler.step"
)
def test_early_stop_and_attempts(monkeypatch):
    images, labels = planted(8)
    # Attempt 1 stops two epochs after its best; attempt 2 likewise. Each ends with a scoring.
    losses = [0.9, 0.6, 0.7, 0.8, 0.5, 0.8, 0.5, 0.9, 0.4, 0.45, 0.6, 0.5]
    epochs = scripted(monkeypatch, losses)
    options = {"patience": 2, "max_epochs": 50, "max_attempts": 3, "loss_limit": {"bright": 0.45}}
    fold = next(train_folds(images, labels, "bright", settings(**options)))
    # Attempt 1: 0.9 0.6 0.7 0.8, scoring 0.5; attempt 2: 0.8 0.5 0.9 0.4 0.45 0.6, scoring 0.5.
    assert fold.history["valid_loss"].tolist() == pytest.approx([0.8, 0.5, 0.9, 0.4, 0.45, 0.6])
    assert fold.best_loss == pytest.approx(0.4)
    assert fold.attempts == 2
    assert len(epochs) == 4 + 6


def test_a_loss_that_is_no_number_ends_the_fold():
    images, labels = planted(8)
    wild = settings(max_epochs=30, learning_rate={"bright": 1e30})
    with pytest.raises(NotFiniteError, match=r"^bright, fold 0, epoch \d+: .*loss is (nan|inf)"):
        next(train_folds(images, labels, "bright", wild))


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_best_attempt_is_kept_when_all_are_over_the_limit(monkeypatch):
    images, labels = planted(8)
    scripted(monkeypatch, [0.9, 0.5, 0.6, 0.5, 0.8, 0.5])
    options = {"max_epochs": 1, "max_attempts": 3, "loss_limit": {"bright": 0.1}}
    fold = next(train_folds(images, labels, "bright", settings(**options)))
    assert fold.best_loss == pytest.approx(0.6)
    assert fold.history["valid_loss"].tolist() == pytest.approx([0.6])


def test_attempts_are_trained_from_different_weights():
    options = {"max_epochs": 1, "max_attempts": 2, "loss_limit": {"bright": 0.0}}
    fold = next(train_folds(*planted(32), "bright", settings(**options)))
    one = next(train_folds(*planted(32), "bright", settings(max_epochs=1)))
    if fold.attempts == 1:
        assert fold.best_loss == pytest.approx(one.best_loss)
    else:
        assert fold.best_loss < one.best_loss


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("selector")
    images, labels = planted(96)
    table = pd.DataFrame({"bright": labels, "dark": 1 - labels})
    rows = np.arange(0, 96, 2)
    options = settings(max_epochs=2, learning_rate={"bright": 2e-3, "dark": 2e-3})
    folds = list(train_ensemble(images, table, rows, ["bright", "dark"], options, folder))
    return folder, folds, images, table


def test_saved_ensemble_gives_identical_scores(saved):
    folder, folds, images, _ = saved
    members = {prop: [f.net for f in folds if f.prop == prop] for prop in ("bright", "dark")}
    back = load_ensemble(folder, ["bright", "dark"])
    assert torch.equal(back.scores(images), Ensemble(members).scores(images))
    assert [len(nets) for nets in back.members.values()] == [2, 2]
    assert not any(p.requires_grad for net in back.members["bright"] for p in net.parameters())


def test_score_is_the_mean_over_the_folds(saved):
    folder, _, images, _ = saved
    ensemble = load_ensemble(folder, ["dark", "bright"])
    members, scores = ensemble.member_scores(images), ensemble.scores(images)
    assert members["dark"].shape == (96, 2)
    assert (members["dark"][:, 0] - members["dark"][:, 1]).abs().max().item() > 1e-4
    torch.testing.assert_close(scores[:, 0], members["dark"].mean(dim=1))
    table = ensemble.table(images)
    assert list(table) == ["dark_score", "bright_score"]  # order as asked for
    np.testing.assert_allclose(table["bright_score"], scores[:, 1])
    torch.testing.assert_close(ensemble.member_scores(images, batch=7)["dark"], members["dark"])


def test_features_are_of_the_first_fold(saved):
    folder, _, images, _ = saved
    ensemble = load_ensemble(folder, ["bright", "dark"])
    features = ensemble.features(images[:5])
    width = ensemble.members["bright"][0].fc1[0].out_features
    assert features.shape == (5, 2 * width)
    wanted = ensemble.members["dark"][0].features(images[:5].permute(0, 3, 1, 2).float() / 255)
    torch.testing.assert_close(features[:, width:], wanted, rtol=1e-4, atol=1e-5)


def test_only_the_given_rows_are_trained_on(saved, tmp_path):
    """Other rows may hold anything: the result is the same."""
    _, folds, images, table = saved
    images, table = images.clone(), table.copy()
    images[1::2], table.iloc[1::2] = 0, 0
    options = settings(max_epochs=2, learning_rate={"bright": 2e-3})
    rows = np.arange(0, 96, 2)
    again = next(train_ensemble(images, table, rows, ["bright"], options, tmp_path))
    assert again.best_loss == folds[0].best_loss
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bright-fold0.safetensors",
        "checkpoints",
    ]


def test_tables(saved):
    _, folds, images, labels = saved
    table = fold_table(folds)
    assert list(table) == ["property", "fold", "auroc", "best_loss", "attempts", "epochs"]
    assert table["property"].tolist() == ["bright", "bright", "dark", "dark"]
    history = history_table(folds)
    assert len(history) == 8
    assert set(history) == {"epoch", "train_loss", "valid_loss", "property", "fold"}
    ensemble = Ensemble({"bright": [folds[0].net], "dark": [folds[2].net]})
    unseen = unseen_scores(ensemble, images[1::2], labels.iloc[1::2])
    assert len(unseen) == 96
    assert unseen["image"].tolist() == list(range(1, 96, 2)) * 2
    assert list(unseen_auroc(unseen)) == ["bright", "dark"]
    perfect = unseen.assign(score=unseen["label"] + 0.1)
    assert unseen_auroc(perfect) == {"bright": 1.0, "dark": 1.0}


def test_missing_property_is_told(saved):
    with pytest.raises(ValueError, match=r"no CNN for property 'hat'; .*\['bright', 'dark'\]"):
        load_ensemble(saved[0], ["bright", "hat"])


def test_crop_of_the_settings_is_used():
    options = settings(max_epochs=1, crops={"bright": [0.0, 0.5, 0.0, 1.0]})
    fold = next(train_folds(*planted(16), "bright", options))
    assert fold.net.crop == (0.0, 0.5, 0.0, 1.0)
    assert isinstance(fold.net, PropertyCNN)
