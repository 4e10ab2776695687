"""`params/published` reproduces the published study's settings, selection and evaluations."""

import gzip
from pathlib import Path

import pandas as pd
import pytest
import torch

from ohlora_lib.finetune.loop import FineTuner, FinetuneSettings
from ohlora_lib.finetune.recipe import RECIPES
from ohlora_lib.nets import Discriminator, Generator
from ohlora_lib.selection.select import read_scores, select
from ohlora_lib.study import parameters
from ohlora_lib.study.look import conditions, parse_condition
from tests.log_samples import DATA

ROOT = Path(__file__).parents[2]
STUDIES = ("published", "faces256", "stylegan2-256")


def stage(study, name):
    return parameters.load(ROOT / "params" / study / f"{name}.yaml")


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
def test_a_run_has_the_published_numbers_and_958_evaluations(study, version):
    config = stage(study, f"05_finetune_generator-{version}")
    numbers = {
        "recipe": version, "epochs": 72, "batch": 8, "learning_rate": 1e-4, "weight_decay": 0.01,
        "r1_gamma": 10.0, "every_batches": 50, "first_epoch_every": 25, "first_epoch_each": 10,
        "samples": 100, "wide_dim": 2048, "average_batches": 0.0,
        "concept": {"gender": 1, "quality": 1, "age": 0, "glass": 0},
    }  # fmt: skip
    assert {name: getattr(config, name) for name in numbers} == numbers
    settings = FinetuneSettings(**config.pick(FinetuneSettings, but="precision"))
    pixels = torch.zeros(4930, 2, 2, 3, dtype=torch.uint8)
    nets = Generator(16, z_dim=8, w_dim=8, fmaps_base=16), Discriminator(16, fmaps_base=16)
    one = FineTuner(*nets, pixels, RECIPES[config.recipe], settings)
    places = [one.place(batch) for batch in range(one.total_batches)]
    due = [place for place in places if settings.evaluation_due(*place)]
    log = pd.read_csv(DATA / f"train_log_{version}.csv")
    assert len(due) == 958
    assert due == list(zip(log["epoch"], log["idx"], strict=True))


@pytest.mark.parametrize("study", STUDIES)
def test_published_selection_and_cnns(study):
    chosen = stage(study, "04_select_images")
    assert chosen.keep == {"gender": 0.92, "quality": 0.9, "age": 0.008, "glass": 0.01}
    assert chosen.samples == 15000
    cnns = stage("published", "03_train_property_cnn")
    assert cnns.learning_rate == {"gender": 5e-6, "quality": 5e-6, "age": 2.5e-5, "glass": 5e-5}
    assert cnns.loss_limit == {"gender": 0.35, "quality": 0.13, "age": 0.23, "glass": 0.10}
    assert (cnns.folds, cnns.batch, cnns.patience, cnns.width) == (5, 16, 20, 1.0)
