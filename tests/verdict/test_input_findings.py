"""What speaks against the inputs of a fine-tuning: weak CNNs, few images, another base."""

import numpy as np
import pandas as pd
import pytest
import torch

from ohlora_lib.base.base import load_base
from ohlora_lib.evaluation import evaluator, evidence
from ohlora_lib.nets import PropertyCNN
from ohlora_lib.population.faces.faces import render_faces
from ohlora_lib.properties.ensemble import Ensemble
from ohlora_lib.verdict import findings


def table(auroc, ones=200, zeros=200, seed=0):
    """Scores of images nobody saw, of two normal distributions that far apart."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([1, 0], [ones, zeros])
    scores = rng.normal(labels * np.sqrt(2) * torch.special.ndtri(torch.tensor(auroc)).item())
    return pd.DataFrame({"property": "hat", "score": scores, "label": labels})


def called(**tables):
    found = evidence.auroc_table(tables)
    results = {name: found[name].unstack("by").to_dict() for name in ("auroc", "auroc_low")}
    return findings.of_cnns(results, ["hat"])


def test_cnns_that_guess_are_called_and_those_that_tell_are_not():
    (finding,) = called(selector=table(0.95), judge=table(0.51))
    assert finding.rule == "guessing"
    assert "CNNs are weak at hat (judge 0.5" in finding.text
    assert called(selector=table(0.9), judge=table(0.9)) == []
    (finding,) = called(selector=table(0.75), judge=table(0.75))
    assert "(selecting 0.7" in finding.text
    (finding,) = called(judge=table(0.9, 4, 4, seed=3))  # so few images prove nothing
    assert "at worst" in finding.text
    assert findings.of_cnns({"auroc": {"judge": {"hat": 0.5}}}, ["smile"]) == []


@pytest.mark.slow
def test_the_interval_of_an_auroc_holds_the_true_one():
    for true, ones, zeros in ((0.6, 10, 30), (0.9, 10, 30), (0.9, 100, 100)):
        held = 0
        for seed in range(200):
            row = evidence.auroc_table({"a": table(true, ones, zeros, seed)}).iloc[0]
            held += row["auroc_low"] <= true <= row["auroc_high"]
        assert 0.91 <= held / 200 <= 0.995, (true, ones, zeros)  # 0.95, and not always
    low, high = evidence.auroc_interval(1.0, 3, 3)
    assert low < 0.6
    assert high == 1.0
    assert evidence.auroc_interval(0.0, 3, 3) == pytest.approx((0.0, 1 - low))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (0, "0 images are too few to fine-tune on"),
        (1, "1 image is too few to fine-tune on (at least 8): loosen `keep` in 04_select_images"),
        (7, "7 images are too few"),
        (8, "only 8 images were selected"),
        (49, "only 49 images were selected"),
        (50, None),
    ],
)
def test_few_images_are_told(images, words):
    found = findings.of_count(images)
    assert [finding.text.startswith(words) for finding in found] == [True] * (words is not None)


def bars(count):
    rng = np.random.default_rng(0)
    images = np.zeros((count, 64, 64, 3), np.uint8)
    for image, upright in zip(images, rng.integers(0, 2, count), strict=True):
        image[:], at = rng.integers(0, 255, 3), rng.integers(5, 40)
        image[(slice(None), slice(at, at + 8)) if upright else slice(at, at + 8)] = 255
    return images


@pytest.mark.slow
def test_a_base_is_called_where_it_draws_something_else(tmp_path):
    from ohlora_lib.base.base import copy_shipped

    copy_shipped(tmp_path)
    generator = load_base(tmp_path).generator
    torch.manual_seed(0)
    nets = {name: [PropertyCNN(name, image_px=64, width=0.25)] for name in ("glass", "age")}
    faces = render_faces(range(5000, 5400), seed=1, image_px=64)
    found = {}
    for name, images in {"faces": faces, "bars": bars(400)}.items():
        options = {"seed": 0, "precision": "float32"}
        found[name] = evaluator.measure_base(generator, images, Ensemble(nets), **options)
    assert findings.of_base(found["faces"]) == []
    (finding,) = findings.of_base(found["bars"])
    assert "source: train" in finding.text
    assert "candidates: population" in finding.text
    assert findings.of_base(None) == []
