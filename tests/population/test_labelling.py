"""Labelling: every answer is kept at once, a stop loses nothing, people are merged honestly."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ohlora_lib.population.labelling import LabelSession, Question, merge_tables
from ohlora_lib.population.sources import to_label
from ohlora_lib.widgets.labeller import LabelWidget

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)


def session(folder, **options):
    return LabelSession(IMAGES, ["smile", "hat"], folder, files=list("abcd"), **options)


def on_disk(folder):
    return pd.read_csv(folder / "labels.csv")


def test_every_answer_is_on_the_disk_at_once(tmp_path):
    one = session(tmp_path)
    for k, answer in enumerate(["1", "0", "skip"]):
        assert one.question == Question(k, "smile")
        one.answer(answer)
        assert len((tmp_path / "answers.csv").read_text().splitlines()) == k + 2
        assert len(on_disk(tmp_path)) == k + 1
    table = on_disk(tmp_path)
    assert table["file"].tolist() == ["a", "b", "c"]
    assert table["smile"].tolist()[:2] == [1, 0]
    assert table[["smile"]].isna()["smile"].tolist() == [False, False, True]
    assert table["hat"].isna().all()


def test_opened_again_it_goes_on_where_it_stopped(tmp_path):
    first = session(tmp_path)
    for answer in ("1", "skip", "0"):
        first.answer(answer)
    again = session(tmp_path)
    assert again.question == first.question == Question(3, "smile")
    assert again.answers == first.answers
    pd.testing.assert_frame_equal(again.table(), first.table())


@pytest.mark.parametrize("cut", ["1", "1,b,smi", "1,b,smile,1"])
def test_a_line_that_a_crash_cut_off_is_asked_again(tmp_path, cut):
    one = session(tmp_path)
    one.answer("1")
    with (tmp_path / "answers.csv").open("a") as file:
        file.write(cut)
    again = session(tmp_path)
    assert again.question == Question(1, "smile")
    with (tmp_path / "answers.csv").open("a") as file:
        file.write(cut)  # what a disk takes that is full
    again.answer("0")
    assert session(tmp_path).answers == {Question(0, "smile"): "1", Question(1, "smile"): "0"}


def test_back_answers_anew(tmp_path):
    one = session(tmp_path)
    one.back()
    assert one.question == Question(0, "smile")
    one.answer("1")
    one.answer("1")
    one.back()
    assert one.question == Question(1, "smile")
    one.answer("0")
    assert one.question == Question(2, "smile")
    assert session(tmp_path).answers[Question(1, "smile")] == "0"


def test_all_properties_of_an_image_at_once(tmp_path):
    one = session(tmp_path, by_image=True)
    asked = []
    while one.question:
        asked.append(one.question)
        one.answer("1")
    assert asked[:3] == [Question(0, "smile"), Question(0, "hat"), Question(1, "smile")]
    assert len(asked) == 8
    with pytest.raises(ValueError, match="all is answered"):
        one.answer("1")
    one.back()
    assert one.question == Question(3, "hat")


def test_progress_and_balance(tmp_path):
    one = session(tmp_path)
    for answer in ("1", "1", "0"):
        one.answer(answer)
    assert one.progress() == "3 of 8 answered. smile: 2 yes, 1 no, 0 skipped."
    one.answer("skip")
    assert one.progress() == "4 of 8 answered. hat: 0 yes, 0 no, 0 skipped."


def test_answers_about_something_else_are_not_mixed_in(tmp_path):
    session(tmp_path).answer("1")
    with pytest.raises(ValueError, match="row 0") as caught:
        LabelSession(IMAGES, ["glasses"], tmp_path, files=list("abcd"))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="is not one of"):
        session(tmp_path).answer("yes")


def test_merging_two_people(tmp_path):
    anna = pd.DataFrame({"file": list("abc"), "smile": [1, 0, None], "hat": [1, 1, 0]})
    otto = pd.DataFrame({"file": list("dcba"), "smile": [1, 1, 1, 1]})
    for name, table in {"anna": anna, "otto": otto}.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    merged = merge_tables([tmp_path / "anna.csv", tmp_path / "otto.csv"])
    table = merged.table.set_index("file")
    assert table["smile"].fillna(-1).to_dict() == {"a": 1, "b": -1, "c": 1, "d": 1}
    assert table["hat"].fillna(-1).to_dict() == {"a": 1, "b": 1, "c": 0, "d": -1}
    assert len(merged.disagreements) == 1
    row = merged.disagreements.iloc[0].to_dict()
    assert (row["file"], row["property"]) == ("b", "smile")
    assert sorted(row[str(tmp_path / f"{name}.csv")] for name in ("anna", "otto")) == [0, 1]


def test_tables_that_cannot_be_merged(tmp_path):
    (tmp_path / "a.csv").write_text("file,smile\na,1\n")
    (tmp_path / "b.csv").write_text("name,smile\na,1\n")
    (tmp_path / "c.csv").write_text("file,smile\na,1\na,0\n")
    with pytest.raises(ValueError, match="no column in common"):
        merge_tables([tmp_path / "a.csv", tmp_path / "b.csv"])
    with pytest.raises(ValueError, match="'a' is there twice"):
        merge_tables([tmp_path / "a.csv", tmp_path / "c.csv"])


def test_answers_belong_to_files_not_to_places(tmp_path):
    first = session(tmp_path)
    for answer in ("1", "0", "1", "0"):
        first.answer(answer)
    images = np.concatenate([IMAGES[:1], IMAGES])  # a new file came in front
    again = LabelSession(images, ["smile", "hat"], tmp_path, files=["0", *"abcd"])
    assert again.question == Question(0, "smile")
    assert on_disk(tmp_path)["file"].tolist() == list("abcd")
    again.answer("1")
    assert on_disk(tmp_path).set_index("file")["smile"].to_dict() == {
        "0": 1, "a": 1, "b": 0, "c": 1, "d": 0,
    }  # fmt: skip


def test_opening_again_keeps_the_persons_table(tmp_path):
    (tmp_path / "images").mkdir()
    for name, pixels in zip("abcd", IMAGES, strict=True):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.png")
    run = tmp_path / "run"
    for _ in range(2):
        images, names = to_label(
            run, count=4, image_px=8, seed=0, image_folder=tmp_path / "images"
        )
        one = LabelSession(images, ["smile"], run, files=names)
        before = len(one.answers)
        one.answer("1")
        assert on_disk(run)["smile"].tolist() == [1] * (before + 1)
    (run / "labels.csv").write_text("img_no\n")  # as if a crash had come before it was written
    LabelSession(images, ["smile"], run, files=names)
    assert on_disk(run)["smile"].tolist() == [1, 1]


@pytest.mark.parametrize("properties", [["file"], ["img_no"], ["smile", "smile"], [" "]])
def test_questions_that_cannot_be(tmp_path, properties):
    with pytest.raises(ValueError, match="properties are"):
        LabelSession(IMAGES, properties, tmp_path, files=list("abcd"))


def test_a_file_that_is_no_table_is_left_alone(tmp_path):
    (tmp_path / "answers.csv").write_text("my notes")
    with pytest.raises(ValueError, match="is missing"):
        session(tmp_path)
    assert (tmp_path / "answers.csv").read_text() == "my notes"


@pytest.mark.parametrize("value", ["2", "yes", "0.7"])
def test_a_bad_label_in_one_table_is_named_not_dropped(tmp_path, value):
    (tmp_path / "a.csv").write_text("file,gender\n001,1\nb.jpg,0\n")
    (tmp_path / "b.csv").write_text(f"file,gender\n001,1\nb.jpg,{value}\n")
    with pytest.raises(ValueError, match=rf"b\.csv: gender of 'b.jpg' is '?{value}'?;"):
        merge_tables([tmp_path / "a.csv", tmp_path / "b.csv"])
    merged = merge_tables([tmp_path / "a.csv", tmp_path / "a.csv"])
    assert merged.table["file"].tolist() == ["001", "b.jpg"]  # names stay as they are written


def test_accents_of_a_mac_are_the_same_names(tmp_path):
    for person in ("a", "b"):
        (tmp_path / person).mkdir()
    files = ["Jose\u0301.png", "Zoe\u0308.png", "c.png", "car\rriage.png"]
    one = LabelSession(IMAGES, ["smile"], tmp_path / "a", files=files)
    for answer in ("1", "0", "1", "0"):
        one.answer(answer)
    typed = ["Jos\u00e9.png", "Zo\u00eb.png", "c.png", "car\rriage.png"]
    again = LabelSession(IMAGES, ["smile"], tmp_path / "a", files=typed)
    assert again.question is None
    for answer in ("1", "1", "1", "0"):
        two = LabelSession(IMAGES, ["smile"], tmp_path / "b", files=typed)
        two.answer(answer)
    merged = merge_tables([tmp_path / name / "labels.csv" for name in ("a", "b")])
    assert merged.table["file"].tolist() == typed
    assert merged.disagreements["file"].tolist() == typed[1:2]


def test_the_question_says_what_0_and_1_mean(tmp_path):
    one = LabelSession(IMAGES, ["hat", "gender"], tmp_path, files=list("abcd"), by_image=True)
    widget = LabelWidget(one, {"hat": ["bare head", "hat"]})
    assert widget.question == "hat: 1 = hat, 0 = bare head"
    widget._take(None, {"place": 0, "answer": "1"}, None)
    assert widget.question == "gender: 0/1"  # nobody said
    assert LabelWidget(one).question == "gender: 1 = female, 0 = male"
