"""A stopped training of property CNNs goes on with the next fold, and with nothing else."""

import itertools
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from ohlora_lib.io.weights import load_property_cnn
from ohlora_lib.properties import ensemble
from ohlora_lib.properties.ensemble import CNNSettings, fold_table, history_table
from ohlora_lib.properties.training import train_ensemble

SETTINGS = {
    "folds": 2, "width": 0.125, "batch": 8, "max_epochs": 2, "patience": 12,
    "learning_rate": {"bright": 3e-3, "dark": 2e-3}, "max_attempts": 1, "seed": 1,
}  # fmt: skip


def train(folder, stop_after=99, bright=0, **changes):
    random = np.random.default_rng(0)
    labels = random.permutation(np.arange(48) % 2)
    pixels = random.integers(0, 170, (48, 32, 32, 3)) + 80 * labels[:, None, None, None]
    images = torch.from_numpy(pixels.astype(np.uint8))
    images[0] += bright
    table = pd.DataFrame({"bright": labels, "dark": 1 - labels})
    settings = CNNSettings(**{**SETTINGS, **changes})
    data = (images, table, np.arange(48), ["bright", "dark"], settings, folder)
    return list(itertools.islice(train_ensemble(*data), stop_after))


def test_stopped_after_a_fold_and_started_again_is_as_if_never_stopped(tmp_path, monkeypatch):
    whole = train(tmp_path / "whole")
    train(tmp_path / "stopped", stop_after=3)
    (tmp_path / "stopped" / "dark-fold0.safetensors").unlink()  # killed between the two files
    calls, original = [], ensemble._train_fold

    def count(*args):
        calls.append(args[2:5:2])
        return original(*args)

    monkeypatch.setattr(ensemble, "_train_fold", count)
    again = train(tmp_path / "stopped")
    assert calls == [("dark", 1)]
    pd.testing.assert_frame_equal(fold_table(again), fold_table(whole))
    pd.testing.assert_frame_equal(history_table(again), history_table(whole))
    for a, b in zip(again, whole, strict=True):
        assert np.array_equal(a.valid_scores, b.valid_scores)
        assert np.array_equal(a.valid_rows, b.valid_rows)
        name = f"{a.prop}-fold{a.fold}.safetensors"
        nets = [load_property_cnn(tmp_path / part / name) for part in ("whole", "stopped")]
        there, here = (net.state_dict() for net in nets)
        assert all(torch.equal(there[k], here[k]) for k in there)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"mirror": True}, "mirror was False and is now True"), ({"bright": 1}, "images is another")],
)
def test_other_parameters_or_images_are_named(tmp_path, change, said):
    train(tmp_path, stop_after=1)
    with pytest.raises(ValueError, match=said):
        train(tmp_path, **change)


def test_folds_of_an_earlier_run_do_not_vote_on(tmp_path):
    train(tmp_path / "cnns")
    for name in ("bright-fold7.safetensors", "hat-fold0.safetensors"):
        shutil.copy(tmp_path / "cnns" / "dark-fold0.safetensors", tmp_path / "cnns" / name)
    train(tmp_path / "cnns")
    names = {path.name for path in (tmp_path / "cnns").glob("*-fold*.safetensors")}
    assert names == {f"{p}-fold{k}.safetensors" for p in ("bright", "dark") for k in range(2)}
