"""Labelling: answers are saved at once, stops lose nothing."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ohlora_lib.population import asking
from ohlora_lib.population.answers import PAIR
from ohlora_lib.population.labelling import LabelSession, features_of
from ohlora_lib.study.parameters import LabelImages
from ohlora_lib.widgets.labeller import LabelWidget
from tests.checks import complaint

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def planted_features(monkeypatch):
    monkeypatch.setattr(asking, "features", lambda images: FEATURES[: len(images)])


def session(
    folder, properties=("smile", "hat"), files="abcd", images=IMAGES, order="in order", **options
):
    config = LabelImages.model_construct(properties=list(properties), order=order, **options)
    return LabelSession(config, images, list(files), folder)


def asked(one):
    """The image and the property of the current page's first question."""
    return tuple(one.page.iloc[0][PAIR])


def answers(one):
    return one.record.answers.set_index(PAIR)["answer"].to_dict()


def answered(one, *answers):
    for answer in answers:
        one.answer(answer)
    return one


def on_disk(folder):
    return pd.read_csv(folder / "labels.csv")


def test_every_answer_is_saved_at_once_and_a_session_resumes(tmp_path):
    one = session(tmp_path)
    for k, answer in enumerate(["1", "0", "skip"]):
        assert asked(one) == (k, "smile")
        one.answer(answer)
        assert len((tmp_path / "answers.csv").read_text().splitlines()) == k + 2
        assert len(on_disk(tmp_path)) == k + 1
    table = on_disk(tmp_path)
    assert table["file"].tolist() == ["a", "b", "c"]
    assert table["smile"].fillna(-1).tolist() == [1, 0, -1]
    assert table["hat"].isna().all()
    assert one.progress() == "3 of 8 answered. smile: 1 yes, 1 no, 1 skipped."
    again = session(tmp_path)
    assert asked(again) == asked(one) == (3, "smile")
    pd.testing.assert_frame_equal(again.table(), one.table())


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


def take(widget, place, *answers):
    widget._take(None, {"place": place, "answers": list(answers)}, None)


def test_what_is_not_saved_stays_open_and_the_widget_says_so(tmp_path, monkeypatch):
    one, pages = answered(session(tmp_path), "1"), rounds(tmp_path / "rounds")
    widget = LabelWidget(one)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", raising(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            pages.choose()
        take(widget, 1, "0")
    assert pages.must_choose
    assert re.search("Not saved.*full", widget.notes[0])
    assert asked(one) == asked(session(tmp_path)) == (1, "smile")
    take(widget, 1, "0")
    assert (widget.place, widget.notes) == (2, [])


def test_two_notebooks_do_not_overwrite_each_other(tmp_path):
    one = answered(session(tmp_path), "1")
    other = answered(session(tmp_path), "0", "1")
    widget = LabelWidget(one)
    take(widget, 1, "skip")
    assert "was changed by another notebook" in widget.notes[0]
    assert answers(session(tmp_path)) == answers(other)
    assert len(one.record.answers) == 1
    answered(other, "skip")


def test_by_image_asks_about_all_properties_of_an_image_and_back_replaces_an_answer(tmp_path):
    one = session(tmp_path, by_image=True)
    one.back()
    order = []
    while one.page is not None:
        order.append(asked(one))
        one.answer("1")
    assert order[:3] == [(0, "smile"), (0, "hat"), (1, "smile")]
    assert len(order) == 8
    assert "no question is open" in complaint(one.answer, "1")
    one.back()
    assert asked(one) == (3, "hat")
    assert "is not one of" in complaint(one.answer, "yes")
    one.answer("0")
    assert answers(session(tmp_path, by_image=True))[3, "hat"] == "0"


def test_the_notebook_names_a_table_only_if_there_is_one(tmp_path):
    notebook = Path(__file__).parents[2] / "notebooks" / "label_images.ipynb"
    *_, cell, _ = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    for one in (session(tmp_path), answered(session(tmp_path), "1")):
        said = []
        show = SimpleNamespace(table=lambda *_, **__: None, sentence=said.append)
        names = {"session": one, "config": one.config, "show": show}
        names["run"] = SimpleNamespace(path=tmp_path)
        exec("".join(cell["source"]), names)  # noqa: S102
        assert said[-1].startswith("labels_csv: ") == bool(len(one.table()))


HEAD = "img_no,file,property,answer,how,round,source,sec,digest\n1,b,smile,1,key,0,random,1,\n"
BAD_RECORDS = {
    "my notes": "is missing",
    f"{HEAD}0,a,glasses,1,key,0,random,1,": "images or properties other than these",
    f"{HEAD}0,a,smile,1,mouse,0,random,1,": "line 3 has how = 'mouse'; it must be one of",
    f"{HEAD}0,a,smile,1,key,zero,random,1,": "line 3 has round = 'zero'",
    f"{HEAD}0,a,smile,maybe,key,0,random,1,": "line 3 has answer = 'maybe'; it must be one of",
    f"{HEAD}0,a,smile,": "line 3 has 4 fields",
    f"{HEAD}0,a,smi,,,,,,": "the first about ['a', 'smi']",
    HEAD: "line 2 has digest = ''",
}


@pytest.mark.parametrize("text", BAD_RECORDS)
def test_the_first_bad_line_of_a_record_is_named_and_the_record_kept(tmp_path, text):
    path = tmp_path / "answers.csv"
    path.write_text(text, newline="\r\n")
    before = path.read_bytes()
    said = complaint(session, tmp_path)
    assert "answers.csv: " in said
    assert BAD_RECORDS[text] in said
    assert path.read_bytes() == before


def test_odd_names_resume_and_accents_may_be_those_of_macos(tmp_path):
    properties = ["01", "None", "red hat"]
    files = ["Jose\u0301.png", "Zoe\u0308.png", "c.png", "car\rriage.png"]
    typed = ["Jos\u00e9.png", "Zo\u00eb.png", "c.png", "car\rriage.png"]
    one = answered(session(tmp_path, properties, files, by_image=True), "1", "0", "1", "0")
    again = session(tmp_path, properties, typed, by_image=True)
    assert answers(again) == answers(one)
    assert asked(again) == (1, "None")


def test_answers_belong_to_files_not_to_positions(tmp_path):
    answered(session(tmp_path), "1", "0", "1", "0")
    images = np.concatenate([IMAGES[:1], IMAGES])  # a new file comes first
    again = session(tmp_path, files="0abcd", images=images)
    assert asked(again) == (0, "smile")
    assert on_disk(tmp_path)["file"].tolist() == list("abcd")
    again.answer("1")
    assert on_disk(tmp_path).set_index("file")["smile"].to_dict() == {
        "0": 1, "a": 1, "b": 0, "c": 1, "d": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "properties", [["file"], ["img_no"], ["smile", "smile"], [" "], ["hat_weight", "hat"]]
)
def test_invalid_property_names_are_rejected(tmp_path, properties):
    assert "properties are" in complaint(session, tmp_path, properties)


RARE = 0.08
MANY = 300
TRUTH = pd.DataFrame(
    {
        "hat": np.random.default_rng(1).random(MANY) < RARE,
        "smile": np.random.default_rng(2).random(MANY) < 0.5,
    }
).astype(int)
PIXELS = np.random.default_rng(3).integers(0, 256, (MANY, 4, 4, 3), dtype=np.uint8)
FEATURES = np.random.default_rng(4).normal(size=(MANY, 6)) + 2 * TRUTH["hat"].to_numpy()[:, None]


def rounds(folder, properties=("hat", "smile"), pixels=PIXELS, **options):
    given = {"first": 40, "by_key": 2, "per_round": 20, "page_images": 15, "target": 200}
    files = [f"{k}.png" for k in range(len(pixels))]
    return session(folder, properties, files, pixels, "chosen", **given | options)


def true_answers(page):
    return [str(TRUTH[prop][k]) for k, prop in page[PAIR].itertuples(index=False)]


def ask(one, **until):
    """Answers correctly until a page has this how, place or round; returns the pages answered."""
    pages = []
    while not one.choose() and one.page is not None:
        page = {"how": one.how, "place": one.place, "number": one.page["round"].max()}
        if until.items() <= page.items():
            break
        pages.append(one.page)
        one.answer(*true_answers(one.page))
    return pages


def record(folder):
    return pd.read_csv(folder / "answers.csv")


def test_a_random_part_then_rounds_for_the_property_with_fewest_of_a_kind(tmp_path):
    pages = ask(rounds(tmp_path, by_key=5), number=2)
    kinds = [(page["how"].iloc[0], page["round"].iloc[0], len(page)) for page in pages]
    assert kinds[:10] == [("key", 0, 1)] * 10  # five images, two properties
    assert kinds[10:16] == [("grid", 0, 12), ("grid", 0, 12), ("grid", 0, 11)] * 2
    answers = record(tmp_path)
    first = answers[answers["round"] == 0]
    assert (first["source"] == "random").all()
    assert first[first["how"] != "check"].groupby("property").size().to_dict() == {
        "hat": 40, "smile": 40,
    }  # fmt: skip
    chosen = answers[answers["source"] == "chosen"]
    assert set(chosen["property"]) == {"hat"}
    random = answers[answers["source"] == "random"].groupby("property")["img_no"].nunique()
    assert random.to_dict() == {"hat": 44, "smile": 44}  # and a fifth of 20
    assert TRUTH["hat"][chosen["img_no"]].mean() > 2 * RARE
    order = np.random.default_rng(0).permutation(MANY)[:44]
    assert set(order) == set(answers.loc[answers["source"] == "random", "img_no"])
    table = on_disk(tmp_path)
    assert table.columns.tolist() == [
        "img_no", "file", "hat", "smile", "source", "how", "round", "hat_weight",
    ]  # fmt: skip
    labelled = table["hat"].notna()
    assert table.loc[labelled, "hat_weight"].gt(0).all()
    assert table.loc[~labelled, "hat_weight"].isna().all()
    assert set(table["how"]) == {"key", "grid"}
    assert table.loc[table["source"] == "random", ["hat", "smile"]].notna().all(axis=None)


def test_a_chosen_image_that_is_drawn_later_counts_as_random(tmp_path):
    """Were it left out of the draws, rare images would be missing from the fair sample."""
    one = rounds(tmp_path, per_round=100, page_images=48)
    ask(one, number=2)
    earlier = set(record(tmp_path).query("source == 'chosen'")["img_no"])
    ask(one, number=3)
    answers = record(tmp_path)
    turned = earlier & set(answers.query("source == 'random'")["img_no"])
    assert turned
    assert answers.groupby("img_no")["source"].nunique().max() == 1


def test_what_is_answered_at_a_stop_within_a_part_is_a_fair_sample(tmp_path):
    """Were the pages sorted among each other, the first would have most of the ones."""
    one = rounds(tmp_path, ["smile"], by_key=20, first=80)
    ask(one, how="grid")
    left = one.record.questions.query("page >= @one.place")
    means, every = left.groupby("page")["score"].mean(), left["score"]
    assert (len(means), len(every)) == (4, 60)
    assert np.ptp(means) < 0.5 * np.ptp(every)


def test_a_page_is_filled_in_corrected_confirmed_and_undone(tmp_path):
    one = rounds(tmp_path)
    ask(one, number=1)
    page, place = one.page, one.place
    assert page["score"].is_monotonic_decreasing
    assert one.filled_in() == ["1" if score >= 0.5 else "0" for score in page["score"]]
    before = len(record(tmp_path))
    given = true_answers(page)
    given[0] = "skip"
    one.answer(*given)
    lines = record(tmp_path)
    assert len(lines) == before + len(given)
    assert lines["answer"].tolist()[before:] == given
    assert set(lines["how"][before:]) == {"grid"}
    one.back()
    assert (one.place, one.filled_in()) == (place, given)
    one.answer(*true_answers(page))
    assert len(record(tmp_path)) == before + len(given)
    assert one.place == place + 1
    with pytest.raises(ValueError, match="is not one of"):
        one.answer("1")  # one answer for a whole page


def test_a_stop_at_any_page_resumes_there(tmp_path):
    there = ask(rounds(tmp_path / "a", first=20, by_key=1), number=2)
    for page in there:
        other = rounds(tmp_path / "b", first=20, by_key=1)  # a new kernel for every page
        other.choose()
        assert other.page[PAIR].equals(page[PAIR])
        other.answer(*true_answers(page))
    kept = [record(tmp_path / name).drop(columns="sec") for name in "ab"]
    pd.testing.assert_frame_equal(*kept)
    assert not kept[0].duplicated(["img_no", "property", "how"]).any()


def test_some_answers_on_pages_are_asked_again(tmp_path):
    one = rounds(tmp_path)
    ask(one, how="check")
    k, prop = asked(one)
    line = record(tmp_path).query("img_no == @k and property == @prop")
    assert line["how"].tolist() == ["grid"]
    assert "checked" not in one.progress()
    other = "0" if line["answer"].tolist() == [1] else "1"
    one.answer(other)
    assert "Of 1 checked again, 1 differed." in one.progress()
    both = record(tmp_path).query("img_no == @k and property == @prop")
    assert both["how"].tolist() == ["grid", "check"]  # both stay in the record
    table = on_disk(tmp_path).set_index("img_no")
    assert table[prop][k] == int(other)  # deciding beats agreeing
    ask(one, number=1)
    count = (record(tmp_path)["how"] == "grid").sum()
    assert (record(tmp_path)["how"] == "check").sum() == round(0.05 * count)


def test_a_property_added_half_way_is_asked_about_the_random_images(tmp_path):
    ask(rounds(tmp_path, ["hat"]), number=2)
    again = rounds(tmp_path)
    assert again.notes() == [
        "smile is new: its first questions are about the 48 images drawn at random so far."
    ]
    ask(again, number=3)
    answers = record(tmp_path).query("source == 'random'").groupby("img_no")["property"]
    assert (answers.nunique() == 2).all()
    assert len(answers) == 48


def test_images_that_changed_are_rejected_but_not_another_machines_rounding(tmp_path):
    ask(rounds(tmp_path), how="grid")
    off = PIXELS.astype(int) + np.random.default_rng(5).integers(-1, 2, PIXELS.shape)
    one = rounds(tmp_path, pixels=off.clip(0, 255).astype(np.uint8))
    assert len(one.record.answers) == 4
    for pixels in (PIXELS[:, ::-1].copy(), 0 * PIXELS):
        said = complaint(rounds, tmp_path, pixels=pixels)
        assert "has other pixels than when it was labelled" in said
    text = (tmp_path / "answers.csv").read_text()
    (tmp_path / "answers.csv").write_text(text.replace(",x", ",y"))
    assert "line 2 has digest = 'y" in complaint(rounds, tmp_path)


def test_equal_answers_are_explained_and_skipped_images_do_not_come_back(tmp_path):
    one, pages = rounds(tmp_path, ["hat"], PIXELS[:60]), []
    while not one.choose() and one.page is not None:
        pages.append(one.page)
        one.answer(*["0" if k % 3 else "skip" for k in one.page["img_no"]])
    every = pd.concat(pages)
    assert sorted(every.loc[~every["check"], "img_no"]) == list(range(60))
    assert not one.must_choose
    (note,) = one.notes()
    assert note.startswith("All 40 answers for hat are no, so nothing can be learned yet")


def test_the_widget_shows_a_page_and_says_while_it_chooses(tmp_path):
    one = rounds(tmp_path, meaning={"hat": ["bare head", "hat"]})
    ask(one, how="grid")
    widget, seen = LabelWidget(one), []
    assert (widget.view, widget.question) == ("grid", "hat: 1 = hat, 0 = bare head")
    assert widget.words == ["bare head", "hat"]
    assert len(widget.images) == len(widget.filled) == len(one.page)
    widget.observe(lambda change: seen.append(change.new), "view")
    while widget.view == "grid":
        take(widget, one.place, *true_answers(one.page))
    assert seen == ["wait", "grid", "wait", "key"]  # trains between properties, then checks
    assert "Asked again, to check" in widget.question
    place = one.place
    take(widget, place - 1, "1")  # pressed twice
    assert one.place == place
    take(widget, place, "back")
    assert (widget.view, widget.filled) == ("grid", true_answers(one.page))


def test_an_interrupt_while_choosing_loses_nothing(tmp_path, monkeypatch):
    one = rounds(tmp_path)
    ask(one, how="grid")
    ask(one, place=one.record.questions["page"].max())
    widget, place = LabelWidget(one), one.place
    given = true_answers(one.page)
    with monkeypatch.context() as patch:
        patch.setattr(one, "_pages", raising(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            take(widget, place, *given)
    assert (widget.view, widget.place) == ("done", place + 1)  # takes `back`, unlike "wait"
    assert widget.question.startswith("Choosing stopped; all answers are saved.")
    take(widget, place + 1, "back")
    assert widget.filled == given
    take(widget, place, *given)
    assert (widget.view, widget.place) == ("grid", place + 1)


def test_features_are_kept_while_the_images_stay_the_same(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(asking, "features", lambda images: calls.append(len(images)) or FEATURES)
    for pixels in (PIXELS, PIXELS.copy(), PIXELS[:5]):
        np.testing.assert_array_equal(features_of(pixels, tmp_path), FEATURES)
    assert calls == [MANY, 5]


def test_disagreements_are_settled_in_order_which_chosen_images_do_not_allow(tmp_path):
    one = rounds(tmp_path, ["hat"], settle_csv="both.csv")
    assert (one.how, asked(one)) == ("key", (0, "hat"))
    assert one.progress().startswith("0 of 300 answered")
    ask(rounds(tmp_path), number=2)
    assert "order: chosen" in complaint(rounds, tmp_path, settle_csv="both.csv")
