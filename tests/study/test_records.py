"""The project root, and the facts that decide whether two runs are the same."""

import copy
import json

import pytest
import yaml

from ohlora_lib.study import records
from ohlora_lib.study.records import differences, notebook_code, project_root, root_of, to_json
from tests.checks import complaint


def test_the_root_is_the_same_from_everywhere(root, tmp_path_factory, monkeypatch):
    (root / "outputs/tiny/01_first").mkdir(parents=True)
    for start_in in (".", "notebooks", "outputs/tiny/01_first"):
        monkeypatch.chdir(root / start_in)
        assert project_root() == root
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    for named in ("", str(elsewhere / "gone")):
        monkeypatch.setenv("OHLORA_ROOT", named)
        with pytest.raises(ValueError, match=f"{named} is not inside a project.*set OHLORA_ROOT"):
            project_root()
    monkeypatch.setenv("OHLORA_ROOT", str(root))
    assert project_root() == project_root(elsewhere) == root
    (root / "outputs" / "far").symlink_to(elsewhere)
    assert root_of(root / "outputs" / "far" / ".earlier" / "01_first") == root


def test_differences_are_named_and_facts_of_only_one_side_ignored():
    saved = {"epochs": 2, "base_run_sha256": ["a"], "gone": 1, "same": 0, "device": "cpu"}
    wanted = {"epochs": 3, "base_run_sha256": ["b"], "new": 1, "same": 0, "device": "cuda"}
    saved |= {"labels_csv": "a.csv", "labels_csv_sha256": "a"}
    wanted |= {"labels_csv": "b.csv", "labels_csv_sha256": "b"}
    assert differences(saved, wanted, but=["device"]) == {
        "epochs": "epochs was 2 and is now 3", "base_run_sha256": "base_run changed",
        "labels_csv": "labels_csv was 'a.csv' and is now 'b.csv'",
    }  # fmt: skip


def test_the_remedy_for_a_study_with_a_seed_is_a_working_command(root):
    with pytest.raises(ValueError, match=r"ohlora run params/tiny --seed 3 --only 01_first"):
        records.read_summary(root / "outputs" / "tiny-seed3" / "01_first")
    (root / "params" / "tiny-seed3").mkdir()  # as a sweep creates
    with pytest.raises(ValueError, match=r"ohlora run params/tiny-seed3 --only 01_first"):
        records.read_summary(root / "outputs" / "tiny-seed3" / "01_first")


def test_the_folder_of_a_study_is_no_run_folder(tmp_path):
    (tmp_path / "01_make_population").mkdir()
    (tmp_path / "01_make_population" / "config.json").write_text("{}")
    assert "one of its run folders" in complaint(records.read_summary, tmp_path)


def test_only_code_changes_the_hash_of_a_notebook(tmp_path):
    path = tmp_path / "a.ipynb"
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# A"]},
        {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": ["a = 1"]},
        {"cell_type": "code", "metadata": {}, "source": ["print( a )  # shows it"], "outputs": []},
    ]

    def code_of(*changes):
        changed = copy.deepcopy(cells)
        for number, source in changes:
            changed[number]["source"] = [source]
        path.write_text(json.dumps({"cells": changed}))
        return notebook_code(path)

    assert code_of() == code_of((0, "# B"), (1, "a = 2"), (2, "print(a)"))
    assert code_of() != code_of((2, "print(a + 1)"))
    assert code_of((2, "%matplotlib a")) != code_of((2, "%matplotlib b"))


def test_a_saved_config_reads_the_same_as_yaml():
    kept = {"rate": 1e-05, "most": 1e300, "grow": {"8": -2.5e-7}, "text": 'é "1e-05", 1e9'}
    assert yaml.safe_load(to_json(kept)) == kept
