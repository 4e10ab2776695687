"""Evaluation: the figures are of the images they say, and looking changes nothing."""

import pytest
import torch

from ohlora_lib.evaluation.evaluator import Evaluator
from ohlora_lib.nets import Generator, PropertyCNN
from ohlora_lib.properties.ensemble import Ensemble

PROPERTIES = ["gender", "age"]


def ensemble(seed):
    torch.manual_seed(seed)
    return Ensemble({
        prop: [PropertyCNN(prop, image_px=32, width=0.1) for _ in range(2)] for prop in PROPERTIES
    })  # fmt: skip


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    return Generator(32, z_dim=8, w_dim=8, fmaps_base=128)


@pytest.fixture(scope="module")
def evaluator():
    selected = torch.randint(0, 256, (80, 32, 32, 3), dtype=torch.uint8)
    return Evaluator(ensemble(1), ensemble(2), selected, samples=12, seed=4)


def test_row_is_of_the_samples(evaluator, generator):
    evaluation = evaluator(generator, 3)
    kinds = ("mean", "heldout", "fixed", "fixed_heldout")
    names = [f"{kind}_{prop}_score" for kind in kinds for prop in PROPERTIES]
    assert list(evaluation.row) == [*names, "diversity", "recall"]
    fresh = evaluator.draw(generator, seed=4, batch=12, start=36)
    fixed = torch.from_numpy(evaluation.fixed_images)
    judges = (evaluator.selector, evaluator.judge) * 2
    for kind, judge, images in zip(kinds, judges, (fresh, fresh, fixed, fixed), strict=True):
        wanted = judge.scores(images).mean(dim=0).tolist()
        found = [evaluation.row[f"{kind}_{prop}_score"] for prop in PROPERTIES]
        assert found == pytest.approx(wanted, rel=1e-5)
    values = [evaluation.row[name] for name in names]
    assert len({round(value, 9) for value in values}) == len(values)  # none is another's copy


def test_fixed_samples_stay_and_fresh_ones_change(evaluator, generator):
    first, second = evaluator(generator, 0), evaluator(generator, 1)
    assert (first.fixed_images == second.fixed_images).all()
    assert first.row["fixed_gender_score"] == second.row["fixed_gender_score"]
    assert first.row["mean_gender_score"] != second.row["mean_gender_score"]
    assert evaluator(generator, 0).row == first.row


def test_looking_changes_nothing(evaluator, generator):
    generator.train()
    random = torch.get_rng_state()
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    evaluator(generator, 0)
    assert generator.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[n], v) for n, v in generator.state_dict().items())
    generator.eval()
    evaluator(generator, 0)
    assert not generator.training
