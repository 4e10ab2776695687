"""Merging label tables: agreement is kept, disagreements are shown, broken tables are rejected."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from ohlora_lib.population.agreement import agreement, in_words, merge_tables, to_settle
from ohlora_lib.population.labels import save_table
from tests.checks import complaint


def merged(tmp_path, mine, hers):
    (tmp_path / "mine.csv").write_text(mine, encoding="utf-8", newline="")
    (tmp_path / "hers.csv").write_text(hers, encoding="utf-8", newline="")
    return merge_tables([tmp_path / "mine.csv", tmp_path / "hers.csv"])


def test_merging_two_people(tmp_path):
    mine = "image,smile,hat,note\na,1,1,x\nb,0,1,y\nc,,0,z\n"  # another name for `file`
    found = merged(tmp_path, mine, "file,smile\nd,1\nc,1\nb,1\na,1\n")
    table = found.table.set_index("file")
    assert table["smile"].fillna(-1).to_dict() == {"a": 1, "b": -1, "c": 1, "d": 1}
    assert table["hat"].fillna(-1).to_dict() == {"a": 1, "b": 1, "c": 0, "d": -1}
    assert found.left_out == ["note"]
    (row,) = found.disagreements.to_dict("records")
    assert (row["file"], row["property"]) == ("b", "smile")
    assert (row["mine"], row["hers"]) == (0, 1)
    answers = found.answers.set_index(["file", "property"])
    assert answers.loc[("c", "smile"), "hers"] == 1
    assert answers.loc["c"].isna().sum().sum() == 2  # what a person did not answer
    assert len(answers) == 7


@pytest.mark.parametrize(
    ("hers", "words"),
    [
        ("name,hat\na,1\n", "no common column"),
        ("file,hat\n001,1\n001,0\n", "line 3 has file = '001'; that image appears twice"),
        ("file,hat\n001,1\nb.jpg,yes\n", "hers.csv: line 3 has hat = 'yes';"),
        ("file,hat\n001,1\nb.jpg,0.7\n", "hers.csv: line 3 has hat = 0.7;"),
    ],
)
def test_tables_that_cannot_be_merged_are_rejected(tmp_path, hers, words):
    assert words in complaint(merged, tmp_path, "file,hat\n001,1\nb.jpg,0\n", hers)


def test_a_table_is_not_merged_with_itself(tmp_path):
    (tmp_path / "a.csv").write_text("file,hat\na,1\n")
    for names in (["a.csv"], ["a.csv", "a.csv"]):
        said = complaint(merge_tables, [tmp_path / name for name in names])
        assert "two or more label tables, each of them once" in said


def test_accents_written_by_macos_match(tmp_path):
    mac = 'file,smile\nJose\u0301.png,1\nZoe\u0308.png,0\nc.png,1\n"car\rriage.png",0\n'
    typed = 'file,smile\nJos\u00e9.png,1\nZo\u00eb.png,1\nc.png,1\n"car\rriage.png",0\n'
    found = merged(tmp_path, typed, mac)
    names = ["Jos\u00e9.png", "Zo\u00eb.png", "c.png", "car\rriage.png"]
    assert found.table["file"].tolist() == names
    assert found.disagreements["file"].tolist() == names[1:2]


def test_a_settled_label_replaces_the_others(tmp_path):
    (tmp_path / "both.csv").write_text("file,smile\nb,1\nc,0\n")
    tables = [tmp_path / name / "labels.csv" for name in ("mine", "hers")]
    for path, smiles in zip(tables, ("1,0,1", "1,1,0"), strict=True):
        path.parent.mkdir()
        rows = [f"{name},{smile}\n" for name, smile in zip("abc", smiles.split(","), strict=True)]
        path.write_text("file,smile\n" + "".join(rows))
    open_ones = merge_tables(tables)
    assert open_ones.disagreements["file"].tolist() == ["b", "c"]
    found = merge_tables(tables, tmp_path / "both.csv")
    assert found.table["smile"].tolist() == [1, 1, 0]
    assert found.disagreements.empty
    again = merge_tables([*tables, tmp_path / "both.csv"], tmp_path / "both.csv")  # by a glob
    pd.testing.assert_frame_equal(again.table, found.table)
    pd.testing.assert_frame_equal(again.answers, found.answers)
    assert found.answers.columns.tolist() == ["file", "property", "mine", "hers"]
    pd.testing.assert_frame_equal(found.answers, open_ones.answers)


@pytest.mark.parametrize("name", ["file", "property", "settled"])
def test_a_person_may_be_called_like_a_column(tmp_path, name):
    paths = [tmp_path / f"{name}.csv", tmp_path / "hers.csv", tmp_path / "both.csv"]
    for path, smile in zip(paths, (1, 0, 1), strict=True):
        path.write_text(f"file,smile\nb,{smile}\n")
    found = merge_tables(paths[:2], paths[2])
    assert found.table["smile"].tolist() == [1]
    assert found.answers.columns.tolist() == ["file", "property", *map(str, paths[:2])]


def test_an_image_that_one_person_drew_counts_as_drawn(tmp_path):
    head = "file,smile,source,how,round,smile_weight\n"
    mine = f"{head}a,1,random,key,0,\nb,0,chosen,grid,1,0.5\nc,1,chosen,grid,2,0.25\n"
    hers = f"{head}c,1,random,grid,0,1\nb,0,chosen,key,3,0.7\n"
    found = merged(tmp_path, mine, hers)
    table = found.table.set_index("file")
    assert table["source"].to_dict() == {"a": "random", "b": "chosen", "c": "random"}
    assert table["smile_weight"].fillna(-1).to_dict() == {"a": -1, "b": 0.5, "c": 1}
    assert table["how"].to_dict() == {"a": "key", "b": "grid", "c": "grid"}
    assert found.left_out == []
    older = merged(tmp_path, mine, "file,smile\nb,0\n")
    assert older.table.set_index("file")["source"]["b"] == "random"  # nothing was chosen there


def answers_of(*cells):
    """A table of answers with so many images of 00, 01, 10 and 11."""
    pairs = np.repeat([(0, 0), (0, 1), (1, 0), (1, 1)], cells, axis=0)
    table = pd.DataFrame(pairs, columns=["mine", "hers"]).astype("Int64")
    table.insert(0, "property", "hat")
    table.insert(0, "file", [f"{k}.png" for k in range(len(table))])
    return table


def test_kappa_is_that_of_scikit_learn_and_its_interval_covers_the_truth():
    table = answers_of(60, 8, 5, 27)
    (row,) = agreement(table).to_dict("records")
    assert row["kappa"] == pytest.approx(
        cohen_kappa_score(*table[["mine", "hers"]].T.to_numpy(int))
    )
    assert 0.45 < row["low"] < row["kappa"] < row["high"] < 0.9
    assert in_words(row).startswith("hat: mine and hers agree on 87 of 100 images; kappa 0.71 (95")
    random, truth = np.random.default_rng(0), 0.694  # of the shares below
    drawn = (random.multinomial(80, [0.5, 0.1, 0.05, 0.35]) for _ in range(60))
    found = pd.concat([agreement(answers_of(*cells)) for cells in drawn])
    assert 0.88 < found["low"].le(truth).mul(found["high"].ge(truth)).mean() <= 1
    (perfect,) = agreement(answers_of(10, 0, 0, 10)).to_dict("records")
    assert perfect["low"] < 0.95 < perfect["kappa"] == perfect["high"] == 1


def test_without_common_or_varied_answers_kappa_is_undefined():
    (row,) = agreement(answers_of(20, 0, 0, 0)).to_dict("records")
    assert in_words(row) == (
        "hat: mine and hers agree on 20 of 20 images; kappa is undefined, because both used "
        "only one of the two answers."
    )
    table = answers_of(1, 0, 0, 1)
    table.loc[0, "mine"] = table.loc[1, "hers"] = pd.NA
    (row,) = agreement(table).to_dict("records")
    assert in_words(row) == "hat: mine and hers have labelled no image in common."


def test_disagreements_are_found_among_the_images_to_label(tmp_path):
    path = tmp_path / "by-person.csv"
    save_table(path, answers_of(2, 1, 1, 0))
    assert to_settle(path, ["3.png", "x.png", "2.png", "0.png"]) == [0, 2]
    assert "none of its 2 rows" in complaint(to_settle, path, ["y.png"])
    save_table(path, answers_of(2, 0, 0, 2))
    assert "no disagreements" in complaint(to_settle, path, ["y.png"])
