"""Report notebooks find their logs and shape their tables."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest

from ohlora_lib.report.tables import (
    JUDGES,
    evaluation_grids,
    find_logs,
    grids_over_time,
    independent_ends,
    judged_runs,
    last_evaluations,
    run_facts,
    verdict_table,
)
from ohlora_lib.study.parameters import ReportRun
from tests.checks import complaint
from tests.log_samples import make_log, write


def logs(log_csv="", earlier_csv="", **inputs):
    config = ReportRun.model_construct(log_csv=log_csv, earlier_csv=earlier_csv, complete=True)
    return find_logs(SimpleNamespace(inputs=inputs), config)


def test_logs_are_found_named_and_told_apart(tmp_path):
    runs = [tmp_path / study / "05_finetune_generator-v9" for study in ("first", "second")]
    for run in runs:
        run.mkdir(parents=True)
        write(make_log(), run / "train_log.csv")
    alone = write(make_log(), tmp_path / "v8.csv")
    names, (log,) = logs(finetune_run=runs[0])
    assert (names, log.attrs["complete"]) == (["v9"], False)
    names, (_, log) = logs(finetune_run=runs[0], earlier_csv=str(alone))
    assert (names, log.attrs["file"], log.attrs["complete"]) == (["v9", "v8"], alone, True)
    (first, second), _ = logs(finetune_run=runs[0], earlier_run=runs[1])
    assert first != second
    assert first.startswith("first/")
    for given in ({"finetune_run": tmp_path, "log_csv": "x.csv"}, {}):
        assert "give either finetune_run or log_csv" in complaint(logs, **given)


def evaluation(root, name, run, base, scores):
    """An evaluation sampling of a run, as far as it is read."""
    folder = root / "outputs" / "s" / name
    folder.mkdir(parents=True)
    columns = {"diversity": 0.9, "recall": 0.8, "frechet": 2.0, "precision": 0.7}
    rows = [{"heldout_gender_score": score, **columns} for score in scores]
    pd.DataFrame(rows).to_csv(folder / "evaluations.csv", index=False)
    config = {"finetune_run": f"outputs/s/{run}", "base_run": base}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_an_evaluation_belongs_to_the_run_it_judged(tmp_path):
    """Whatever the order of the lists; by place, v8 would get the scores of v9."""
    runs = [tmp_path / "outputs" / "s" / name for name in ("05-v8", "05-v9")]
    late, early = (
        evaluation(tmp_path, f"06-{v}", f"05-{v}", f"b{v}", (0.5, end))
        for v, end in (("v9", 0.9), ("v8", 0.6))
    )
    judged = judged_runs(["v8", "v9"], runs, [late, early])
    assert list(judged.items()) == [("v8", early), ("v9", late)]
    table = last_evaluations(judged, {"gender": 1.0})
    assert table.loc["v9", "gender: distance"] == pytest.approx(0.1)
    assert list(table.index) == ["base of v8", "v8", "base of v9", "v9"]  # two bases
    table = last_evaluations(judged_runs(["v8", "v9"], runs, [late]), {"gender": 1.0})
    assert table["gender: distance"].to_dict() == pytest.approx({"base": 0.5, "v9": 0.1})
    with pytest.raises(ValueError, match="06-v9 judged a run that is not in finetune_runs"):
        judged_runs(["v8"], runs[:1], [late])
    again = evaluation(tmp_path, "06-again", "05-v9", "b", (0.5, 0.9))
    with pytest.raises(ValueError, match="06-v9 .* has another evaluation"):
        judged_runs(["v8", "v9"], runs, [late, again])


def test_an_independent_judge_has_rows_and_columns_of_its_own(tmp_path):
    runs = [tmp_path / "outputs" / "s" / name for name in ("05-v8", "05-v9")]
    v8, v9 = (evaluation(tmp_path, f"06-{v}", f"05-{v}", "b", (0.5, 0.9)) for v in ("v8", "v9"))
    table = pd.read_csv(v9 / "evaluations.csv")
    table.assign(independent_gender_score=[0.4, 0.7]).to_csv(v9 / "evaluations.csv", index=False)
    ends = independent_ends(v9, {"gender": 1.0, "age": 0.0})
    assert ends.index.tolist() == [(who, "gender") for who in JUDGES.values()]
    assert ends.loc["independent judge"].to_numpy()[0] == pytest.approx([0.6, 0.3, 0.5])
    assert independent_ends(v8, {"gender": 1.0}).empty
    assert independent_ends(None, {"gender": 1.0}).empty
    table = last_evaluations(judged_runs(["v8", "v9"], runs, [v8, v9]), {"gender": 1.0})
    own = table["gender: distance by the independent judge"]
    assert own.to_dict() == pytest.approx(
        {"base": 0.6, "v8": float("nan"), "v9": 0.3}, nan_ok=True
    )


def test_grids_of_an_evaluation_are_called_by_their_epochs(tmp_path):
    pd.DataFrame({"epoch": [0, 1.0, 2.5]}).to_csv(tmp_path / "evaluations.csv")
    found = ["base", "during, after 1 epoch", "after 2.5 epochs"]
    assert list(evaluation_grids(tmp_path)) == found


def test_grids_over_time_keep_the_first_and_the_last(tmp_path):
    assert grids_over_time(None) == {}
    (tmp_path / "images").mkdir()
    for name in ("fixed-first.png", "fixed-epoch1.png"):  # not ours
        (tmp_path / "images" / name).touch()
    for k in range(40):
        (tmp_path / "images" / f"fixed-epoch{k:04d}-idx00020.png").touch()
    found = list(grids_over_time(tmp_path))
    assert len(found) == 12
    assert found[0] == "The same latents, epoch 0, batch 20"
    assert found[-1] == "The same latents, epoch 39, batch 20"


def test_tables_put_the_verdict_first_and_join_the_interval():
    row = {
        "property": "age", "target": 0.0, "start": 0.4, "end": 0.1, "change": -0.3,
        "change_low": -0.4, "change_high": -0.2, "effect": "closer",
    }  # fmt: skip
    shown = verdict_table(pd.DataFrame([row]), {}).loc["age"]
    assert shown.iloc[0] == "closer"
    assert shown["interval"] == "-0.400 to -0.200"
    row |= {"run_a": "v8", "run_b": "v9", "distance_a": 0.3, "distance_b": 0.1, "difference": -0.2}
    row |= {"difference_low": -0.25, "difference_high": 0.05, "effect": "moved away"}
    shown = verdict_table(pd.DataFrame([row]), {})
    assert shown.loc["age", "v9 is"] == "farther"
    assert shown.loc["age", ["distance of v8", "distance of v9"]].tolist() == [0.3, 0.1]
    assert shown.loc["age", "interval"] == "-0.250 to +0.050"
    row |= {"improved": 0.9, "improved_low": 0.7, "improved_high": 1.0}  # over seeds
    shown = verdict_table(pd.DataFrame([row]), {})
    assert shown.loc["age", "probability of improvement"] == "0.90 (0.70 to 1.00)"


@pytest.mark.parametrize(("last", "epochs"), [((1, 50), "2"), ((2, 0), "2")])
def test_a_closing_batch_is_no_epoch_of_its_own(last, epochs):
    log = pd.DataFrame([(0, 0), (0, 50), (1, 0), last], columns=["epoch", "idx"])
    assert run_facts(log, None).loc["epochs", "value"] == epochs
