"""Selection: which images are kept, what each condition costs, and the advice when none is."""

import re

import numpy as np
import pandas as pd
import pytest

from ohlora_lib.selection.select import read_scores, select
from ohlora_lib.study.look import Condition, conditions, parse_condition
from tests.checks import complaint


@pytest.fixture
def scores():
    return pd.DataFrame({
        "gender_score": [0.9, 0.95, 0.2, 0.99],
        "age_score": [0.1, 0.9, 0.0, 0.05],
    })  # fmt: skip


def test_each_condition_and_what_it_costs(scores):
    wanted = [Condition("gender", ">=", 0.9), Condition("age", "<=", 0.1)]
    selection = select(scores, wanted)
    assert selection.kept.tolist() == [True, False, False, True]  # a score at the threshold passes
    assert selection.costs.to_dict("list") == {
        "condition": ["gender >= 0.9", "age <= 0.1"], "passes": [3, 3], "fails": [1, 1],
        "share": [0.75, 0.75], "lost_only_here": [1, 1],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("gender", "age", "named"),
    [
        (0.5, -1.0, "age"),  # no image passes age
        (0.5, 0.45, "age"),  # each passes half of the images, but not the same half
        (2.0, -1.0, "gender"),  # no image passes either
    ],
)
def test_nothing_kept_names_the_threshold_to_loosen(gender, age, named):
    values = np.linspace(0, 1, 101)
    scores = pd.DataFrame({"gender_score": values, "age_score": values})
    wanted = [Condition("gender", ">=", gender), Condition("age", "<=", age)]
    message = complaint(select, scores, wanted)
    assert f"Loosen {named} in `keep`" in message
    assert f"age <= {age:g} passes {(values <= age).sum()}" in message
    number = float(re.search(r"threshold of (\S+)", message)[1])
    before = wanted[named == "age"]
    loosened = Condition(named, before.sign, number)
    assert number > before.threshold if named == "age" else number < before.threshold
    alone = select(scores, [loosened]).kept.sum()
    assert alone >= 20  # the advised threshold passes images, but not all
    assert alone < 101
    if named == "age":
        kept = select(scores, [loosened, Condition("gender", ">=", gender)]).kept.sum()
        assert kept in range(10, 16)  # a quarter of those that meet the other condition


def test_first_images_are_left_out_and_missing_scores_are_not_kept(scores):
    wanted = [Condition("gender", ">=", 0.9)]
    selection = select(scores, wanted, skip_first=1)
    assert selection.kept.tolist() == [False, True, False, True]
    assert selection.costs["share"].tolist() == [pytest.approx(2 / 3)]
    assert "skip_first is 4" in complaint(select, scores, wanted, skip_first=4)
    scores.loc[1, "gender_score"] = float("nan")
    selection = select(scores, wanted)
    assert selection.kept.tolist() == [True, False, False, True]
    assert selection.summary()["unscored"] == 1


@pytest.mark.parametrize("second", [0, 1])
def test_rows_must_be_in_the_order_of_img_no(tmp_path, second):
    (tmp_path / "s.csv").write_text(f"img_no,gender\n1,0.5\n{second},0.6\n")
    with pytest.raises(ValueError, match=r"s\.csv: img_no does not increase"):
        read_scores(tmp_path / "s.csv", [Condition("gender", ">=", 0.1)])


def test_a_mistyped_condition_is_corrected(tmp_path):
    (tmp_path / "s.csv").write_text("gender_score\n0.5\n")
    said = complaint(read_scores, tmp_path / "s.csv", [Condition("gendre", ">=", 0.1)])
    assert "Did you mean 'gender'?" in said


@pytest.mark.parametrize("text", ["gender>0.9", ">=0.9", "gender>=0.9 age", "gender>=--1"])
def test_malformed_conditions_are_errors(text):
    assert "is not of the form 'gender>=0.92'" in complaint(parse_condition, text)
    said = complaint(conditions, {"gender": 1.0}, {"hat": 0.5})
    assert "keep names 'hat', which the concept lacks" in said
