"""The labelling widget: shows a `LabelSession` on screen and takes answers from the keyboard."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import anywidget
import traitlets

from ohlora_lib.io.images import enlarged, to_png
from ohlora_lib.population.labelling import LabelSession
from ohlora_lib.study.look import MEANING, Meanings, meaning_of

ASSETS = files("ohlora_lib") / "assets"
SIDE_PX = 384  # images are shown at least this large


class LabelWidget(anywidget.AnyWidget):
    """Asks the questions of a session; saves each answer before it shows the next image.

    `meaning` explains the labels 0 (no) and 1 (yes) of each property.
    """

    _esm = (ASSETS / "label_widget.js").read_text(encoding="utf-8")
    _css = (ASSETS / "label_widget.css").read_text(encoding="utf-8")
    image = traitlets.Bytes().tag(sync=True)  # PNG
    question = traitlets.Unicode().tag(sync=True)
    progress = traitlets.Unicode().tag(sync=True)
    place = traitlets.Int().tag(sync=True)  # index of the question
    done = traitlets.Bool().tag(sync=True)
    shown = traitlets.Int().tag(sync=True)  # increases with every update

    def __init__(self, session: LabelSession, meaning: Meanings = MEANING) -> None:
        super().__init__()
        self.session, self.meaning = session, meaning
        self.on_msg(self._take)
        self._show()

    def _take(self, _: Any, content: dict[str, Any], __: Any) -> None:
        """Takes an answer from the page; ignores one to an earlier question (a key held down)."""
        if content.get("place") != self.session.place:
            return
        if content["answer"] == "back":
            self.session.back()
        else:
            self.session.answer(content["answer"])
        self._show()

    def _show(self) -> None:
        question, image = self.session.question, b""
        words = "All questions answered. Thank you."
        if question is not None:
            words = f"{question.prop}: {meaning_of(question.prop, self.meaning)}"
            image = to_png(enlarged(self.session.images[question.img_no], SIDE_PX))
        with self.hold_sync():
            self.done, self.place = question is None, self.session.place
            self.question, self.image, self.progress = words, image, self.session.progress()
            self.shown += 1
