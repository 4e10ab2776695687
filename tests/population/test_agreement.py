"""Merging label tables: agreement is kept, disagreements are shown, broken tables are rejected."""

import pytest

from ohlora_lib.population.agreement import merge_tables


def merged(tmp_path, anna, otto):
    (tmp_path / "anna.csv").write_text(anna, encoding="utf-8", newline="")
    (tmp_path / "otto.csv").write_text(otto, encoding="utf-8", newline="")
    return merge_tables([tmp_path / "anna.csv", tmp_path / "otto.csv"])


def test_merging_two_people(tmp_path):
    anna = "file,smile,hat,note\na,1,1,x\nb,0,1,y\nc,,0,z\n"
    found = merged(tmp_path, anna, "file,smile\nd,1\nc,1\nb,1\na,1\n")
    table = found.table.set_index("file")
    assert table["smile"].fillna(-1).to_dict() == {"a": 1, "b": -1, "c": 1, "d": 1}
    assert table["hat"].fillna(-1).to_dict() == {"a": 1, "b": 1, "c": 0, "d": -1}
    assert found.left_out == ["note"]
    (row,) = found.disagreements.to_dict("records")
    assert (row["file"], row["property"]) == ("b", "smile")
    assert [row[str(tmp_path / f"{name}.csv")] for name in ("anna", "otto")] == [0, 1]


@pytest.mark.parametrize(
    ("otto", "words"),
    [
        ("name,hat\na,1\n", "no common column"),
        ("file,hat\n001,1\n001,0\n", "row 1 has file = '001'; that image appears twice"),
        ("file,hat\n001,1\nb.jpg,yes\n", r"otto\.csv: row 1 has hat = 'yes';"),
        ("file,hat\n001,1\nb.jpg,0.7\n", r"otto\.csv: row 1 has hat = 0.7;"),
    ],
)
def test_tables_that_cannot_be_merged_are_rejected(tmp_path, otto, words):
    with pytest.raises(ValueError, match=words):
        merged(tmp_path, "file,hat\n001,1\nb.jpg,0\n", otto)


def test_accents_written_by_macos_match(tmp_path):
    mac = 'file,smile\nJose\u0301.png,1\nZoe\u0308.png,0\nc.png,1\n"car\rriage.png",0\n'
    typed = 'file,smile\nJos\u00e9.png,1\nZo\u00eb.png,1\nc.png,1\n"car\rriage.png",0\n'
    found = merged(tmp_path, typed, mac)
    names = ["Jos\u00e9.png", "Zo\u00eb.png", "c.png", "car\rriage.png"]
    assert found.table["file"].tolist() == names
    assert found.disagreements["file"].tolist() == names[1:2]
