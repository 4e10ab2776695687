"""The independent judge: it sees what the parameters say, and is refused where it does not fit."""

import json
import sys
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import torch

from ohlora_lib.evaluation import independent
from ohlora_lib.evaluation.evaluator import Evaluator
from ohlora_lib.nets import Generator
from ohlora_lib.runner.stages import look
from ohlora_lib.study.parameters import EvaluateSamples
from ohlora_lib.study.records import FILES, input_paths
from tests.checks import complaint
from tests.evaluation.onnx_files import mean_model
from tests.evaluation.test_evaluator import PROPERTIES, ensemble

RUNS = dict.fromkeys(("base_run", "cnn_run", "selection_run", "finetune_run"), "outputs/s/x")
NCHW, NHWC = ("N", 3, 8, 8), ("N", 8, 8, 3)
OUTPUTS = {"gender": "0[0]", "age": "1 - 0[2]"}
needs_onnxruntime = pytest.mark.skipif(
    not find_spec("onnxruntime"), reason="needs onnxruntime: pip install 'ohlora[onnx]'"
)


def load(root, shape=NCHW, *, axes=(2, 3), outputs=OUTPUTS, **settings):
    mean_model(root / "own.onnx", shape, axes=axes)
    given = {"onnx_files": ["own.onnx"], "onnx_outputs": outputs}
    settings = {f"onnx_{name}": value for name, value in settings.items()}
    config = {**RUNS, "concept": {"gender": 1.0, "age": 0.0}, **given, **settings}
    return independent.load_independent(EvaluateSamples.checked(config, "here"), root)


def coloured(count=5, px=16):
    """Images of one colour each, white in the rows of the upper half."""
    colour = np.random.default_rng(0).integers(0, 256, (count, 1, 1, 3), dtype=np.uint8)
    images = np.broadcast_to(colour, (count, px, px, 3)).copy()
    images[:, : px // 2] = 255
    return torch.from_numpy(images), torch.from_numpy(colour[:, 0, 0]).double()


@needs_onnxruntime
@pytest.mark.parametrize(
    ("shape", "axes"),
    [(NCHW, (2, 3)), (NHWC, (1, 2)), ((2, 3, 8, 8), (2, 3)), (("N", "C", "H", "W"), (2, 3))],
    ids=["NCHW", "NHWC", "two at a time", "any size"],
)
def test_it_sees_the_pixels_that_the_parameters_say(tmp_path, shape, axes):
    images, colour = coloured()
    judge = load(tmp_path, shape, axes=axes, crop=[0.5, 1.0, 0.0, 0.5], px=8)
    found = judge.table(images)
    assert list(found) == ["gender_score", "age_score"]
    np.testing.assert_allclose(found["gender_score"], colour[:, 0] / 255, atol=1e-5)
    np.testing.assert_allclose(found["age_score"], 1 - colour[:, 2] / 255, atol=1e-5)
    whole = load(tmp_path, shape, axes=axes).table(images)
    half_white = (colour[:, 0] / 255 + 1) / 2
    np.testing.assert_allclose(whole["gender_score"], half_white, atol=1e-5)


@needs_onnxruntime
def test_channels_range_and_activation_are_as_given(tmp_path):
    images, colour = coloured()
    how = {"channels": "BGR", "mean": [100.0, 0.0, 0.0], "std": [50.0, 255.0, 255.0]}
    how["crop"] = [0.5, 1.0, 0.0, 1.0]
    logits = colour.flip(1)
    logits = (logits - torch.tensor([100.0, 0, 0])) / torch.tensor([50.0, 255, 255])
    outputs = {"gender": "0[0]", "age": "0[1:3]"}
    found = load(tmp_path, outputs=outputs, activation="softmax", **how).table(images)
    np.testing.assert_allclose(found["gender_score"], logits.softmax(1)[:, 0], atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    found = load(tmp_path, activation="sigmoid", **how).table(images)
    np.testing.assert_allclose(found["gender_score"], logits[:, 0].sigmoid(), atol=1e-5)


@needs_onnxruntime
def test_an_evaluation_has_its_scores_of_all_samples(tmp_path):
    torch.manual_seed(0)
    generator = Generator(32, z_dim=8, w_dim=8, fmaps_base=128)
    selected = torch.randint(0, 256, (20, 32, 32, 3), dtype=torch.uint8)
    judge = load(tmp_path)
    cnns = (ensemble(1), ensemble(2), selected)
    judged = Evaluator(*cnns, samples=6, independent=judge).judged(generator, 0)
    fresh = Evaluator(*cnns, samples=6).fresh(generator, 0)
    wanted = judge.table(fresh).rename(columns=lambda name: name.removesuffix("_score"))
    pd.testing.assert_frame_equal(judged.by("independent"), wanted)
    assert judged.row["independent_age_score"] == pytest.approx(wanted["age"].mean())
    assert list(judged.by("independent", "same")) == PROPERTIES


MISFITS = {  # what is given, what the line must name
    "a column too far": ({"outputs": {"age": "0[3]"}}, ["'0[3]'", "0[0:3] (means)"]),
    "an output too far": ({"outputs": {"age": "1[0]"}}, ["'1[0]'", "0[0:3] (means)"]),
    "logits": ({"std": [1.0, 1.0, 1.0]}, ["'0[0]'", "after onnx_activation 'none'", "sigmoid"]),
    "three axes": (
        {"shape": (3, 8, 8), "axes": (1, 2)},
        ["own.onnx", "[3, 8, 8]", "(N, 3, H, W)"],
    ),
    "grey": ({"shape": ("N", 1, 8, 8)}, ["own.onnx", "(N, 3, H, W)"]),
}


@needs_onnxruntime
@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path, case):
    given, words = MISFITS[case]
    said = complaint(load, tmp_path, **given)
    assert [word for word in words if word not in said] == []


@needs_onnxruntime
def test_a_study_is_checked_before_it_starts(tmp_path):
    """Its files are inputs, looked into; the runner names the parameter."""
    config, path = load(tmp_path).config, tmp_path / "own.onnx"
    assert input_paths(config.config(), FILES) == [("onnx_files", "own.onnx")]
    path.write_bytes(b"<html>")
    said = complaint(look, "onnx_files", config, path, tmp_path)
    assert "own.onnx: not a readable ONNX model (" in said
    path.unlink()
    said = complaint(independent.load_independent, config, tmp_path)
    assert "own.onnx: no such ONNX model" in said


def test_without_the_extra_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "pip install 'ohlora[onnx]'" in complaint(load, tmp_path)


def test_drawn_faces_are_none_of_its_business(tmp_path):
    config = EvaluateSamples.model_construct(onnx_files=["models/age.onnx"])
    base, cnns, population = (tmp_path / "outputs" / "s" / name for name in ("02", "03", "01"))
    for folder in (base, cnns, population):
        folder.mkdir(parents=True)
    (cnns / "config.json").write_text(json.dumps({"population_run": "outputs/s/01"}))
    kinds = {("files", "folder"): False, ("shipped", "folder"): True, ("files", "faces"): True}
    for sources, drawn in kinds.items():
        for folder, source in zip((base, population), sources, strict=True):
            (folder / "config.json").write_text(json.dumps({"source": source}))
        said = independent.scored_by(config, base, cnns)
        assert said.startswith("Scored by age.onnx.")
        assert ("photographs" in said) == drawn
