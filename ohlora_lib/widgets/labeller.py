"""The labelling widget: shows a `LabelSession` on screen and takes answers from the keyboard."""

from importlib.resources import files
from typing import Any

import anywidget
import traitlets
from PIL import Image

from ohlora_lib.io.images import enlarged, to_png
from ohlora_lib.population.labelling import LabelSession
from ohlora_lib.study.look import meaning_of

ASSETS = files("ohlora_lib") / "assets"
SIDE_PX = 384  # images are shown at least this large
TILE_PX = 160  # images on a page are sent at most this large
CHOOSING = "Choosing the next images ..."
STOPPED = "Choosing stopped; all answers are saved. Go back (b), or run the cell again."


class LabelWidget(anywidget.AnyWidget):
    """Asks the questions of a session; saves each answer before it shows the next image.

    A page of images is filled in with predictions; the person corrects and confirms it.
    """

    _esm = (ASSETS / "label_widget.js").read_text(encoding="utf-8")
    _css = (ASSETS / "label_widget.css").read_text(encoding="utf-8")
    images = traitlets.List(traitlets.Bytes()).tag(sync=True)  # PNG; one if asked by key
    filled = traitlets.List(traitlets.Unicode()).tag(sync=True)  # answers that a page shows
    words = traitlets.List(traitlets.Unicode(), ["no", "yes"]).tag(sync=True)  # of 0 and 1
    question = traitlets.Unicode().tag(sync=True)
    progress = traitlets.Unicode().tag(sync=True)
    notes = traitlets.List(traitlets.Unicode()).tag(sync=True)
    place = traitlets.Int().tag(sync=True)  # index of the page
    view = traitlets.Unicode("wait").tag(sync=True)  # key, grid, wait or done
    shown = traitlets.Int().tag(sync=True)  # increases with every update

    def __init__(self, session: LabelSession) -> None:
        super().__init__()
        self.session = session
        self.on_msg(self._take)
        self._show()

    def _take(self, _: Any, content: dict[str, Any], __: Any) -> None:
        """Takes answers from the page; ignores those to an earlier one (a key held down)."""
        if content.get("place") != self.session.place:
            return
        try:
            if content["answers"] == ["back"]:
                self.session.back()
            else:
                self.session.answer(*content["answers"])
        except OSError as error:  # the question stays open
            self.notes = [f"Not saved: {error}. Remove the cause, then answer again."]
        else:
            self._show()

    def _show(self) -> None:
        if self.session.must_choose:
            self._update("wait", CHOOSING)
            try:
                self.session.choose()
            except BaseException as error:  # also if the kernel is interrupted
                self._update("done", f"{STOPPED} ({type(error).__name__}: {error})")
                raise
        if (page := self.session.page) is None:
            self._update("done", "All questions answered. Thank you.")
            return
        session, prop = self.session, self.session.prop
        words = f"{prop}: {meaning_of(prop, session.config.meaning)}"
        pictures = [session.images[k] for k in page["img_no"]]
        if session.how == "grid":
            self._update("grid", words, map(_tile, pictures), session.filled_in())
        else:
            again = "Asked again, to check. " if session.how == "check" else ""
            self._update("key", again + words, (enlarged(pixels, SIDE_PX) for pixels in pictures))

    def _update(
        self, view: str, question: str, pictures: Any = (), filled: list[str] | None = None
    ) -> None:
        session = self.session
        with self.hold_sync():
            self.view, self.place, self.question = view, session.place, question
            self.images, self.filled = list(map(to_png, pictures)), filled or []
            self.words = list(session.config.meaning.get(session.prop, ("no", "yes")))
            self.progress, self.notes = session.progress(), session.notes()
            self.shown += 1


def _tile(pixels: Any) -> Image.Image:
    """A picture for a page, shrunk if it is large."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((TILE_PX, TILE_PX))
    return picture
