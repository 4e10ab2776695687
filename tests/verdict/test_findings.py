"""What is planted is called, and healthy runs are not; how often, is held as documented.

The healthy logs in `data/` are v9 runs of `params/quickstart` with three seeds.
"""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import findings
from ohlora_lib.io.images import new_store
from ohlora_lib.population.faces.faces import draw_attributes, render_faces
from ohlora_lib.properties import ensemble as pe
from ohlora_lib.properties import training
from ohlora_lib.selection.candidates import judge_overlap
from ohlora_lib.study.run import start_run
from ohlora_lib.verdict import findings as failures
from ohlora_lib.verdict import logs as training_logs
from ohlora_lib.verdict import verdict
from ohlora_lib.verdict.comparison import compare_files
from tests.log_samples import DATA, PUBLISHED, make_log
from tests.verdict.test_negative_control import train

ROOT = Path(__file__).parents[2]
HEALTHY = sorted(DATA.glob("healthy-*.csv"))
CONCEPT = verdict.PUBLISHED_CONCEPT
CNN = pe.CNNSettings(folds=2, width=0.25, batch=16, max_epochs=12, learning_rate={"glass": 2e-3})


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


def test_made_healthy_logs_are_not_called():
    logs = [make_log(k, rows) for k in range(5) for rows in (24, 400)]
    assert [failures.stability(log) for log in logs] == [[]] * 10
    assert sum(bool(called(log)) for log in logs) <= 1  # 95 % intervals


# ---- planted failures


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["v8", "v9"])
def test_learning_rate_0(tmp_path, recipe):
    assert called(train(tmp_path / "run", 0.0, recipe)) == ["untrained"]


@pytest.fixture(scope="module")
def faces():
    """300 faces and their labels of glasses, half for each role."""
    return torch.from_numpy(render_faces(range(600), seed=3, image_px=32)), draw_attributes(
        range(600), seed=3
    )


def train_role(folder, faces, labels, rows):
    images, _ = faces
    list(training.train_ensemble(images, labels, rows, ["glass"], CNN, folder))
    return pe.load_ensemble(folder, ["glass"])


def study(root, monkeypatch, **results):
    """Run folders of a study, as far as a fine-tuning's chain is looked at; gives its folder."""
    monkeypatch.setenv("OHLORA_ROOT", str(root))
    for name in ("params", "notebooks"):
        (root / name).mkdir(exist_ok=True)
    names = {
        "base_run": "02_train_base", "cnn_run": "03_train_property_cnn",
        "selection_run": "04_select_images",
    }  # fmt: skip
    for name, notebook in names.items():
        start_run(notebook, {"study": "s"}, root=root).finish(**results.get(name, {}))
    inputs = {name: f"outputs/s/{notebook}" for name, notebook in names.items()}
    config = {"study": "s", "concept": dict(CONCEPT), "epochs": 9, **inputs}
    run = start_run("05_finetune_generator", config, root=root)
    run.finish()
    return run.path


def rules_of(folder, log=None, concept=CONCEPT):
    log = healthy() if log is None else log
    return [found.rule for found in failures.of_run(folder, log, concept)]


def test_a_healthy_chain(tmp_path, monkeypatch):
    kept = {f"{prop}_score": target for prop, target in CONCEPT.items()}
    auroc = {role: dict.fromkeys(CONCEPT, 0.95) for role in ("selector", "judge")}
    folder = study(
        tmp_path, monkeypatch, cnn_run={"auroc": auroc}, selection_run={"scores": {"kept": kept}}
    )
    assert rules_of(folder) == []


def test_shuffled_labels(tmp_path, monkeypatch, faces):
    images, labels = faces
    shuffled = labels.assign(glass=np.random.default_rng(0).permutation(labels["glass"]))
    halves = np.arange(300), np.arange(300, 600)
    ensemble = train_role(tmp_path / "selector", faces, shuffled, halves[0])
    unseen = pe.unseen_scores(ensemble, images[halves[1]], shuffled.iloc[halves[1]])
    auroc = {"selector": pe.unseen_auroc(unseen)}
    folder = study(tmp_path, monkeypatch, cnn_run={"auroc": auroc})
    assert rules_of(folder) == ["guessing"]


def test_a_collapsed_generator_with_perfect_scores():
    log = healthy()
    for prop, target in CONCEPT.items():
        for kind in ("mean", "heldout"):
            log.loc[log.index > 20, f"{kind}_{prop}_score"] = target
    log.loc[log.index > 20, ["diversity", "recall"]] = 0.01, 0.0
    assert called(log) == ["collapsed"]


def test_one_target_swapped(tmp_path, monkeypatch):
    swapped = {**CONCEPT, "age": 1.0}
    assert called(healthy(), swapped) == ["moved away"]
    kept = {f"{prop}_score": target for prop, target in CONCEPT.items()}
    folder = study(tmp_path, monkeypatch, selection_run={"scores": {"kept": kept}})
    assert rules_of(folder, concept=swapped) == ["other target"]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"concept": swapped}))
    assert rules_of(folder, concept=swapped) == ["other target"]  # by the selected images


def test_fooled_selecting_cnns():
    """Generators that were trained to please the selecting CNNs and to displease the judge."""
    found = [called(log, {"glass": 1.0}) for log in findings.stored("fooled")]
    assert len(found) == 11
    assert {rule for rules in found for rule in rules} <= {"fooled", "moved away"}
    assert sum("fooled" in rules for rules in found) >= 10  # one pleases neither


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"g_loss": 9.0}, "diverged"),
        ({"d_loss": 0.02}, "saturated"),
        ({"diversity": 0.4}, "collapsed"),
        ({"d_loss": np.nan, "g_loss": np.nan}, "not finite"),
        ({"mean_age_score": np.nan}, "not finite"),
        ({"d_loss": np.inf}, "not finite"),
    ],
)
def test_numbers_that_go_wrong_from_some_row_on(change, rule):
    log = healthy()
    log.loc[log.index >= 20, list(change)] = list(change.values())
    assert rule in called(log)


def test_one_bad_batch_is_not_divergence():
    log = healthy()
    log.loc[30, ["d_loss", "g_loss"]] = 30.0
    assert called(log) == []


def test_a_swap_and_the_way_back_and_one_under_a_noisy_property():
    first, second = (training_logs.read_log(path) for path in (HEALTHY[0], HEALTHY[2]))
    scores = [name for name in first if name.endswith("_score")]
    for rows in (2, 4):  # evaluations of another network, then the old one again
        log = first.copy()
        log.loc[20 : 19 + rows, scores] = second.loc[: rows - 1, scores].to_numpy()
        assert called(log) == ["jump"], rows
    half = len(first) * 2 // 3
    log = first.copy()
    log.loc[half:, scores] = second.loc[: len(log) - half - 1, scores].to_numpy()
    log["fixed_glass_score"] = np.tile([0.1, 0.5], len(log))[: len(log)]  # swings by itself
    assert "jump" in called(log)
    log.loc[5, "fixed_gender_score"] = np.nan  # one missing score hides nothing
    assert "jump" in called(log)


def test_one_odd_evaluation_is_no_other_network():
    log = healthy()
    log.loc[20, [name for name in log if name.endswith("gender_score")]] = 0.2
    assert called(log) == []


@pytest.mark.parametrize("rows", [0.1, 0.3, 0.6, 1.0, 3.0])
@pytest.mark.parametrize("start", [0, 4.5, 9.5])
def test_a_fast_learner_does_not_jump(rows, start):
    """At once, or from some row on as a sigmoid: half of the way in `rows` evaluations or so."""
    assert called(learner(rows, start)) == []
    assert called(learner(0.1, 20.5)) == ["jump"]  # so late it is no learner


def learner(rows, start):
    log = healthy()
    after = (np.arange(len(log)) - start) / rows
    way = 1 - np.exp(-after) if start == 0 else 1 / (1 + np.exp(-2 * after))
    for prop, target in CONCEPT.items():
        for kind in ("mean", "heldout", "fixed", "fixed_heldout"):
            log[f"{kind}_{prop}_score"] = 0.5 + 0.45 * way * (2 * target - 1)
    return log


def test_a_judge_that_began_near_the_target_is_not_fooled():
    log = healthy()
    way = 1 - np.exp(-np.arange(len(log)) / 5)
    log["mean_gender_score"] = 0.4 + 0.55 * way
    log["heldout_gender_score"] = 0.85 + 0.05 * way  # little to gain, and it agrees at the end
    assert called(log) == []
    log["heldout_gender_score"] = 0.5 + 0.05 * way  # nor does it agree at the end
    assert called(log) == ["fooled"]


def test_moving_away_is_a_result_and_no_reason_to_distrust():
    log = healthy()
    found = failures.of_log(log, {**CONCEPT, "age": 1.0})
    words = failures.findings_sentence(found)
    assert words.startswith("Mind: age moved away")
    assert words.endswith("Training was stable.")


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_few_rows_say_nothing_of_stability(rows):
    log = healthy().iloc[:rows]
    words = failures.judged_sentence(
        verdict.run_verdict(log, CONCEPT), failures.of_log(log, CONCEPT)
    )
    assert f"the log has {rows} row" in words
    assert "stable." not in words.replace("whether training was stable.", "")


def test_a_truncated_log(tmp_path, monkeypatch):
    log = healthy()
    assert called(log.iloc[:-2]) == ["cut off"]
    assert called(log.iloc[:-1]) == ["cut off"]
    until = log[(log["epoch"] < 7) | ((log["epoch"] == 7) & (log["idx"] == 0))]
    folder = study(tmp_path, monkeypatch)
    assert rules_of(folder, until) == ["cut off"]  # ends like a whole log, short of its 9 epochs


def test_a_run_resumed_on_another_base(tmp_path, monkeypatch):
    """The second half of another run's log, which had only begun to learn."""
    first, second = (training_logs.read_log(path) for path in (HEALTHY[0], HEALTHY[2]))
    half = len(first) * 2 // 3
    log = first.copy()
    scores = [name for name in log if name.endswith("_score")]
    log.loc[half:, scores] = second.loc[: len(log) - half - 1, scores].to_numpy()
    assert "jump" in called(log)
    folder = study(tmp_path, monkeypatch)
    assert rules_of(folder) == []
    base = start_run("02_train_base", {"study": "s"}, root=tmp_path, start_anew=True)
    (base.path / "generator.safetensors").write_bytes(b"another")
    base.finish()
    assert rules_of(folder) == ["other input"]


def test_selected_images_among_the_judges_labels(tmp_path, monkeypatch, faces):
    images, labels = faces
    study(tmp_path, monkeypatch)
    population, cnns = (tmp_path / f"outputs/s/{n}" for n in ("01", "03_train_property_cnn"))
    with new_store(population / "images" / "images.npy", 32) as store:
        store.append(images.numpy())
    halves = {"selector": np.arange(300), "judge": np.arange(300, 600)}
    pe.split_table(halves, pd.Series(range(600), name="img_no")).to_csv(cnns / "split.csv")
    (cnns / "config.json").write_text(json.dumps({"population_run": "outputs/s/01"}))
    assert judge_overlap(images[:300].numpy(), cnns) == 0
    overlap = judge_overlap(images[250:340].numpy(), cnns)
    assert overlap == 40
    folder = study(tmp_path, monkeypatch, selection_run={"judge_overlap": overlap})
    assert rules_of(folder) == ["overlap"]
    whole = failures.of_training(healthy().assign(diversity=0.4), folder, CONCEPT)
    assert [found.rule for found in whole] == ["collapsed", "overlap"]
    assert failures.of_training(healthy(), None, CONCEPT) == []


def test_a_run_compared_with_itself():
    found = compare_files([HEALTHY[0], HEALTHY[0]], CONCEPT, names=["v9", "v9 again"])
    assert "no difference at all" in found["comparisons"][0]["sentence"]


def test_one_missing_score_is_not_called_untrained():
    log = healthy()
    log.loc[10, "fixed_gender_score"] = np.nan
    assert called(log) == []


def test_a_runs_inputs_are_those_of_its_own_project(tmp_path, monkeypatch):
    folder = study(tmp_path, monkeypatch)
    monkeypatch.delenv("OHLORA_ROOT")
    monkeypatch.chdir(tmp_path.parent)  # in no project, or in another one
    assert rules_of(folder) == []
