"""Report notebooks find their logs and shape their tables."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from ohlora_lib.reporting import (
    comparison_table,
    find_log,
    grids_over_time,
    last_evaluations,
    run_facts,
    verdict_table,
)

RUN = "finetune_run", "log_csv"


def test_a_run_folder_names_its_log(tmp_path: Path) -> None:
    folder = tmp_path / "05_finetune_generator-v9"
    source = find_log(SimpleNamespace(inputs={RUN[0]: folder}), SimpleNamespace(log_csv=""), *RUN)
    assert source.path == folder / "train_log.csv"
    assert source.name == "v9"


def test_both_or_neither_is_an_error(tmp_path: Path) -> None:
    both = SimpleNamespace(inputs={RUN[0]: tmp_path})
    with pytest.raises(ValueError, match="finetune_run and log_csv are both given"):
        find_log(both, SimpleNamespace(log_csv="x.csv"), *RUN)
    with pytest.raises(ValueError, match="neither finetune_run nor log_csv"):
        find_log(SimpleNamespace(inputs={}), SimpleNamespace(log_csv=""), *RUN)


def test_last_evaluations_are_distances_of_base_and_end(tmp_path: Path) -> None:
    columns = {"diversity": 0.9, "recall": 0.8, "frechet": 2.0, "precision": 0.7}
    rows = [{"heldout_gender_score": score, **columns} for score in (0.4, 0.6, 0.9)]
    pd.DataFrame(rows).to_csv(tmp_path / "evaluations.csv", index=False)
    table = last_evaluations([tmp_path], ["v9"], {"gender": 1.0})
    assert table.loc["base", "gender: distance"] == pytest.approx(0.6)
    assert table.loc["v9", "gender: distance"] == pytest.approx(0.1)


def test_grids_over_time_keep_the_first_and_the_last(tmp_path: Path) -> None:
    assert grids_over_time(None) == {}
    (tmp_path / "images").mkdir()
    for k in range(40):
        (tmp_path / "images" / f"fixed-epoch{k:04d}-idx00020.png").touch()
    found = list(grids_over_time(tmp_path))
    assert len(found) == 12
    assert found[0] == "The same latents, epoch 0, batch 20"
    assert found[-1] == "The same latents, epoch 39, batch 20"


def test_tables_put_the_verdict_first_and_join_the_interval() -> None:
    row = {
        "property": "age", "target": 0.0, "start": 0.4, "end": 0.1, "change": -0.3,
        "change_low": -0.4, "change_high": -0.2, "effect": "closer",
    }  # fmt: skip
    table = verdict_table(pd.DataFrame([row]))
    assert table.columns[0] == "verdict"
    assert table.loc["age", "verdict"] == "closer"
    assert table.loc["age", "interval"] == "-0.400 to -0.200"
    row |= {"run_a": "v8", "run_b": "v9", "distance_a": 0.3, "distance_b": 0.1, "difference": -0.2}
    row |= {"difference_low": -0.25, "difference_high": 0.05}
    table = comparison_table(pd.DataFrame([row]))
    assert table.loc["age", "v9 is"] == "closer"
    assert table.loc["age", "interval"] == "-0.250 to +0.050"


@pytest.mark.parametrize(("last", "epochs"), [((1, 50), "2"), ((2, 0), "2")])
def test_a_closing_batch_is_no_epoch_of_its_own(last: tuple[int, int], epochs: str) -> None:
    log = pd.DataFrame([(0, 0), (0, 50), (1, 0), last], columns=["epoch", "idx"])
    assert run_facts(log, None).loc["epochs", "value"] == epochs
