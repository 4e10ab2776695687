"""Labelling: answers are saved at once, stops lose nothing."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ohlora_lib.population.labelling import LabelSession, Question
from ohlora_lib.population.sources import to_label
from ohlora_lib.study.parameters import LabelImages
from ohlora_lib.study.run_folder import Run
from ohlora_lib.widgets.labeller import LabelWidget

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)


def session(folder, properties=("smile", "hat"), files="abcd", images=IMAGES, **options):
    return LabelSession(images, list(properties), folder, files=list(files), **options)


def answered(one, *answers):
    for answer in answers:
        one.answer(answer)
    return one


def on_disk(folder):
    return pd.read_csv(folder / "labels.csv")


def test_every_answer_is_saved_at_once_and_a_session_resumes(tmp_path):
    one = session(tmp_path)
    for k, answer in enumerate(["1", "0", "skip"]):
        assert one.question == Question(k, "smile")
        one.answer(answer)
        assert len((tmp_path / "answers.csv").read_text().splitlines()) == k + 2
        assert len(on_disk(tmp_path)) == k + 1
    table = on_disk(tmp_path)
    assert table["file"].tolist() == ["a", "b", "c"]
    assert table["smile"].fillna(-1).tolist() == [1, 0, -1]
    assert table["hat"].isna().all()
    assert one.progress() == "3 of 8 answered. smile: 1 yes, 1 no, 1 skipped."
    again = session(tmp_path)
    assert again.question == one.question == Question(3, "smile")
    pd.testing.assert_frame_equal(again.table(), one.table())


def test_a_question_stays_open_if_its_answer_is_not_saved(tmp_path, monkeypatch):
    one = answered(session(tmp_path), "1")
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            one.answer("0")
    assert one.question == session(tmp_path).question == Question(1, "smile")


def test_back_replaces_an_answer(tmp_path):
    one = session(tmp_path)
    one.back()
    assert one.question == Question(0, "smile")
    answered(one, "1", "1").back()
    assert one.question == Question(1, "smile")
    one.answer("0")
    assert one.question == Question(2, "smile")
    assert session(tmp_path).answers[Question(1, "smile")] == "0"


def test_by_image_asks_about_all_properties_of_an_image(tmp_path):
    one = session(tmp_path, by_image=True)
    asked = []
    while one.question:
        asked.append(one.question)
        one.answer("1")
    assert asked[:3] == [Question(0, "smile"), Question(0, "hat"), Question(1, "smile")]
    assert len(asked) == 8
    with pytest.raises(ValueError, match="no question is open"):
        one.answer("1")
    one.back()
    assert one.question == Question(3, "hat")


def test_answers_about_other_images_or_properties_are_rejected(tmp_path):
    answered(session(tmp_path), "1")
    with pytest.raises(ValueError, match="images or properties other than these") as caught:
        session(tmp_path, ["glasses"])
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="is not one of"):
        session(tmp_path).answer("yes")
    (tmp_path / "answers.csv").write_text("my notes")
    with pytest.raises(ValueError, match="is missing"):
        session(tmp_path)
    assert (tmp_path / "answers.csv").read_text() == "my notes"


def test_answers_belong_to_files_not_to_positions(tmp_path):
    answered(session(tmp_path), "1", "0", "1", "0")
    images = np.concatenate([IMAGES[:1], IMAGES])  # a new file comes first
    again = session(tmp_path, files="0abcd", images=images)
    assert again.question == Question(0, "smile")
    assert on_disk(tmp_path)["file"].tolist() == list("abcd")
    again.answer("1")
    assert on_disk(tmp_path).set_index("file")["smile"].to_dict() == {
        "0": 1, "a": 1, "b": 0, "c": 1, "d": 0,
    }  # fmt: skip


def test_reopening_keeps_the_table_of_labels(tmp_path):
    (tmp_path / "images").mkdir()
    for name, pixels in zip("abcd", IMAGES, strict=True):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.png")
    config = LabelImages.model_construct(image_folder=str(tmp_path / "images"), image_px=8)
    run = Run(tmp_path / "outputs" / "s" / "label_images", "label_images", {}, {})
    for count in (1, 2):
        images, names = to_label(config, run)
        answered(session(run.path, ["smile"], names, images), "1")
        assert on_disk(run.path)["smile"].tolist() == [1] * count


@pytest.mark.parametrize("properties", [["file"], ["img_no"], ["smile", "smile"], [" "]])
def test_invalid_property_names_are_rejected(tmp_path, properties):
    with pytest.raises(ValueError, match="properties are"):
        session(tmp_path, properties)


def test_accents_written_by_macos_match(tmp_path):
    files = ["Jose\u0301.png", "Zoe\u0308.png", "c.png", "car\rriage.png"]
    typed = ["Jos\u00e9.png", "Zo\u00eb.png", "c.png", "car\rriage.png"]
    answered(session(tmp_path / "a", ["smile"], files), "1", "0", "1", "0")
    assert session(tmp_path / "a", ["smile"], typed).question is None


def test_the_question_explains_0_and_1(tmp_path):
    one = session(tmp_path, ["hat", "gender"], by_image=True)
    widget = LabelWidget(one, {"hat": ["bare head", "hat"]})
    assert widget.question == "hat: 1 = hat, 0 = bare head"
    widget._take(None, {"place": 0, "answer": "1"}, None)
    assert widget.question == "gender: 0/1"  # no meaning given
