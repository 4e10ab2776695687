"""Label tables and file names survive a round trip; malformed tables raise clear errors."""

import numpy as np
import pandas as pd
import pytest

from ohlora_lib.population.labels import (
    check_facts,
    drawn_at_random,
    find_names,
    how_labelled,
    label_columns,
    label_weights,
    read_table,
    save_table,
    split_halves,
    with_properties,
)
from tests.checks import complaint


def test_round_trip(tmp_path):
    table = pd.DataFrame({"img_no": [4, 7, 9], "file": ["007", "car\rriage", 'b"'], "age": 1.5})
    save_table(tmp_path / "t.csv", table)
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv"), table, check_dtype=False)
    with pytest.raises(ValueError, match=r"column 'hat' is missing; the table has \['img_no', "):
        read_table(tmp_path / "t.csv", ["age", "hat"])
    assert "Did you mean 'img_no'?" in complaint(read_table, tmp_path / "t.csv", ["imgno"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a readable CSV table"),
        (b"a,b\n1,2,3\n1,2,3,4\n", "has 3 fields"),
        (b"\xff\xfe\x00x", "not a readable CSV table"),
        (None, "no such table"),
    ],
)
def test_unreadable(tmp_path, content, words):
    if content is not None:
        (tmp_path / "t.csv").write_bytes(content)
    said = complaint(read_table, tmp_path / "t.csv")
    assert said.startswith(str(tmp_path / "t.csv"))
    assert words in said


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_halves_are_disjoint_shuffled_and_complete(count):
    first, second = split_halves(count, seed=1)
    assert sorted([*first, *second]) == list(range(count))
    assert 0 <= len(second) - len(first) <= 1
    assert np.array_equal(first, split_halves(count, seed=1)[0])
    if count == 1000:
        assert not np.array_equal(first, split_halves(count, seed=2)[0])
        assert 430 < first.mean() < 570  # the first 500 rows alone would give 250


NFC, NFD = "Jos\u00e9", "Jose\u0301"  # as typed, and as macOS writes file names


@pytest.mark.parametrize(
    ("keys", "names", "found"),
    [
        ([f"{NFC}.png", "b.png"], [f"{NFD}.png", "b.png"], [0, 1]),
        ([f"{NFD}.png", f"{NFC}.png"], [f"{NFC}.png", f"{NFD}.png"], [1, 0]),  # two files, not one
        (["000001.jpg", "000002.jpg"], ["000001.png", "000002.png"], [0, 1]),
        (["a.JPG"], ["x/a.jpg"], [0]),
        (["a", "b"], ["a.png", "b.png"], [0, 1]),
        (["a.jpg"], ["a.png", "x/a.png"], [0]),  # the whole path counts more than its stem
        (["a.jpg"], ["a.png", "x/a.jpg"], [1]),  # the suffix counts more than the folder
        (["a.jpg"], ["x/a.png", "y/a.png"], [None]),  # ambiguous
        (["x/a.png", "y/a.png"], ["a.png"], [None, None]),
        (["a.jpg", "a.bmp"], ["a.png"], [None, None]),  # ambiguous, too
        (["a.jpg", "a.png"], ["a.png"], [None, 0]),
        (["C:\\me\\a.png"], ["x/a.png"], [0]),  # from Windows
        (["x\\a.png", "y\\a.png"], ["y/a.png", "x/a.png"], [1, 0]),
        (["v1.5"], ["v1.png"], [None]),  # .5 is not an image suffix
        (["a.png", "a.png"], ["a.png"], [0, 0]),  # the caller rejects duplicates
    ],
)
def test_names_match_with_other_accents_and_suffixes(keys, names, found):
    assert find_names(keys, names) == found


def test_twenty_thousand_names_match_within_the_time_of_a_quick_test():
    names = [f"{k}.png" for k in range(20_000)]
    assert find_names(names, names) == list(range(20_000))


def test_names_in_different_folders_differ_without_any_folder():
    assert find_names(["x/a.png", "y/b.jpg"], ["a.png", "y/b.png"], any_folder=False) == [None, 1]


def chosen_table(**columns):
    """Two images drawn at random and two chosen for their hats."""
    plain = {
        "file": list("abcd"), "hat": [0, 1, 1, 1], "bald": [1, 0, None, None],
        "source": ["random", None, "chosen", "chosen"], "how": ["key", "key", "grid", "grid"],
        "round": [0, 0, 1, 1], "hat_weight": [1, 1, 0.5, None],
    }  # fmt: skip
    return pd.DataFrame(plain | columns)


def test_how_labels_were_made_is_no_property():
    table = chosen_table()
    assert label_columns(table) == ["hat", "bald"]
    assert with_properties(table, {"bare": "hat<=0"}, "t.csv")[1] == ["bare", "hat"]
    assert drawn_at_random(table).tolist() == [True, True, False, False]
    weights = label_weights(table, ["bald", "hat"])
    assert weights.tolist() == [[1, 1], [1, 1], [0, 0.5], [0, 0]]
    assert how_labelled(table) == (
        "4 labelled images: 2 drawn at random, 2 chosen; 2 answered on pages. "
        "Tests use only the 2 drawn at random."
    )


@pytest.mark.parametrize("own", [{}, {"source": ["web", "book", "web", "web"]}])
def test_without_sources_those_columns_are_like_any_other(own):
    table = chosen_table(**own).drop(columns=["hat_weight"] if own else ["hat_weight", "source"])
    assert label_columns(table) == ["hat", "bald", "round"]
    assert drawn_at_random(table).all()
    assert label_weights(table, ["hat"]) is None
    assert how_labelled(table) == ""
    check_facts(table, "t.csv")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"source": ["random", "Random", "chosen", None]}, "row 1 has source = 'Random'"),
        ({"source": ["chosen"] * 4}, "all 4 images were chosen"),
        ({"hat_weight": [1, 1, -2, 1]}, "row 2 has hat_weight = -2"),
        ({"hat_weight": [1, "much", 1, 1]}, "row 1 has hat_weight = 'much'"),
    ],
)
def test_wrong_facts_about_labels_are_rejected(columns, words):
    said = complaint(with_properties, chosen_table(**columns), {}, "t.csv")
    assert said.startswith(f"t.csv: {words}")
