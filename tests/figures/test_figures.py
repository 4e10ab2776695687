"""Figures: they hold the data they were given, fit on their canvas, and are said in words."""

import re
import sys
from types import SimpleNamespace
from unittest.mock import Mock

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from ohlora_lib import figures
from ohlora_lib.figures import samples, style, training
from ohlora_lib.report import show
from ohlora_lib.verdict.logs import read_log
from ohlora_lib.verdict.verdict import PUBLISHED_CONCEPT as CONCEPT
from tests import log_samples


def make_log(seed=0):
    """A short log with all our columns."""
    ends = {"gender": 0.9, "quality": 0.85, "age": 0.02, "glass": 0.01}
    log = log_samples.make_log(seed, ends=ends)
    heldout = {f"heldout_{prop}_score": log[f"mean_{prop}_score"] for prop in ends}
    pooled = log["real_fake_auroc"].expanding().mean()
    return log.assign(**heldout, pooled_auroc=pooled, recall=log["diversity"] - 0.1)


def make_scores():
    score = np.random.default_rng(0).beta([[2], [20]], 1, (2, 300)).ravel()
    stage = np.repeat(["base", "after"], 300)
    return pd.DataFrame({"property": "gender", "stage": stage, "score": score})


def make_history():
    return pd.DataFrame([
        {"cnn": prop, "fold": fold, "epoch": epoch, "train_loss": 0.5 / (1 + epoch),
         "valid_loss": 0.6 / (1 + epoch) + 0.01 * fold}
        for prop in CONCEPT for fold in range(5) for epoch in range(9)
    ])  # fmt: skip


def make_calibration():
    rng = np.random.default_rng(0)
    score = rng.uniform(0, 1, 2000)
    label = (rng.uniform(0, 1, 2000) < score).astype(int)
    honest = pd.DataFrame({"property": "gender", "score": score, "label": label})
    biased = honest.assign(property="age", score=np.sqrt(score))
    return pd.concat([honest, biased])


COSTS = pd.DataFrame({
    "condition": ["gender >= 0.92", "age <= 0.008", "all of them"],
    "passes": [9000, 7000, 4930], "share": [0.9, 0.7, 0.5], "lost_only_here": [700, 1500, 0],
})  # fmt: skip
LONG = {"05_finetune_generator-v8_of_a_long_study": make_log(seed=1), "_$x^$ <b>": make_log()}
CURVE = pd.DataFrame({
    "property": ["age"] * 3 + ["glass"] * 3, "answers": [75, 150, 300] * 2,
    "auroc": [0.8, 0.87, 0.9, np.nan, 0.98, 1.0], "low": [0.7, 0.8, 0.85, np.nan, 0.8, 0.84],
    "high": [0.88, 0.92, 0.94, np.nan, 1.0, 1.0],
})  # fmt: skip
MEANING = {"gender": ["male", "female"]}
LEAKS = pd.DataFrame([[1, 0.4], [0.4, 1]], index=["age", "glass"], columns=["age", "glass"])
BOTH = {("held-out judge", "age"): (0.6, 0.1), ("independent judge", "age"): (0.5, 0.2)}
DISTANCES = pd.DataFrame(BOTH, ["base", "fine-tuned"]).T.rename_axis(["by", "property"])
FIGURES = {
    "losses-v9": lambda: figures.losses(make_log(), run="v9"),
    "auroc": lambda: figures.auroc(make_log()),
    "scores-gender-quality-age-glass": lambda: figures.scores(
        make_log(), list(CONCEPT), CONCEPT, MEANING
    ),
    "property-age": lambda: figures.property_comparison(LONG, "age", 0, MEANING),
    "heldout": lambda: figures.heldout(make_log(), CONCEPT),
    "diversity": lambda: figures.diversity(make_log()),
    "distribution-gender": lambda: figures.sample_scores(make_scores(), "gender", 1, MEANING),
    "scores-age": lambda: figures.label_scores(make_calibration(), "age", MEANING),
    "losses-age": lambda: figures.fold_losses(make_history(), "age"),
    "calibration-judge": lambda: figures.calibration(make_calibration(), "judge"),
    "label-curve": lambda: figures.label_curve(CURVE),
    "costs": lambda: figures.selection_costs(COSTS),
    "judges": lambda: figures.judges(DISTANCES),
    "leakage": lambda: figures.leakage(LEAKS),
    "progress": lambda: figures.progress(make_log(), CONCEPT),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_fits_its_canvas_hides_no_data_and_says_what_it_shows(name):
    """Every text inside the canvas, the legend outside the data; a sentence with numbers."""
    figure = FIGURES[name]()
    figure.drawing.draw_without_rendering()
    for ax in figure.drawing.axes if name != "leakage" else ():
        drawn, canvas, legend = ax.get_tightbbox(), figure.drawing.bbox, ax.get_legend()
        assert 0 <= drawn.x0 < drawn.x1 <= canvas.x1
        assert 0 <= drawn.y0 < drawn.y1 <= canvas.y1
        assert not legend.get_window_extent().overlaps(ax.get_window_extent())
        assert not legend.get_window_extent().overlaps(ax.xaxis.label.get_window_extent())
        assert ax.get_xlabel()
        assert ax.get_title(loc="left")
    assert figure.name == name
    assert re.fullmatch(r".*\d.*\.", figure.alt)
    assert "nan" not in figure.alt
    assert figure.reading.endswith(".") or name == "progress"  # which no notebook shows


def axes_of(figure):
    (ax,) = figure.drawing.axes
    return ax


def test_lines_are_the_data_with_centred_means_and_a_band_of_the_right_width():
    for log, beside in ((make_log(), 1), (read_log(log_samples.PUBLISHED[1]), 12)):
        raw, smoothed = axes_of(figures.losses(log)).lines[:2]
        np.testing.assert_array_equal(raw.get_ydata(), log["d_loss"])
        np.testing.assert_array_equal(raw.get_xdata(), log["time_epochs"])
        mean = log["d_loss"][12 - beside : 13 + beside].mean()
        assert smoothed.get_ydata()[12] == pytest.approx(mean)
    series = pd.Series(np.random.default_rng(0).standard_normal(4000))
    band = training._smooth_band(series, 25)
    inside = ((band["low"] < 0) & (band["high"] > 0))[100:-100].mean()
    assert 0.88 < inside < 0.99


def test_a_log_of_steps_is_drawn_over_steps_and_its_scores_name_their_source():
    log = make_log().assign(idx=np.arange(24) * 250.0)
    log.attrs = {"by_step": True, "foreign": True}
    figure = figures.scores(log, ["age"], CONCEPT)
    assert axes_of(figure).get_xlabel() == "training time (steps)"
    assert axes_of(figure).lines[0].get_xdata()[-1] == 5750
    assert "over steps 0 to 5,750 (24 evaluations)" in figure.alt
    assert figure.reading.endswith("Source: the scores as logged, not the held-out judge.")
    both = figures.property_comparison({"a": log, "b": make_log()}, "age", 0, MEANING)
    assert axes_of(both).get_xlabel() == "training time (steps or epochs)"
    ours = figures.scores(make_log(), ["age"], CONCEPT).reading
    assert ours.endswith("Source: the selecting CNNs, not the held-out judge.")


def test_series_differ_by_more_than_colour_and_targets_are_named():
    ax = axes_of(FIGURES["scores-gender-quality-age-glass"]())
    strong = [line for line in ax.lines if line.get_linewidth() == 2]
    assert len({line.get_marker() for line in strong}) == len(strong) == 4
    assert len({str(line._unscaled_dash_pattern) for line in strong}) == 4
    assert {text.get_text() for text in ax.texts} == {"target 0", "target 1"}
    assert figures.property_groups(CONCEPT) == {1: ["gender", "quality"], 0: ["age", "glass"]}


def test_gaps_and_running_logs_are_drawn():
    log = make_log().drop(columns="pooled_auroc")
    log.loc[::2, ["heldout_gender_score", "diversity"]] = np.nan
    for figure in (figures.heldout(log, CONCEPT), figures.auroc(log), figures.diversity(log)):
        figure.drawing.draw_without_rendering()
    longest = max(axes_of(figure).lines, key=lambda line: len(line.get_xdata()))
    assert np.isfinite(np.asarray(longest.get_ydata(), float)).sum() >= len(log) // 2
    for rows in (1, 2):
        drawing = figures.progress(make_log().head(rows), CONCEPT).drawing
        drawing.draw_without_rendering()
        lines = drawing.axes[1].lines
        assert sum(len(line.get_xdata()) == rows for line in lines) >= len(CONCEPT)


def test_the_strongest_leak_is_named():
    assert figures.leakage(-LEAKS).alt.startswith("age and glass changed somewhat against")
    nothing = pd.DataFrame(np.nan, index=["age", "glass"], columns=["age", "glass"])
    assert "no two properties" in figures.leakage(nothing).alt
    assert figures.leakage(nothing).reading.endswith("did not change: age and glass.")


def test_names_are_shown_as_text():
    legend = axes_of(FIGURES["property-age"]()).get_legend()
    labels = [text.get_text() for text in legend.texts]
    assert len(labels) == 2  # a leading underscore does not hide a run
    assert r"\$x^\$" in labels[1]
    assert max(map(len, labels)) <= 42


def test_calibration_tells_honest_from_biased_scores():
    table = make_calibration()
    for prop, honest in (("gender", True), ("age", False)):
        points = samples.calibration_points(table[table["property"] == prop])
        covered = (points["share"] - points["below"] <= points["score"]) & (
            points["score"] <= points["share"] + points["above"]
        )
        assert (covered.mean() >= 0.8) == honest


def test_files_are_the_same_again_and_settings_are_left_alone():
    before = dict(mpl.rcParams)
    for kind in ("png", "svg"):
        first, second = (style.drawn(figures.losses(make_log()).drawing, kind) for _ in range(2))
        assert first == second
        if kind == "png":
            assert first[16:24] == (1080).to_bytes(4) + (630).to_bytes(4)
    assert dict(mpl.rcParams) == before
    assert not mpl.pyplot.get_fignums() if "matplotlib.pyplot" in sys.modules else True


def test_letters_that_the_first_font_lacks_come_from_another(tmp_path, monkeypatch):
    script, none = "\U0001d4d0", "\U0001f9ff"  # a script A, which another font has; an amulet
    log = make_log().rename(columns={"mean_gender_score": f"mean_{script}_score"})
    style.drawn(figures.scores(log, [script], {script: 1.0}).drawing, "png")  # no warning
    log = log.rename(columns={f"mean_{script}_score": f"mean_{none}_score"})
    monkeypatch.setattr(show, "sentence", said := Mock())
    show.figure(SimpleNamespace(path=tmp_path), figures.scores(log, [none], {none: 1.0}))
    assert "install a font that has them" in said.call_args.args[0]


def test_the_first_point_of_a_flat_loss_curve_is_whole():
    flat = make_history().assign(train_loss=0.69, valid_loss=0.68)
    (ax,) = figures.fold_losses(flat, "age").drawing.axes
    assert ax.get_ylim()[1] > 0.72  # a marker is 0.01 high
