"""Figures: they hold the data they were given, fit on their canvas, and are said in words."""

import math
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from ohlora_lib.figures import captions, style, training
from ohlora_lib.report import show
from ohlora_lib.study.run_folder import Run
from ohlora_lib.verdict import logs, verdict
from ohlora_lib.verdict.verdict import PUBLISHED_CONCEPT as CONCEPT

ENDS = {"gender": (0.65, 0.9), "quality": (0.9, 0.85), "age": (0.31, 0.02), "glass": (0.19, 0.01)}


def make_log(rows=24, seed=0):
    """A short log with all our columns."""
    rng = np.random.default_rng(seed)
    log = pd.DataFrame({"epoch": np.arange(rows) // 8, "idx": np.arange(rows) % 8 * 5})
    way = np.linspace(0, 1, rows)
    log["d_loss"], log["g_loss"] = rng.normal(1.3, 0.1, rows), rng.normal(1, 0.2, rows)
    log["real_fake_auroc"] = rng.uniform(0.6, 1, rows)
    for source in ("mean", "heldout"):
        for prop, (start, end) in ENDS.items():
            mean = start + (end - start) * way
            log[f"{source}_{prop}_score"] = rng.binomial(100, mean) / 100
    log["pooled_auroc"] = log["real_fake_auroc"].expanding().mean()
    log["diversity"], log["recall"] = 1 - 0.1 * way, 0.9 - 0.1 * way
    return log.assign(time_epochs=logs.time_epochs(log))


def make_scores():
    rng = np.random.default_rng(0)
    return pd.concat([
        pd.DataFrame({"stage": stage, "property": "gender", "score": rng.beta(a, 1, 300)})
        for stage, a in (("base", 2), ("after", 20))
    ])  # fmt: skip


def make_history():
    return pd.DataFrame([
        {"property": prop, "fold": fold, "epoch": epoch, "train_loss": 0.5 / (1 + epoch),
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
FIGURES = {
    "losses": (style.plot_losses, captions.describe_losses, (make_log(),)),
    "auroc": (style.plot_auroc, captions.describe_auroc, (make_log(),)),
    "auroc_published": (
        style.plot_auroc, captions.describe_auroc, (make_log().drop(columns="pooled_auroc"),),
    ),
    "scores_one": (
        style.plot_scores, captions.describe_scores, (make_log(), ["gender", "quality"], CONCEPT),
    ),
    "scores_all": (
        style.plot_scores, captions.describe_scores, (make_log(), list(CONCEPT), CONCEPT),
    ),
    "comparison": (
        style.plot_property_comparison, captions.describe_property_comparison, (LONG, "age", 0),
    ),
    "heldout": (style.plot_heldout, captions.describe_heldout, (make_log(), CONCEPT)),
    "diversity": (style.plot_diversity, captions.describe_diversity, (make_log(),)),
    "distributions": (
        style.plot_score_distributions, captions.describe_score_distributions,
        (make_scores(), "gender", 1),
    ),
    "folds": (style.plot_fold_losses, captions.describe_fold_losses, (make_history(),)),
    "calibration": (style.plot_calibration, captions.describe_calibration, (make_calibration(),)),
    "costs": (style.plot_selection_costs, captions.describe_selection_costs, (COSTS,)),
}  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_figure_fits_its_canvas_and_hides_no_data(name):
    """Every text inside the canvas, the legend outside the data, labels on both axes."""
    plot, _, given = FIGURES[name]
    ax = plot(*given)
    assert isinstance(ax, Axes)
    ax.figure.draw_without_rendering()
    drawn, canvas, legend = ax.get_tightbbox(), ax.figure.bbox, ax.get_legend()
    assert 0 <= drawn.x0 < drawn.x1 <= canvas.x1
    assert 0 <= drawn.y0 < drawn.y1 <= canvas.y1
    assert not legend.get_window_extent().overlaps(ax.get_window_extent())
    assert not legend.get_window_extent().overlaps(ax.xaxis.label.get_window_extent())
    assert ax.get_xlabel()
    assert ax.get_title(loc="left")


@pytest.mark.parametrize("name", FIGURES)
def test_description_is_one_sentence_of_the_data(name):
    _, describe, given = FIGURES[name]
    text = describe(*given)
    assert text.endswith(".")
    assert "\n" not in text
    assert "nan" not in text
    assert any(character.isdigit() for character in text)


@pytest.mark.parametrize("name", FIGURES)
def test_plot_draws_where_it_is_told_and_leaves_the_input_alone(name):
    plot, _, given = FIGURES[name]
    ax = training.new_figure()
    frames = [each.copy() for each in given if isinstance(each, pd.DataFrame)]
    assert plot(*given, ax=ax) is ax
    for before, after in zip(
        frames, [g for g in given if isinstance(g, pd.DataFrame)], strict=True
    ):
        pd.testing.assert_frame_equal(before, after)


def test_lines_are_the_data():
    log = make_log()
    ax = style.plot_losses(log, window=5)
    raw, smoothed = (line.get_ydata() for line in ax.lines[:2])
    np.testing.assert_array_equal(raw, log["d_loss"])
    np.testing.assert_allclose(smoothed, verdict.smooth(log["d_loss"], 5))
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), log["time_epochs"])
    assert ax.lines[0].get_alpha() < 0.5 < ax.lines[1].get_linewidth()


def test_series_differ_by_more_than_colour():
    ax = style.plot_scores(make_log(), list(CONCEPT), CONCEPT)
    strong = [line for line in ax.lines if line.get_linewidth() == 2]
    assert len({line.get_marker() for line in strong}) == len(strong) == 4
    assert len({str(line._unscaled_dash_pattern) for line in strong}) == 4


def test_targets_and_limits_are_drawn_and_named():
    ax = style.plot_scores(make_log(), list(CONCEPT), CONCEPT)
    assert {text.get_text() for text in ax.texts} == {"target 0", "target 1"}
    levels = {line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == ":"}
    assert levels >= {0, 1}
    low, high = ax.get_ylim()
    assert low < 0 < 1 < high
    assert training.property_groups(CONCEPT) == {1: ["gender", "quality"], 0: ["age", "glass"]}
    assert any("0.7" in text.get_text() for text in style.plot_diversity(make_log()).texts)


def test_gaps_and_running_logs_are_drawn():
    log = make_log()
    log.loc[::2, ["heldout_gender_score", "diversity"]] = np.nan
    style.plot_heldout(log, CONCEPT).figure.draw_without_rendering()
    ax = style.plot_diversity(log)
    ax.figure.draw_without_rendering()
    longest = max(ax.lines, key=lambda line: len(line.get_xdata()))
    assert np.isfinite(np.asarray(longest.get_ydata(), float)).sum() >= len(log) // 2
    for rows in (1, 2):
        first = make_log().head(rows)
        ax = style.plot_scores(first, list(CONCEPT), CONCEPT)
        ax.figure.draw_without_rendering()
        assert sum(len(line.get_xdata()) == rows for line in ax.lines) >= len(CONCEPT)
        style.plot_losses(first.drop(columns="time_epochs")).figure.draw_without_rendering()


def test_missing_column_is_named():
    with pytest.raises(ValueError, match="heldout_gender_score"):
        style.plot_heldout(make_log().drop(columns="heldout_gender_score"), CONCEPT)


def test_names_are_shown_as_text():
    labels = [
        t.get_text() for t in style.plot_property_comparison(LONG, "age", 0).get_legend().texts
    ]
    assert len(labels) == 2  # a leading underscore does not hide a run
    assert r"\$x^\$" in labels[1]
    assert max(map(len, labels)) <= 42


def test_calibration_tells_honest_from_biased_scores():
    table = make_calibration()
    for prop, honest in (("gender", True), ("age", False)):
        points = style.calibration_points(table[table["property"] == prop])
        covered = (points["share"] - points["below"] <= points["score"]) & (
            points["score"] <= points["share"] + points["above"]
        )
        assert (covered.mean() >= 0.8) == honest


def test_saved_files_are_whole_and_repeatable(tmp_path):
    for name in ("a", "b"):
        training.save_figure(style.plot_losses(make_log()).figure, tmp_path / "figures" / name)
    files = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert files == ["a.png", "a.svg", "b.png", "b.svg"]
    for kind in ("png", "svg"):
        first, second = ((tmp_path / "figures" / f"{n}.{kind}").read_bytes() for n in "ab")
        assert first == second
    assert (tmp_path / "figures" / "a.png").read_bytes()[16:24] == (
        math.floor(7.2 * 150).to_bytes(4) + math.floor(4.2 * 150).to_bytes(4)
    )


def test_plots_leave_pyplot_and_settings_alone():
    before = dict(mpl.rcParams)
    style.plot_losses(make_log())
    assert dict(mpl.rcParams) == before
    assert not mpl.pyplot.get_fignums() if "matplotlib.pyplot" in sys.modules else True


@pytest.fixture
def only_bundled_fonts(monkeypatch):
    """Only the fonts that matplotlib brings, whatever the machine has."""
    own = [e for e in training.fontManager.ttflist if str(e.fname).startswith(mpl.get_data_path())]
    monkeypatch.setattr(training.fontManager, "ttflist", own)
    monkeypatch.setattr(training, "findSystemFonts", list)
    training._fonts_for.cache_clear()
    yield
    training._fonts_for.cache_clear()


@pytest.mark.usefixtures("only_bundled_fonts")
def test_letters_come_from_whatever_font_has_them_and_else_one_sentence_says_so(
    tmp_path, monkeypatch, caplog
):
    script, korean = "\U0001d4d0", "\uc131\ubcc4"  # a script A, which DejaVu Sans has not
    for name, missing in ((script, ""), (korean, korean)):
        log = make_log().rename(columns={"mean_gender_score": f"mean_{name}_score"})
        ax = style.plot_scores(log, [name], {name: 1.0}, meaning={name: [script, "b"]})
        assert training.save_figure(ax.figure, tmp_path / "a") == missing
        (label,) = ax.get_legend().texts
        assert label.get_text() == f"{name} (1 = b, 0 = {script})"
        files = training.fontManager._find_fonts_by_props(label.get_fontproperties())
        assert any(ord(script) in training.get_font(file).get_charmap() for file in files)
    said = []
    monkeypatch.setattr(show, "sentence", said.append)
    monkeypatch.setattr(show, "display", lambda _: None)
    run = Run(tmp_path, "07_report_run", {}, {})
    for _ in range(2):
        show.figure(run, "a", ax, "alt")
    assert [text for text in said if "No installed font" in text] == [said[1]]
    assert f"the letters {korean};" in said[1]
    assert caplog.records == []  # nor does matplotlib report a font on the page
