"""The labelling widget: a `LabelSession` at the screen, answered by keys."""

from __future__ import annotations

import io
from importlib.resources import files
from typing import Any

import anywidget
import traitlets
from PIL import Image

from ohlora_lib.population.labelling import LabelSession
from ohlora_lib.study.words import MEANING, Meanings, meaning_of

ASSETS = files("ohlora_lib") / "assets"
LEAST_SIDE = 384  # smaller images are enlarged, pixels


class LabelWidget(anywidget.AnyWidget):
    """Asks the questions of a session; an answer is on the disk before the next image is shown.

    Args:
        session: What to ask, and where answers go.
        meaning: What 0 (no) and 1 (yes) of a property mean.
    """

    _esm = (ASSETS / "label_widget.js").read_text(encoding="utf-8")
    _css = (ASSETS / "label_widget.css").read_text(encoding="utf-8")
    image = traitlets.Bytes().tag(sync=True)  # PNG
    question = traitlets.Unicode().tag(sync=True)
    progress = traitlets.Unicode().tag(sync=True)
    place = traitlets.Int().tag(sync=True)  # number of the question
    done = traitlets.Bool().tag(sync=True)
    shown = traitlets.Int().tag(sync=True)  # counts up with every change

    def __init__(self, session: LabelSession, meaning: Meanings = MEANING) -> None:
        super().__init__()
        self.session, self.meaning = session, meaning
        self.on_msg(self._take)
        self._show()

    def _take(self, _: Any, content: dict[str, Any], __: Any) -> None:
        """Takes an answer from the page; one to a question that is past is left aside."""
        if content.get("place") != self.session.place:
            return
        if content["answer"] == "back":
            self.session.back()
        else:
            self.session.answer(content["answer"])
        self._show()

    def _show(self) -> None:
        question = self.session.question
        with self.hold_sync():
            self.done = question is None
            self.place = self.session.place
            self.progress = self.session.progress()
            self.question = "All answered. Thank you." if question is None else self._words()
            self.image = b"" if question is None else self._png()
            self.shown += 1

    def _words(self) -> str:
        prop = self.session.question.prop
        return f"{prop}: {meaning_of(prop, self.meaning)}"

    def _png(self) -> bytes:
        picture = Image.fromarray(self.session.image)
        times = -(-LEAST_SIDE // picture.width)
        if times > 1:
            size = (picture.width * times, picture.height * times)
            picture = picture.resize(size, Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        picture.save(buffer, format="png")
        return buffer.getvalue()
