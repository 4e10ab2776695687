"""Statistics on logs: they read what is published, find what moved, and claim nothing else."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ohlora_lib.verdict import findings, logs, verdict
from ohlora_lib.verdict.comparison import compare_files
from tests.checks import complaint
from tests.log_samples import PUBLISHED, make_log, write

CONCEPT = verdict.PUBLISHED_CONCEPT


# ---- verdicts


@pytest.mark.parametrize(
    ("rows", "epochs", "rho", "runs"),
    [
        *((24, 4, 0, 20), (24, 4, 0.6, 20)),
        *(pytest.param(958, 72, rho, 8, marks=pytest.mark.slow) for rho in (0, 0.6)),
    ],
)
def test_unmoved_runs_are_not_called(rows, epochs, rho, runs):
    """Learning rate 0: at most 5 % of runs may be called on any property.

    An interval from the rows' spread alone calls a third of the autocorrelated runs.
    """
    tables = (
        verdict.run_verdict(make_log(k, rows, epochs, rho=rho), CONCEPT) for k in range(runs)
    )
    wrong = sum((table["effect"] != "not shown").any() for table in tables)
    assert wrong <= stats.binom.ppf(0.99, runs, 0.05)


def test_moved_runs_are_called_with_their_direction():
    """A short run like the quickstart's; quality truly gets worse here."""
    ends = {"gender": 0.9, "quality": 0.65, "age": 0.03, "glass": 0.19}
    want = {"gender": "closer", "quality": "moved away", "age": "closer", "glass": "not shown"}
    tables = [verdict.run_verdict(make_log(k, ends=ends), CONCEPT) for k in range(10)]
    right = [dict(zip(t["property"], t["effect"], strict=True)) == want for t in tables]
    assert np.mean(right) >= 0.8
    for table in tables:
        shown = (table["change_low"] > 0) | (table["change_high"] < 0)
        assert list(shown) == list(table["effect"] != "not shown")
        assert table["confidence"].eq(0.9875).all()
    again = verdict.run_verdict(make_log(0, ends=ends), CONCEPT)
    pd.testing.assert_frame_equal(again, tables[0])  # the seed repeats


def test_interval_holds_the_true_change():
    """Coverage of the change between true window means; too narrow or shifted would miss."""
    ends, inside = {"gender": 0.9}, []
    for k in range(60):
        row = verdict.run_verdict(make_log(k, ends=ends), {"gender": 1}).iloc[0]
        mean = 0.65 + 0.25 * (1 - np.exp(-4 * np.linspace(0, 1, 24)))
        truth = mean[: row["start_rows"]].mean() - mean[-row["end_rows"] :].mean()
        inside.append(row["change_low"] <= truth <= row["change_high"])
        assert row["change_low"] < row["change"] < row["change_high"]
    assert np.mean(inside) >= 0.9


def test_constant_scores_and_a_target_in_between():
    """Fixed samples of an unmoved generator: no noise at all must not look like certainty."""
    log = make_log().assign(mean_gender_score=0.5)
    row = verdict.run_verdict(log, {"gender": 0.5}).iloc[0]
    assert (row["change"], row["effect"]) == (0, "not shown")
    assert row["change_low"] < -0.01
    away = make_log(ends={"gender": 0.3})  # 0.65 to 0.3, past the target 0.5, and 0.2 beyond it
    table = verdict.run_verdict(away, {"gender": 0.5}).iloc[0]
    assert table["distance_end"] == pytest.approx(abs(table["end"] - 0.5))
    assert verdict.run_verdict(away, {"gender": 0.2})["effect"].item() == "closer"
    assert verdict.run_verdict(away, {"gender": 0.7})["effect"].item() == "moved away"


def test_scores_too_few_or_that_stop_show_nothing():
    log = make_log(ends={"gender": 0.99})
    table = verdict.run_verdict(log[:5], CONCEPT)
    assert set(table["effect"]) == {"not shown"}
    assert "too few" in verdict.verdict_sentence(table)
    log.loc[log.index >= 14, "mean_gender_score"] = np.nan
    row = verdict.run_verdict(log, CONCEPT).iloc[0]
    assert (row["effect"], np.isnan(row["change"])) == ("not shown", True)


def test_other_sources_and_gaps_between_evaluations():
    log = make_log(ends={"gender": 0.95}, rows=48)
    log["heldout_gender_score"] = log["mean_gender_score"].where(log.index % 2 == 0)
    table = verdict.run_verdict(log, {"gender": 1}, source="heldout")
    assert table["effect"].item() == "closer"
    assert logs.sources_of(log) == ["mean", "heldout"]
    with pytest.raises(ValueError, match="fixed_gender_score"):
        verdict.run_verdict(log, {"gender": 1}, source="fixed")


# ---- reading


def test_a_log_reads_as_it_was_written(tmp_path):
    log = make_log()
    read = logs.read_log(write(log, tmp_path / "train_log.csv"))
    pd.testing.assert_frame_equal(read, log)
    assert logs.properties_of(read) == list(CONCEPT)
    log = logs.read_log(PUBLISHED[1])
    assert list(log)[:-1] == list(pd.read_csv(PUBLISHED[1], index_col=0))
    assert log["time_epochs"].is_monotonic_increasing
    assert log["time_epochs"].iloc[-1] == 72


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda text: "", "no rows"),
        (lambda text: text.splitlines()[0] + "\n", "no rows"),
        (lambda text: text[: len(text) - 60], "line 25 has"),
        (lambda text: text.replace("d_loss", "loss"), "d_loss"),
        (lambda text: text + text.split("\n", 1)[1], "not later in training"),
        (lambda text: text.replace("\n3,0,30,", "\n3,0,x30,"), "'x30', not a number"),
        (lambda text: text.replace("\n3,0,30,", "\n3,0,,"), "epoch and idx"),
        (lambda text: text.replace(",0.", ",95."), "Divide by 100"),
    ],
)
def test_spoilt_files_are_refused_in_one_line(tmp_path, spoil, words):
    path = write(make_log(), tmp_path / "train_log.csv")
    path.write_text(spoil(path.read_text()))
    said = complaint(logs.read_log, path)
    assert "train_log.csv: " in said
    assert words in said
    assert ";" in said or "?" in said  # a remedy follows


@pytest.mark.parametrize("concept", [{}, {"gender": 1.5}, {"gender": float("nan")}])
def test_impossible_concepts_are_refused(concept):
    assert "targets 0 to 1" in complaint(verdict.run_verdict, make_log(), concept)


# ---- files


def foreign(tmp_path, **changes):
    """A log as somebody else writes it: a step, other names, the time in words, no AUROC."""
    log = make_log(rows=60, ends={"gender": 0.9})
    names = {"d_loss": "loss_D", "g_loss": "loss_G", "mean_gender_score": "she"}
    table = log[list(names)].rename(columns=names)
    table = table.assign(step=[*range(100, 6100, 100)], when="Monday", **changes)
    table.to_csv(tmp_path / "mine.csv", index=False)
    return tmp_path / "mine.csv", names


@pytest.mark.parametrize("auroc", [{}, {"real_fake_auroc": np.nan}])
def test_a_log_of_another_program_is_read_by_what_it_calls_its_columns(tmp_path, auroc):
    path, names = foreign(tmp_path, **auroc)
    assert "without d_loss, g_loss, mean_<property>_score" in complaint(logs.read_log, path)
    log = logs.read_log(path, columns=names)
    assert logs.properties_of(log) == ["gender"]
    assert log["time_epochs"].between(0, 1).all()  # of a log by step, the share
    assert log["time_epochs"].iloc[-1] > 0.95
    assert [found.rule for found in findings.of_log(log, {"gender": 1.0})] == []
    (run,) = compare_files([path], {"gender": 1}, columns=names)["runs"]
    assert run["sentence"].startswith("Training was stable. By the scores as logged: ")
    assert (run["epochs"], run["steps"]) == (None, 6000)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"mean_hat_score": "hat"}, "but the log has no column 'hat'; it has "),
        ({"mean_hat": "smile"}, "but docs/training-log.md has no column 'mean_hat'. Correct it"),
        ({"g_loss": "d_loss"}, "but the log has columns of both names; it has "),
    ],
)
def test_each_fault_of_a_columns_name_is_said_by_itself(tmp_path, columns, said):
    path = write(make_log(), tmp_path / "log.csv")
    assert said in complaint(logs.read_log, path, columns=columns)


def test_a_reader_may_name_the_step_and_say_that_a_log_is_whole(tmp_path):
    path = write(make_log().assign(idx=range(0, 240, 10)), tmp_path / "log.csv")
    with pytest.raises(ValueError, match="idx must restart at 0 .* --column step=idx"):
        logs.read_log(path)
    assert logs.read_log(path, columns={"step": "idx"}).attrs["by_step"]
    path = write(make_log().iloc[:-1], tmp_path / "log.csv")
    for complete, rules in ((False, ["cut off"]), (True, [])):
        log = logs.read_log(path, complete=complete)
        assert [found.rule for found in findings.of_log(log, CONCEPT)] == rules
