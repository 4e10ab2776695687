"""What is planted is called, and healthy runs are not; how often, is held as documented.

The healthy logs in `data/` are v9 runs of `params/quickstart` with three seeds.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import findings
from ohlora_lib.base.base import copy_shipped, load_base
from ohlora_lib.evaluation import evaluator, evidence
from ohlora_lib.io.disk import write_atomic
from ohlora_lib.nets import PropertyCNN
from ohlora_lib.population.faces.faces import render_faces
from ohlora_lib.properties.ensemble import Ensemble
from ohlora_lib.study.records import write_failure
from ohlora_lib.study.run_folder import start_run
from ohlora_lib.verdict import comparison, verdict
from ohlora_lib.verdict import findings as failures
from ohlora_lib.verdict import logs as training_logs
from tests.checks import complaint
from tests.log_samples import DATA, PUBLISHED

ROOT = Path(__file__).parents[2]
HEALTHY = sorted(DATA.glob("healthy-*.csv"))
CONCEPT = verdict.PUBLISHED_CONCEPT


def healthy():
    return training_logs.read_log(HEALTHY[0])


def called(log, concept=CONCEPT):
    """Rules that a log breaks; each is named where the verdict begins."""
    found = failures.of_log(log, concept)
    words = failures.judged_sentence(verdict.run_verdict(log, concept), found)
    first = words.split(". ")[0]
    if found:
        assert first.startswith(("Do not trust", "Training was not stable", "Mind: "))
        assert found[0].text.split(". ")[0] in words
    return [finding.rule for finding in found]


def words_of(log):
    """The text of a log's only finding."""
    (finding,) = failures.stability(log)
    return finding.text


# ---- healthy runs


@pytest.mark.parametrize("path", [*HEALTHY, *PUBLISHED], ids=lambda path: path.stem)
def test_healthy_runs_are_not_called(path):
    assert called(training_logs.read_log(path)) == []


@pytest.mark.slow
def test_rules_err_as_rarely_as_the_documentation_says():
    table = findings.rates()
    assert (table["healthy"].min(), table["planted"].min()) >= (50, 50)
    assert (table["false_alarms"] <= 0.02 * table["healthy"]).all()
    assert (table["hits"] >= 0.9 * table["planted"]).all()
    page = (ROOT / "docs" / "findings.md").read_text()
    for row in table.itertuples():
        counts = f"{row.false_alarms} of {row.healthy} | {row.hits} of {row.planted} |"
        assert re.search(rf"^\| {row.rule} \| .* \| {counts}$", page, re.M), (row.rule, counts)


# ---- planted failures


def test_both_losses_that_stop_are_one_finding_and_a_high_one_is_unstable():
    log = healthy()
    log.loc[log.index >= 20, ["d_loss", "g_loss"]] = np.nan
    assert called(log) == ["not finite"]
    assert words_of(log).endswith(" d_loss and g_loss from epoch 5, batch 0 on (13 of 33 rows)")
    assert called(healthy().assign(g_loss=9.0)) == ["diverged"]


def test_each_column_with_gaps_has_its_own_place_which_is_a_step_without_epochs():
    log = healthy()
    log.attrs["by_step"] = True
    log.loc[[3, 5], "d_loss"] = log.loc[4, "mean_age_score"] = np.nan
    log["idx"] = np.arange(len(log)) * 1000.0
    words = "no finite number for d_loss in 2 of {0} rows, the first at step 3,000; nor for "
    words += "mean_age_score in 1 of {0} rows, the first at step 4,000"
    assert words_of(log) == words.format(len(log))


def test_a_judge_that_began_near_the_target_is_not_fooled():
    log = healthy()
    way = 1 - np.exp(-np.arange(len(log)) / 5)
    log["mean_gender_score"] = 0.4 + 0.55 * way
    log["heldout_gender_score"] = 0.85 + 0.05 * way  # little to gain, and it agrees at the end
    assert called(log) == []
    log["heldout_gender_score"] = 0.5 + 0.05 * way  # nor does it agree at the end
    assert called(log) == ["fooled"]


def test_moving_away_is_a_result_and_no_reason_to_distrust():
    swapped = {**CONCEPT, "age": 1.0}
    assert called(healthy(), swapped) == ["moved away"]
    words = failures.findings_sentence(failures.of_log(healthy(), swapped))
    assert words.startswith("Mind: age moved away")
    assert words.endswith("Training was stable.")


@pytest.mark.parametrize("rows", [1, 5])
def test_few_rows_say_nothing_of_stability(rows):
    log = healthy().iloc[:rows]
    assert "few rows" in called(log)
    words = failures.findings_sentence(failures.of_log(log, CONCEPT))
    assert f"the log has {rows} row" in words
    assert "stable." not in words.replace("whether training was stable.", "")


# ---- what a run was made from


KEPT = {"scores": {"kept": {f"{prop}_score": target for prop, target in CONCEPT.items()}}}


def study(root, name="s", **results):
    """Makes the run folders that findings read for a fine-tuning run; returns that run's."""
    for place in ("params", "notebooks"):
        (root / place).mkdir(exist_ok=True)
    names = {
        "base_run": "02_train_base", "cnn_run": "03_train_property_cnn",
        "selection_run": "04_select_images",
    }  # fmt: skip
    for key, notebook in names.items():
        run = start_run(notebook, {"study": name}, root=root)
        for file in ("generator.safetensors", "judge/compact-fold0.safetensors"):
            write_atomic(run.path / file, results.get("weights", ""))
        run.finish(**results.get(key, {}))
    inputs = {key: f"outputs/{name}/{notebook}" for key, notebook in names.items()}
    config = {"study": name, "concept": dict(CONCEPT), "epochs": 9, **inputs}
    run = start_run("05_finetune_generator", config, root=root)
    run.finish()
    return run.path


def in_folder(log, folder):
    """A log as if it were the folder's."""
    log.attrs["file"] = folder / "train_log.csv"
    return log


@pytest.mark.parametrize(
    ("rules", "results", "changed"),
    [
        ([], {"selection_run": KEPT}, {}),
        (["guessing"], {"cnn_run": {"auroc": {"selector": {"glass": 0.55}}}}, {}),
        (["few images"], {"selection_run": {"kept": 20}}, {}),
        (["overlap"], {"selection_run": {"judge_overlap": 40}}, {}),
        (["moved away", "other target"], {}, {"age": 1.0}),
    ],
)
def test_a_chain(tmp_path, monkeypatch, rules, results, changed):
    """A run's inputs are those of its own project, wherever it is looked at from."""
    folder = study(tmp_path, **results)
    monkeypatch.delenv("OHLORA_ROOT", raising=False)
    monkeypatch.chdir(tmp_path.parent)  # in no project, or in another one
    found = failures.of_training(in_folder(healthy(), folder), CONCEPT | changed)
    assert [finding.rule for finding in found] == rules
    assert failures.of_training(healthy(), CONCEPT) == []


def test_a_target_that_the_selected_images_are_far_from(tmp_path):
    folder, other = study(tmp_path, selection_run=KEPT), {**CONCEPT, "age": 1.0}
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"age": 0.0', '"age": 1.0'))
    found = failures.of_training(in_folder(healthy(), folder), other)[-1]
    assert found.text.endswith("but the selected images score 0.00")


def test_a_truncated_log(tmp_path):
    log = healthy()
    assert [called(log.iloc[:-rows]) for rows in (1, 2)] == [["cut off"]] * 2
    until = log[(log["epoch"] < 7) | ((log["epoch"] == 7) & (log["idx"] == 0))]
    folder = study(tmp_path)
    write_failure(folder, "interrupted", "stopped by Ctrl-C")
    (found,) = failures.of_training(in_folder(until, folder), CONCEPT)
    assert found.text == "the log ends in epoch 7 of 9"  # it ends as a whole log does


def test_a_base_made_anew_after_the_run(tmp_path):
    folder = study(tmp_path)
    base = start_run("02_train_base", {"study": "s"}, root=tmp_path, start_anew=True)
    (base.path / "generator.safetensors").write_bytes(b"another")
    base.finish()
    (found,) = failures.of_training(in_folder(healthy(), folder), CONCEPT)
    assert found.rule == "other input"
    assert found.text.endswith("an earlier base than the one now in outputs/s/02_train_base")


def test_runs_that_differ_in_more_than_training(tmp_path):
    """Bare logs and runs of one study are alike; seeds of a sweep each have their own judge."""
    first, second = study(tmp_path, "a"), study(tmp_path, "b", weights="others")
    sized = {"base_run": {"image_px": 32}}
    third = study(tmp_path, "c", weights="more", **sized)
    logs = [in_folder(healthy(), folder) for folder in (first, first, second, third)]

    def unlike(names, *rows):
        found = comparison.find_unlike([*names], [logs[row] for row in rows])
        return [finding for part in found.values() for finding in part]

    assert unlike("ab", 0, 1) == unlike("aabb", 0, 2, 0, 2) == []
    assert comparison.find_unlike("ab", [healthy(), healthy()]) == {"b": []}
    (found,) = unlike("ab", 0, 2)
    assert found.rule == "other judge"
    assert (
        found.text == "b and a have different judges and bases, so their scores cannot be compared"
    )
    config = first / "config.json"
    logs[0] = in_folder(healthy(), study(tmp_path, "d"))
    config.write_text(config.read_text().replace('"age": 0.0', '"age": 1.0'))
    (found,) = unlike("ab", 0, 1)
    assert (found.rule, "have different concepts" in found.text) == ("unlike runs", True)


# ---- inputs, before anything is trained


def table(auroc, ones=200, zeros=200, seed=0):
    """Scores of images nobody saw, of two normal distributions that far apart."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([1, 0], [ones, zeros])
    scores = rng.normal(labels * np.sqrt(2) * torch.special.ndtri(torch.tensor(auroc)).item())
    return pd.DataFrame({"property": "hat", "score": scores, "label": labels})


def guessing(**tables):
    found = evidence.auroc_table(tables)
    results = {name: found[name].unstack("by").to_dict() for name in ("auroc", "auroc_low")}
    return failures.of_cnns(results, ["hat"])


def test_cnns_that_guess_are_called_and_those_that_tell_are_not():
    (finding,) = guessing(selector=table(0.95), judge=table(0.51))
    assert finding.rule == "guessing"
    assert "CNNs are weak at hat (judge 0.5" in finding.text
    assert guessing(selector=table(0.9), judge=table(0.9)) == []
    (finding,) = guessing(selector=table(0.75), judge=table(0.75))
    assert "(selector 0.7" in finding.text
    (finding,) = guessing(judge=table(0.9, 4, 4, seed=3))  # so few images prove nothing
    assert "at worst" in finding.text
    assert failures.of_cnns({"auroc": {"judge": {"hat": 0.5}}}, ["smile"]) == []


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


def test_few_images_are_told():
    found = {images: failures.of_count(images) for images in (1, 8, 49, 50)}
    assert found[50] == []
    assert found[1][0].text.startswith("1 image is too few to fine-tune on (at least 8): loosen")
    assert all("were selected" in found[images][0].text for images in (8, 49))
    assert "7 images are too few" in complaint(failures.check_enough, 7)


def bars(count):
    rng = np.random.default_rng(0)
    images = np.zeros((count, 64, 64, 3), np.uint8)
    for image, upright in zip(images, rng.integers(0, 2, count), strict=True):
        image[:], at = rng.integers(0, 255, 3), rng.integers(5, 40)
        image[(slice(None), slice(at, at + 8)) if upright else slice(at, at + 8)] = 255
    return images


@pytest.mark.slow
def test_a_base_is_called_where_it_draws_something_else(tmp_path):
    copy_shipped(tmp_path)
    generator = load_base(tmp_path).generator
    torch.manual_seed(0)
    nets = {name: [PropertyCNN(name, image_px=64, width=0.25)] for name in ("glass", "age")}
    faces = render_faces(range(5000, 5400), seed=1, image_px=64)
    found = {}
    for name, images in {"faces": faces, "bars": bars(400)}.items():
        options = {"seed": 0, "precision": "float32"}
        found[name] = evaluator.measure_base(generator, images, Ensemble(nets), **options)
    assert failures.of_base(found["faces"]) == []
    (finding,) = failures.of_base(found["bars"])
    assert "source: train" in finding.text
    assert failures.of_base(None) == []


def test_a_rare_class_leaves_the_auroc_uncertain():
    found = evidence.auroc_table({"selector": table(0.9, ones=6, zeros=800, seed=1)})
    results = {name: found[name].unstack("by").to_dict() for name in found}
    (finding,) = failures.of_cnns(results, ["hat"])
    assert finding.rule == "few labels"
    assert "uncertain: hat (selector 0." in finding.text
    assert failures.warning([finding]).startswith("Mind: ")


def test_cnns_that_a_ridge_regression_beats_are_called_out():
    for ridge, rules in ((0.93, ["ridge"]), (0.915, [])):
        auroc = {"judge": {"hat": 0.9}, failures.RIDGE.format("judge"): {"hat": ridge}}
        found = failures.of_cnns({"auroc": auroc, "auroc_high": {"judge": {"hat": 0.92}}}, ["hat"])
        assert [finding.rule for finding in found] == rules
        assert "hat (judge 0.90, ridge 0.93)" in str(found) or not rules
