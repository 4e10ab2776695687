"""Which folders a sweep's stages have, and which points share them."""

import pytest
from stand_ins import make_project, write_params

from ohlora_lib.runner import stages
from ohlora_lib.runner.sweep_grid import parse_grid
from ohlora_lib.runner.sweep_plan import plan_sweep, repointed, short_name, study_name, value_text
from ohlora_lib.study.model import NAME

V8, V9 = "05_finetune_generator-v8", "05_finetune_generator-v9"


@pytest.fixture
def project(tmp_path, monkeypatch):
    return make_project(tmp_path, monkeypatch)


def planned(root, *grid, seeds=()):
    study = stages.read_study(root / "params/tiny", root)
    return plan_sweep(study, root, parse_grid(grid, study), seeds)


def names(plan):
    return [task.name for task in plan.tasks.values()]


def test_what_the_grid_does_not_reach_is_the_studys_own(project):
    plan = planned(project, "r1_gamma=1,10")
    assert names(plan).count("tiny/01_first") == 1
    assert len(plan.points) == 2
    assert len(names(plan)) == 1 + 2 * 5
    own = stages.read_study(project / "params/tiny", project)[0]
    assert plan.tasks[own.folder].stage == own
    second = plan.tasks[project / f"outputs/tiny-r1_gamma-10/{V9}"]
    assert second.stage.parameters.first_run == "outputs/tiny/01_first"
    assert second.stage.parameters.r1_gamma == 10
    assert second.needs == (own.folder,)
    evaluation = plan.tasks[project / "outputs/tiny-r1_gamma-10/06_evaluate_samples-v9"]
    assert evaluation.stage.parameters.finetune_run == f"outputs/tiny-r1_gamma-10/{V9}"
    assert evaluation.needs == (own.folder, second.stage.folder)
    assert second.label == "v9 r1_gamma=10"


def test_a_seed_is_what_run_makes_of_it(project):
    plan = planned(project, seeds=[4])
    expected = stages.read_study(project / "params/tiny", project, seed=4)
    assert [task.stage for task in plan.tasks.values()] == expected
    assert {task.command for task in plan.tasks.values()} == {"ohlora run params/tiny --seed 4"}


def test_points_share_early_stages_of_a_seed(project):
    plan = planned(project, "r1_gamma=1,10,100", seeds=range(5))
    assert len(plan.points) == 15
    assert sum(name.endswith("/01_first") for name in names(plan)) == 5
    assert len(plan.tasks) == 5 + 15 * 5
    task = plan.tasks[project / f"outputs/tiny-r1_gamma-100-seed3/{V8}"]
    assert task.stage.parameters.seed == 3
    assert task.command == "ohlora sweep params/tiny --grid r1_gamma=100 --seeds 3"
    assert plan.points[0].folders[0] == project / "outputs/tiny-seed0/01_first"
    assert plan.points[0].study == "tiny-r1_gamma-1-seed0"


def test_an_axis_reaches_only_what_needs_it(project):
    plan = planned(project, "05*-v9.r1_gamma=1,2", "06*.extra=1,2")
    found = names(plan)
    assert found.count(f"tiny/{V8}") == 1
    assert [name for name in found if name.endswith(V9)] == [
        f"tiny-r1_gamma-1/{V9}",
        f"tiny-r1_gamma-2/{V9}",
    ]
    evaluations = [name for name in found if "06_evaluate_samples-v8" in name]
    assert evaluations == [f"tiny-extra-{k}/06_evaluate_samples-v8" for k in (1, 2)]
    assert sum("06_evaluate_samples-v9" in name for name in found) == 4


def test_files_of_a_stage_move_with_it(project):
    text = "variant: v9\nfirst_run: outputs/tiny/01_first\nconcept: {a: 1.0}\n"
    write_params(project, V9, f"{text}start_file: outputs/tiny/01_first/a.bin\n")
    plan = planned(project, "value=1,2")
    task = plan.tasks[project / f"outputs/tiny-value-2/{V9}"]
    assert task.stage.parameters.start_file == "outputs/tiny-value-2/01_first/a.bin"


def test_a_prefix_of_a_name_is_another_folder():
    places = {"outputs/a/05_x": "outputs/b/05_x"}
    given = {"one": ["outputs/a/05_x", "outputs/a/05_x-v8"], "two": "outputs/a/05_x/f.bin", "n": 3}
    assert repointed(given, places) == {
        "one": ["outputs/b/05_x", "outputs/a/05_x-v8"],
        "two": "outputs/b/05_x/f.bin",
        "n": 3,
    }


def test_names_are_safe_short_and_apart():
    import re

    long = {"concept": {"gender": 1.0, "quality": 1.0, "age": 0.0, "glass": 0.0}}
    one = study_name("quickstart", long, 12)
    other = study_name("quickstart", {"concept": {**long["concept"], "age": 1.0}}, 12)
    assert one != other
    for name in (one, other, short_name("a/../../etc"), short_name("a b"), short_name("x" * 500)):
        assert re.fullmatch(NAME.lstrip("^"), name), name
    assert one.endswith("-seed12")
    assert short_name("a b") != short_name("a_b")
    assert [value_text(v) for v in (10.0, 1e-4, 0.1, True, "v9")] == [
        "10", "0.0001", "0.1", "true", "v9"
    ]  # fmt: skip


def test_a_value_that_one_stage_allows_and_another_does_not(project):
    with pytest.raises(ValueError, match=r"05_finetune_generator-v8.yaml.*r1_gamma is -1"):
        planned(project, "r1_gamma=-1")


def test_a_name_that_is_taken_is_said(project):
    (project / "params/tiny-r1_gamma-1").mkdir()
    with pytest.raises(ValueError, match="belongs to params/tiny-r1_gamma-1"):
        planned(project, "r1_gamma=1")
