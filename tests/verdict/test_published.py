"""`params/published` is the published study: its numbers, evaluations and trainable layers."""

import gzip
from pathlib import Path

import pandas as pd
import pytest
import torch

from ohlora_lib.finetune.loop import FineTuner, FinetuneSettings, evaluation_due
from ohlora_lib.finetune.recipe import RECIPES
from ohlora_lib.nets import Discriminator, Generator
from ohlora_lib.selection.select import read_scores, select
from ohlora_lib.study import parameters
from ohlora_lib.study.look import conditions, parse_condition
from tests.log_samples import DATA

ROOT = Path(__file__).parents[2]
STUDIES = ("published", "faces256")
TRAINABLE = {  # at 256 px, as published: what the names begin with
    "v8": {
        "generator": ("mapping.", "synthesis.layer0.", "synthesis.layer1.", "synthesis.output0."),
        "discriminator": ("layer12.", "layer13.", "layer14."),
    },
    "v9": {
        "generator": (
            "mapping.",
            *(f"synthesis.layer{k}." for k in range(6)),
            *(f"synthesis.output{k}." for k in range(3)),
        ),
        "discriminator": (*(f"layer{k}." for k in range(8, 15)), "input5.", "input6."),
    },
}


def stage(study, name):
    return parameters.load(ROOT / "params" / study / f"{name}.yaml")


def tuner(config, images):
    """The stage's trainer, with few channels and small images: neither decides what is asked."""
    torch.manual_seed(0)
    sizes = {"fmaps_base": 256, "fmaps_max": 4}
    wide = 12 if RECIPES[config.recipe].split_mapping else 0
    generator = Generator(256, z_dim=8, w_dim=8, wide_dim=wide, **sizes)
    settings = FinetuneSettings(
        precision="float32", **config.pick(FinetuneSettings, but="precision")
    )
    pixels = torch.zeros(images, 2, 2, 3, dtype=torch.uint8)
    recipe = RECIPES[config.recipe]
    return FineTuner(generator, Discriminator(256, **sizes), pixels, recipe, settings)


def test_selection_keeps_4930(tmp_path):
    config = stage("published", "04_select_images")
    wanted = conditions(config.concept, config.keep)
    texts = ["gender>=0.92", "quality>=0.9", "age<=0.008", "glass<=0.01"]
    assert wanted == [parse_condition(text) for text in texts]
    path = tmp_path / "scores.csv"
    path.write_bytes(gzip.decompress((DATA / "scores_15k.csv.gz").read_bytes()))
    table = read_scores(path, wanted)
    selection = select(table, wanted, skip_first=config.skip_first)
    found = selection.summary()
    assert (found["rows"], found["candidates"], found["kept"]) == (15000, 13000, 4930)
    assert not selection.kept[:2000].any()
    assert select(table, wanted).kept.sum() != 4930  # leaving out the first 2,000 matters
    assert config.skip_first == stage("published", "01_make_population").labelled_rows


@pytest.mark.parametrize("version", ["v8", "v9"])
@pytest.mark.parametrize("study", STUDIES)
def test_a_run_writes_the_958_published_evaluations(study, version):
    config = stage(study, f"05_finetune_generator-{version}")
    one = tuner(config, images=4930)
    due = [(e, i) for e, i, _ in one.batches() if evaluation_due(e, i, one.settings)]
    log = pd.read_csv(DATA / f"train_log_{version}.csv")
    assert len(due) == 958
    assert due == list(zip(log["epoch"], log["idx"], strict=True))


@pytest.mark.parametrize("version", ["v8", "v9"])
@pytest.mark.parametrize("study", STUDIES)
def test_trainable_parameters_are_the_published_ones(study, version):
    config = stage(study, f"05_finetune_generator-{version}")
    assert config.recipe == version
    one = tuner(config, images=8)
    nets = {
        "generator": (one.generator, one.g_names),
        "discriminator": (one.discriminator, one.d_names),
    }
    for kind, (net, found) in nets.items():
        every = [name for name, _ in net.named_parameters()]
        wanted = [name for name in every if name.startswith(TRAINABLE[version][kind])]
        assert found == wanted
        assert 0 < len(wanted) < len(every)
    optimized = sum(p.numel() for group in one.g_optimizer.param_groups for p in group["params"])
    sizes = dict(one.generator.named_parameters())
    assert optimized == sum(sizes[name].numel() for name in one.g_names)


@pytest.mark.parametrize("version", ["v8", "v9"])
@pytest.mark.parametrize("study", STUDIES)
def test_every_published_number(study, version):
    config = stage(study, f"05_finetune_generator-{version}")
    numbers = {
        "epochs": 72, "batch": 8, "learning_rate": 1e-4, "weight_decay": 0.01, "r1_gamma": 10.0,
        "every_batches": 50, "first_epoch_every": 25, "first_epoch_each": 10, "samples": 100,
        "wide_dim": 2048, "average_batches": 0.0,
        "concept": {"gender": 1, "quality": 1, "age": 0, "glass": 0},
    }  # fmt: skip
    assert {name: getattr(config, name) for name in numbers} == numbers
    chosen = stage(study, "04_select_images")
    assert chosen.keep == {"gender": 0.92, "quality": 0.9, "age": 0.008, "glass": 0.01}
    assert chosen.samples == 15000
    cnns = stage("published", "03_train_property_cnn")
    assert cnns.learning_rate == {"gender": 5e-6, "quality": 5e-6, "age": 2.5e-5, "glass": 5e-5}
    assert cnns.loss_limit == {"gender": 0.35, "quality": 0.13, "age": 0.23, "glass": 0.10}
    assert (cnns.folds, cnns.batch, cnns.patience, cnns.width) == (5, 16, 20, 1.0)
