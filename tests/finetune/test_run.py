"""Fine-tuning in a run folder: log, grids, checkpoints, and resuming."""

import os
import re
import signal
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from ohlora_lib.base.base import Base
from ohlora_lib.evaluation.evaluator import Evaluation
from ohlora_lib.finetune.loop import FinetuneSettings
from ohlora_lib.finetune.run import FinetuneRun, what_is_trained
from ohlora_lib.io.weights import (
    load_discriminator,
    load_generator,
    read_tensors,
    save_weights,
)
from ohlora_lib.nets import Discriminator, Generator, stylegan2
from ohlora_lib.study.parameters import FinetuneGenerator
from ohlora_lib.training import checkpoint
from ohlora_lib.training.checkpoint import load_state
from ohlora_lib.training.losses import NotFiniteError
from tests.checks import complaint, same

PROPERTIES = ("gender", "quality", "age", "glass")
COLUMNS = [
    *("epoch", "idx", "d_loss", "g_loss", "d_train_count", "g_train_count"),
    *("real_scores_mean", "fake_scores_mean", "real_fake_auroc"),
    *(f"mean_{prop}_score" for prop in PROPERTIES),
    *("elapsed_sec", "images_seen", "pooled_auroc"),
    *(f"{kind}_{p}_score" for kind in ("heldout", "fixed", "fixed_heldout") for p in PROPERTIES),
    *("diversity", "recall"),
]


class StandIn:
    """Stub evaluator whose scores depend only on the weights."""

    def facts(self):
        return {}

    def __call__(self, generator, index):
        total = sum(p.double().sum().item() for p in generator.parameters())
        kinds = ("mean", "heldout", "fixed", "fixed_heldout")
        row = {f"{kind}_{p}_score": total / 1e4 for kind in kinds for p in PROPERTIES}
        images = np.full((30, 16, 16, 3), index, dtype=np.uint8)
        return Evaluation(row | {"diversity": 1.0, "recall": 0.5}, images)


def make_base(architecture="stylegan1"):
    torch.manual_seed(0)
    if architecture == "stylegan2":
        both = {"channel_base": 64, "conv_clamp": 256.0}
        generator = stylegan2.Generator(16, z_dim=8, w_dim=8, mapping_layers=2, **both)
        return Base(generator, stylegan2.Discriminator(16, **both))
    sizes = {"fmaps_base": 64}
    return Base(Generator(16, z_dim=8, w_dim=8, **sizes), Discriminator(16, **sizes))


def open_run(folder, *, pixel_seed=0, architecture="stylegan1", **changes):
    base = make_base(architecture)
    random = torch.Generator().manual_seed(pixel_seed)
    selected = torch.randint(0, 256, (10, 16, 16, 3), dtype=torch.uint8, generator=random)
    values = {
        "epochs": 2, "batch": 4, "learning_rate": 1e-2, "every_batches": 2,
        "first_epoch_every": 2, "first_epoch_each": 1, "seed": 3,
        "recipe": "v9", "wide_dim": 12, **changes,
    }  # fmt: skip
    settings = {name: values.pop(name) for name in vars(FinetuneSettings()) if name in values}
    settings = FinetuneSettings(**settings)
    return FinetuneRun(folder, base, selected, StandIn(), settings=settings, **values)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def watched(run):
    """Number of log rows, of batches done, and of all batches."""
    return len(run.tuner.rows), run.tuner.batches_done, run.tuner.total_batches


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("v9")
    seen = []
    assert open_run(folder).train(lambda run: seen.append((*watched(run), run.grid.is_file())))
    return folder, seen


@pytest.mark.parametrize("recipe", ["v8", "v9"])
def test_log_has_the_published_form(finished, tmp_path, recipe):
    folder = finished[0]
    if recipe == "v8":
        folder = tmp_path
        assert open_run(folder, recipe="v8").train(lambda _: None)
    text = (folder / "train_log.csv").read_text()
    wanted = [c for c in COLUMNS if recipe == "v9" or c != "d_train_count"]
    lines = text.splitlines()
    assert lines[0].split(",") == ["", *wanted]
    assert [line.split(",")[:3] for line in lines[1:]] == [
        ["0", "0", "0"], ["1", "0", "2"], ["2", "1", "0"], ["3", "1", "2"], ["4", "2", "0"],
    ]  # fmt: skip
    cells = dict(zip(wanted, lines[1].split(",")[1:], strict=True))
    counts = {"epoch", "idx", "g_train_count", "d_train_count", "images_seen"}
    for name, cell in cells.items():
        assert re.fullmatch(r"\d+" if name in counts else r"-?\d+\.\d{4}", cell), name


def test_files(finished):
    folder = finished[0]
    assert names(folder) == [
        "checkpoints", "discriminator.safetensors", "generator.safetensors", "images",
        "train_log.csv",
    ]  # fmt: skip
    assert names(folder / "checkpoints") == [
        "generator-epoch0001.safetensors", "generator-epoch0002.safetensors",
        "state.pt",  # kept until the run writes its summary
    ]  # fmt: skip
    places = [(0, 0), (0, 2), (1, 0), (1, 2), (2, 0)]
    grids = [f"{epoch:04d}-idx{idx:05d}" for epoch, idx in places]
    assert names(folder / "images") == [f"fixed-epoch{name}.png" for name in grids]
    with Image.open(folder / "images" / "fixed-epoch0001-idx00000.png") as grid:
        assert grid.size == (8 * 18 - 2, 3 * 18 - 2)  # 24 of the 30
        assert grid.getpixel((0, 0)) == (2, 2, 2)  # of the third evaluation
    first, facts = read_tensors(folder / "checkpoints" / "generator-epoch0001.safetensors")
    assert (facts["epochs"], facts["images_seen"]) == ("1", "10")
    last = read_tensors(folder / "checkpoints" / "generator-epoch0002.safetensors")[0]
    final = load_generator(folder / "generator.safetensors").state_dict()
    assert same(final, last)
    assert not torch.equal(final["mapping.dense0.weight"], first["mapping.dense0.weight"])
    assert final["mapping.dense_new0.weight"].shape == (12, 8)
    load_discriminator(folder / "discriminator.safetensors")
    rows, done, total, drawn = zip(*finished[1], strict=True)  # what the watcher saw
    assert rows[:4] == (1, 2, 3, 4)
    assert set(total) == {7}
    assert list(done) == sorted(done)
    assert all(drawn)


def interrupted(folder, rows=2, **options):
    def stop(run):
        if len(run.tuner.rows) == rows:
            os.kill(os.getpid(), signal.SIGINT)

    run = open_run(folder, **options)
    assert not run.train(stop)
    assert (folder / "checkpoints" / "state.pt").is_file()
    assert not (folder / "generator.safetensors").exists()


def same_results(*folders):
    for file in ("generator.safetensors", "discriminator.safetensors"):
        assert same(*(read_tensors(folder / file)[0] for folder in folders))
    logs = [pd.read_csv(folder / "train_log.csv") for folder in folders]
    pd.testing.assert_frame_equal(*(log.drop(columns="elapsed_sec") for log in logs))
    for part in ("images", "checkpoints", "."):
        there, here = (names(folder / part) for folder in folders)
        assert there == here


@pytest.mark.parametrize(
    "change",
    [{"seed": 4}, {"recipe": "v8"}, {"pixel_seed": 1}, {"architecture": "stylegan2"}],
    ids=str,
)
def test_other_settings_are_an_error_that_names_them(tmp_path, change):
    interrupted(tmp_path)
    before = (tmp_path / "checkpoints" / "state.pt").read_bytes()
    message, name = complaint(open_run, tmp_path, **change), next(iter(change))
    assert "the training cannot resume, because" in message
    inputs = {"pixel_seed": "selected changed", "architecture": "base changed"}
    assert inputs.get(name, f"{name} was ") in message
    assert message.count(" is now ") + message.count(" changed") == 1  # names nothing else
    assert message.endswith(
        "or start anew with `start_anew = True` in the parameters cell, which keeps the old run."
    )
    assert (tmp_path / "checkpoints" / "state.pt").read_bytes() == before


RARELY = {"epochs": 3, "checkpoint_every": 2, "grid_every": 3}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run of 3 epochs that saves every second one."""
    folder = tmp_path_factory.mktemp("whole")
    assert open_run(folder, **RARELY).train(lambda _: None)
    return folder


@pytest.mark.parametrize("shorter", [1, 2])
def test_an_extended_training_equals_one_of_the_full_length(whole, tmp_path, monkeypatch, shorter):
    """Finishes a shorter run, then extends it to 3 epochs."""
    grids = ["0000-idx00000", "0001-idx00002", "0003-idx00000"]
    assert names(whole / "images") == [f"fixed-epoch{name}.png" for name in grids]
    kept = [path for path in (whole / "checkpoints").iterdir() if path.suffix == ".safetensors"]
    assert {path.stem for path in kept} == {"generator-epoch0002", "generator-epoch0003"}
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Pace, "due", lambda *_, **__: True)
        assert open_run(tmp_path, **RARELY | {"epochs": shorter}).train(lambda _: None)
    run = open_run(tmp_path, **RARELY)
    assert run.resumed
    assert run.tuner.batches_done == 3 * shorter  # no checkpoint has the closing batch
    assert run.train(lambda _: None)
    same_results(whole, tmp_path)
    for path in kept:
        assert same(*(read_tensors(f / "checkpoints" / path.name)[0] for f in (whole, tmp_path)))


def test_resuming_equals_an_uninterrupted_run(finished, tmp_path):
    interrupted(tmp_path, rows=3)
    said = complaint(open_run, tmp_path, epochs=0)
    assert "epochs is now 0, but the run has trained 1 epoch" in said
    run = open_run(tmp_path)
    assert run.resumed
    assert run.tuner.elapsed_sec > 0
    assert len(run.tuner.rows) == len(pd.read_csv(tmp_path / "train_log.csv")) == 3
    assert run.train(lambda _: None)
    same_results(finished[0], tmp_path)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_damaged_checkpoint_is_named(tmp_path, share):
    interrupted(tmp_path, rows=3)
    path = tmp_path / "checkpoints" / "state.pt"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert "state.pt: damaged checkpoint. Delete it" in complaint(open_run, tmp_path)


def broken_gradient(tuner):
    """Makes a gradient NaN while the loss stays finite."""
    parameter = tuner.generator.get_parameter(tuner.g_names[0])
    parameter.register_hook(lambda gradient: gradient * float("nan"))


def broken_loss(tuner):
    with torch.no_grad():
        tuner.discriminator.get_parameter(tuner.d_names[0]).fill_(float("inf"))


@pytest.mark.parametrize(
    ("trouble", "said"),
    [(broken_gradient, "a gradient of g_loss is nan"), (broken_loss, "d_loss is nan")],
)
def test_nan_stops_at_that_step_and_keeps_the_last_finite_state(tmp_path, trouble, said):
    run = open_run(tmp_path)

    def break_it(run):
        if watched(run)[:2] == (3, 4):
            trouble(run.tuner)

    with pytest.raises(NotFiniteError) as caught:
        run.train(break_it)
    message = str(caught.value)
    assert message.startswith(f"{said} at epoch 1, batch 1: training diverged.")
    assert "\n" not in message
    assert "then start anew with" in message
    assert f"The last checkpoint in {tmp_path / 'checkpoints'} is finite." in message
    assert len((tmp_path / "train_log.csv").read_text().splitlines()) == 4  # no row for this step
    last = load_state(tmp_path / "checkpoints" / "state.pt")[0]
    assert (last["epoch"], last["idx"]) == (1, 0)
    assert all(v.isfinite().all() for v in last["generator"].values())
    again = open_run(tmp_path)  # the last finite checkpoint resumes
    assert again.resumed
    assert again.train(lambda _: None)


def test_a_first_step_that_diverges_names_no_checkpoint(tmp_path):
    run = open_run(tmp_path)
    broken_loss(run.tuner)
    with pytest.raises(NotFiniteError, match="training diverged. Lower learning_rate"):
        run.train(lambda _: None)


def test_a_nan_score_stops_before_the_row_is_written(tmp_path, monkeypatch):
    def spoil(run):
        row = {"mean_age_score": float("nan"), "diversity": 1.0}
        if len(run.tuner.rows) == 2:
            monkeypatch.setattr(StandIn, "__call__", lambda *_: Evaluation(row, None))

    with pytest.raises(NotFiniteError, match="mean_age_score is nan at epoch 1, batch 0"):
        open_run(tmp_path).train(spoil)
    assert "nan" not in (tmp_path / "train_log.csv").read_text()


LAYERS = {"v8": "layers@4px", "v9": "layers@16px, layers@8px, layers@4px"}
INPUTS = {"v8": "", "v9": ", input@8px, input@4px"}  # which a StyleGAN2 lacks


@pytest.mark.parametrize("architecture", ["stylegan1", "stylegan2"])
@pytest.mark.parametrize("recipe", ["v8", "v9"])
def test_the_table_counts_the_weights_that_are_trained(tmp_path, recipe, architecture):
    base, wanted = make_base(architecture), {"recipe": recipe, "wide_dim": 12}
    inputs = {"base_run": "a", "cnn_run": "b", "selection_run": "c"}
    for name, net in vars(base).items():
        save_weights(net, tmp_path / f"{name}.safetensors")
    config = FinetuneGenerator.checked({**wanted, **inputs, "concept": {"age": 0}}, "here")
    table = what_is_trained(config, SimpleNamespace(inputs={"base_run": tmp_path}))
    tuner = open_run(tmp_path / "run", architecture=architecture, **wanted).tuner
    for name in vars(base):
        optimizer = getattr(tuner, f"{name[0]}_optimizer")
        trained = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
        total = sum(p.numel() for p in getattr(tuner, name).parameters())
        share = f"{trained:,} of {total:,} ({trained / total:.0%})"
        assert table[name]["weights trained"] == share
    parts = LAYERS[recipe] + (INPUTS[recipe] if architecture == "stylegan1" else "")
    assert table["discriminator"]["trained"] == parts
    rules = {"v8": "1", "v9": "1 to 4, until its loss is under 2.5 times the other's"}
    assert table["discriminator"]["updates per batch"] == rules[recipe]
