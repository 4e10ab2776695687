"""What `--grid` and `--seeds` mean, and that every mistake is one line."""

import pytest
from stand_ins import make_project

from ohlora_lib.runner import stages
from ohlora_lib.runner.sweep_grid import parse_grid, parse_seeds


@pytest.fixture
def study(tmp_path, monkeypatch):
    root = make_project(tmp_path, monkeypatch)
    return stages.read_study(root / "params/tiny", root)


def axis(text, study):
    (found,) = parse_grid([text], study)
    return found.label, found.stages, found.values


TRAININGS = ("05_finetune_generator-v8", "05_finetune_generator-v9")


def test_a_bare_name_is_the_fine_tunings_where_others_have_it_too(study):
    assert axis("r1_gamma=1,10,1e2", study) == ("r1_gamma", TRAININGS, (1.0, 10.0, 100.0))
    assert axis("value=1, 2", study) == ("value", ("01_first",), (1, 2))
    assert axis("concept={a: 1},{a: 0}", study)[1:] == (
        (*TRAININGS, "06_evaluate_samples-v8", "06_evaluate_samples-v9", "08_compare_runs"),
        ({"a": 1.0}, {"a": 0.0}),
    )


def test_a_stage_can_be_said(study):
    assert axis("01_first.r1_gamma=3", study) == ("r1_gamma", ("01_first",), (3.0,))
    assert axis("*-v9.r1_gamma=1.0e-3", study)[1:] == (TRAININGS[1:], (0.001,))
    both = parse_grid(["r1_gamma=1", "01*.r1_gamma=2"], study)
    assert [found.label for found in both] == ["r1_gamma", "01_r1_gamma"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("r1_gama=1", "Did you mean 'r1_gamma'"),
        ("r1_gamma", "must be NAME=VALUE"),
        ("r1_gamma=", "must be NAME=VALUE"),
        ("=1", "no stage of this study has a parameter ''"),
        ("r1_gamma=[1", "must be NAME=VALUE"),
        ("r1_gamma=-1", "r1_gamma is -1.0"),
        ("r1_gamma=many", "r1_gamma is 'many'"),
        ("value=1.5", "value is 1.5"),
        ("r1_gamma=1,2,1.0", "r1_gamma=1.0 twice"),
        ("seed=1,2", "give --seeds instead"),
        ("study=a", "cannot change study"),
        ("07*.r1_gamma=1", "matches no stage"),
        ("extra=1,2", r"say which, as 01_first.extra="),
    ],
)
def test_mistakes_of_a_grid_are_one_line(study, text, words):
    with pytest.raises(ValueError, match=words) as error:
        parse_grid([text], study)
    assert "\n" not in str(error.value)


def test_one_parameter_in_two_axes_is_refused(study):
    with pytest.raises(ValueError, match="twice"):
        parse_grid(["r1_gamma=1", "05*-v9.r1_gamma=2"], study)


def test_seeds_are_numbers_and_ranges():
    assert parse_seeds("0-2,7") == [0, 1, 2, 7]
    assert parse_seeds("") == []


@pytest.mark.parametrize("text", ["3-1", "a", "1,", "-1", "0-99999", "1.5", "0-2,1"])
def test_mistakes_of_seeds_are_one_line(text):
    with pytest.raises(ValueError, match="--seeds has"):
        parse_seeds(text)
