"""Logs against one another: the published claim is checked, and seeds count as seeds."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import special

from benchmarks import verdict as verdict_benchmark
from ohlora_lib.study.records import write_failure
from ohlora_lib.verdict import comparison
from ohlora_lib.verdict import logs as training_logs
from ohlora_lib.verdict.bootstrap import chance_of_improvement
from ohlora_lib.verdict.sampling import LATENT, Sampled, read_sampled, samples_verdict
from ohlora_lib.verdict.verdict import verdict_sentence
from tests.checks import complaint
from tests.log_samples import PUBLISHED, make_log, write

CONCEPT = {"gender": 1.0}


def seeds(rows, **ends):
    """Logs of runs by name, a seed each for where its gender score ends."""
    return {
        name: [make_log(10 * k + len(name), rows, ends={"gender": end}) for k, end in enumerate(e)]
        for name, e in ends.items()
    }


def compared(groups, a, b):
    return comparison.compare_groups(groups, a, b, CONCEPT).iloc[0]


def test_compare_files_is_json_and_names_runs_apart(tmp_path):
    for name in ("05_finetune-v8", "05_finetune-v9"):
        (tmp_path / name).mkdir()
        write(make_log(), tmp_path / name / "train_log.csv")
    folder = tmp_path / "05_finetune-v8"
    write_failure(folder, "interrupted", "stopped by Ctrl-C")  # judged by its log all the same
    found = comparison.compare_files([folder, tmp_path / "05_finetune-v9" / "train_log.csv"])
    assert [run["name"] for run in found["runs"]] == ["05_finetune-v8", "05_finetune-v9"]
    assert "same log" in found["comparisons"][0]["sentence"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    said = complaint(comparison.compare_files, [folder], {"smile": 1})
    assert "no column 'mean_smile_score'" in said
    published = Path("train_log_v8.csv"), Path("b/train_log_v9.csv")
    assert training_logs.log_names(published) == ["v8", "v9"]
    assert len(set(training_logs.log_names([folder / "train_log.csv"] * 2))) == 2


def test_the_held_out_judge_decides_where_every_log_has_its_scores(tmp_path):
    """The judge sees a gain in b alone, the selecting CNNs in a alone."""
    a, b = (logs[0] for logs in seeds(200, a=[0.9], b=[0.5]).values())
    gained, lost = a["mean_gender_score"], b["mean_gender_score"]
    a, b = a.assign(heldout_gender_score=lost), b.assign(heldout_gender_score=gained)
    paths = [write(log, tmp_path / name) for log, name in ((a, "a.csv"), (b, "b.csv"))]
    found = comparison.compare_files(paths, CONCEPT)
    (part,) = found["comparisons"]
    assert part["sentence"].startswith("By the held-out judge: b ended closer to the target than")
    assert part["by"] == "the held-out judge"
    assert [part[by][0]["effect"] for by in ("properties", "heldout")] == ["moved away", "closer"]
    assert all("By the held-out judge: " in run["sentence"] for run in found["runs"])
    paths[1] = write(b.drop(columns="heldout_gender_score"), tmp_path / "c.csv")
    (part,) = comparison.compare_files(paths, CONCEPT)["comparisons"]
    assert part["sentence"].startswith("By the selecting CNNs: c ended farther from the target")
    assert "heldout" not in part


def test_published_claim_is_checked_not_assumed():
    """The report says closer on all four; the logs bear out three, and glass is within noise."""
    found = comparison.compare_files(PUBLISHED)
    assert [run["name"] for run in found["runs"]] == ["v8", "v9"]
    assert [run["rows"] for run in found["runs"]] == [958, 958]
    for run in found["runs"]:
        assert [row["effect"] for row in run["properties"]] == ["closer"] * 4
        assert run["findings"] == []
    (part,) = found["comparisons"]
    assert [row["effect"] for row in part["properties"]] == [*["closer"] * 3, "not shown"]
    closer = "v9 ended closer to the target than v8 on 3 of 4: gender, quality and age"
    scope = "This holds for these two runs; a claim about recipes needs 3 seeds of each."
    words = f"By the selecting CNNs: {closer}; no difference shown on glass. {scope}"
    assert part["sentence"] == words
    gender = part["properties"][0]
    for name, value in {"distance_a": 0.0179, "distance_b": 0.0138, "difference": -0.0041}.items():
        assert gender[name] == pytest.approx(value, abs=0.0003)


def test_seeds_are_pooled_as_seeds_not_as_rows(tmp_path):
    """Seeds that scatter show nothing, however many rows each has; seeds that agree do."""
    groups = seeds(400, a=[0.70, 0.72, 0.71], wild=[0.95, 0.50, 0.80], calm=[0.90, 0.91, 0.92])
    wild, calm = compared(groups, "a", "wild"), compared(groups, "a", "calm")
    assert (wild["effect"], calm["effect"]) == ("not shown", "closer")
    assert (calm["rows_a"], calm["rows_b"]) == (3, 3)
    assert calm["difference"] == pytest.approx(-0.2, abs=0.02)
    pair = {name: logs[:1] for name, logs in groups.items()}
    assert compared(pair, "a", "wild")["effect"] == "closer"  # of this one run, not of the recipe
    few = comparison.compare_groups(groups | {"calm": groups["calm"][:2]}, "a", "calm", CONCEPT)
    assert few["effect"].item() == "not shown"
    assert "2 and 3 seeds: a claim about recipes needs 3" in verdict_sentence(few)


def test_chance_of_improvement_counts_pairs_of_seeds():
    a, b = [0.3, 0.4, 0.5], [0.1, 0.2, 0.4]
    chance, low, high = chance_of_improvement(a, b)
    assert chance == pytest.approx((3 + 3 + 1.5) / 9)
    assert low < chance < high == 1
    assert chance_of_improvement(a, a)[0] == 0.5
    assert chance_of_improvement(b, [0.0] * 5) == (1, 1, 1)


def test_pooled_seeds_that_do_not_differ_are_rarely_called():
    called = 0
    for trial in range(40):
        rng = np.random.default_rng(trial)
        groups = {
            name: [
                make_log(int(rng.integers(10**6)), 24, ends={"gender": 0.8 + rng.normal(0, 0.05)})
                for _ in range(3)
            ]
            for name in "ab"
        }
        called += compared(groups, "a", "b")["effect"] != "not shown"
    assert called <= 5  # 5 % of 40 is 2


def test_a_log_given_twice_is_no_second_seed(tmp_path):
    logs = [make_log(k) for k in range(4)]
    again = logs[2].assign(elapsed_sec=1.0)
    with pytest.raises(ValueError, match="two logs called 'v9' are of the same training run"):
        comparison.group_logs(["v8", "v8", "v9", "v9"], [*logs[:3], again])
    paths = [write(log, tmp_path / f"{k}.csv") for k, log in enumerate(logs)]
    found = comparison.compare_files(paths, names=["v8", "v8", "v9", "v9"])
    assert [run["name"] for run in found["runs"]] == ["v8 (1)", "v8 (2)", "v9 (1)", "v9 (2)"]
    assert [(c["a"], c["b"]) for c in found["comparisons"]] == [("v8", "v9")]
    assert "names are ['v8'] for 4 logs" in complaint(
        comparison.compare_files, paths, names=["v8"]
    )


def test_run_folders_of_one_name_are_told_apart_by_their_seeds(tmp_path):
    folders = [tmp_path / str(k) for k in range(3)]
    for k, folder in enumerate(folders):
        folder.mkdir()
        write(make_log(k), folder / "train_log.csv")
        (folder / "config.json").write_text(json.dumps({"seed": k + 3}))
    names, logs = training_logs.read_logs(folders, ["a", "a", "b"])
    assert training_logs.unique_names(names, logs) == ["a (seed 3)", "a (seed 4)", "b"]
    same = [logs[0], logs[0], logs[2]]
    assert training_logs.unique_names(names, same) == ["a (1)", "a (2)", "b"]


@pytest.mark.parametrize("rows", [5, 24])
def test_a_seed_whose_scores_stop_early_shows_nothing(rows):
    """Its last scores are not its end; with none at all there is nothing to index."""
    groups = seeds(24, a=[0.7, 0.71, 0.72], bb=[0.97, 0.98, 0.99])
    assert compared(groups, "a", "bb")["effect"] == "closer"
    groups["a"][1].loc[24 - rows :, "mean_gender_score"] = np.nan
    row = compared(groups, "a", "bb")
    assert row["effect"] == "not shown"
    assert np.isnan(row["difference"])


def sampled(run, gain, samples=400, wander=0.0):
    """Samples of a fine-tuning run: the latent decides most of a sample's score."""
    own, noise = (np.random.default_rng(k).normal(0, 1, samples) for k in ([0, 0], [1, run]))
    index = pd.MultiIndex.from_product([[0], range(samples)], names=LATENT)
    score = special.expit(0.5 + 1.5 * own + 0.4 * noise + gain)
    others = [f"mean_{prop}_score" for prop in ("quality", "age", "glass")]
    log = make_log(run, ends={"gender": 0.85}).drop(columns=others)
    fixed = np.linspace(0.6, 0.8, len(log)) + wander * (log.index % 2)
    log = log.assign(fixed_heldout_gender_score=fixed, fixed_gender_score=fixed)
    return Sampled(
        pd.DataFrame({"heldout_gender_score": score, "gender_score": score}, index), log
    )


def test_samples_of_the_same_latents_decide_where_rows_could_not():
    """400 samples show a difference of .05 as pairs; unpaired ones would miss it."""
    logs = {name: [make_log(k)] for k, name in enumerate("ab")}

    def half_width(a, b):
        how = {"samples": {"a": [a], "b": [b]}, "source": "heldout"}
        table = comparison.compare_groups(logs, "a", "b", CONCEPT, **how)
        row = table.iloc[0]
        return table, (row["difference_high"] - row["difference_low"]) / 2

    near, far = sampled(0, 1.5), sampled(1, 1.9)
    table, half = half_width(near, far)
    assert table["effect"].item() == "closer"
    assert table["difference"].item() == pytest.approx(-0.05, abs=0.015)
    assert verdict_sentence(table).startswith("By the held-out judge, on 400 samples each: b ")
    other = far.samples.rename(lambda number: number + 1000, level="latent")
    assert half_width(near, replace(far, samples=other))[1] > 1.5 * half
    assert half_width(near, sampled(1, 1.9, wander=0.1))[1] > 1.5 * half  # of one moment
    assert comparison.compare_groups(logs, "a", "b", CONCEPT)["effect"].item() == "not shown"


def test_an_evaluation_is_read_with_the_log_of_its_run(tmp_path):
    run = tmp_path / "outputs" / "study" / "05_finetune_generator-v9"
    folder = run.with_name("06_evaluate_samples-v9")
    for path in (run, folder):
        path.mkdir(parents=True)
    last = sampled(0, 2.0)
    write(last.log, run / "train_log.csv")
    where = run.relative_to(tmp_path).as_posix()
    (folder / "config.json").write_text(json.dumps({"finetune_run": where}))
    (folder / "summary.json").write_text('{"status": "finished"}')
    stages = (("base", 0, -2.0), ("checkpoint", 4, 1.0), ("checkpoint", 9, 2.0))
    pd.concat(
        sampled(0, gain).samples.assign(stage=stage, epoch=epoch) for stage, epoch, gain in stages
    ).to_csv(folder / "scores.csv")
    base, read = read_sampled(folder)
    pd.testing.assert_frame_equal(read.samples[[*last.samples]], last.samples)
    row = samples_verdict([base, read], CONCEPT).iloc[0]
    assert row["effect"] == "closer"
    (said,) = comparison.compare_files([run], CONCEPT)["runs"]
    assert said["by"] == "the held-out judge, on 400 samples each"
    # The last row's fixed latents score more than those of the whole end do.
    assert row["end"] < last.samples["heldout_gender_score"].mean() - 0.005


@pytest.mark.slow
def test_recipes_are_told_apart_and_seeds_of_one_are_not():
    """Nine fine-tuning runs of the quickstart; `docs/verdict.md` has the counts."""
    found = verdict_benchmark.stored_pairs()
    shown = found[found["effect"] != "not shown"].groupby("recipes")
    assert shown["pair"].nunique().get("v9 and v9", 0) == 0
    closer = found[found["recipes"] == "v8 and v9"].groupby("property")["effect"]
    assert (closer.agg(lambda effects: (effects == "closer").sum()) >= 17).all()


@pytest.mark.slow
def test_verdicts_err_as_rarely_as_they_say():
    """A small form of `benchmarks.verdict`: the mean wanders, and nothing differs."""
    false, _ = verdict_benchmark.of_logs(33, 9, (0.8, 0.15), pairs=12)
    assert false <= 2 / 12
    false, power = verdict_benchmark.of_samples(400, pairs=3)
    assert false <= 1 / 3
    assert np.mean([*power.values()]) >= 0.75
