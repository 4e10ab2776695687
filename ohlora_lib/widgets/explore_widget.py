"""The explorer at the screen: sliders for a latent, its pictures before and after, its scores."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as iw
import numpy as np
from PIL import Image

from ohlora_lib.study.words import MEANING, Meanings, meaning_of
from ohlora_lib.widgets.explorer import MOST_SEED, Explorer, Latent, View, load_latent

SIDE_PX = 256  # pictures are shown at least this large


class ExploreWidget(iw.VBox):
    """Redraws as a slider moves; keeps pictures and latents in a folder.

    Args:
        explorer: Draws and scores.
        folder: Gets `latent-NNN.png` and `.json`.
        meaning: What scores of 0 and 1 of a property mean.
    """

    def __init__(
        self,
        explorer: Explorer,
        folder: Path,
        meaning: Meanings = MEANING,
    ) -> None:
        self.explorer, self.folder, self.meaning = explorer, folder, meaning
        last = explorer.layers - 1
        wide = {"style": {"description_width": "12em"}, "layout": {"width": "34em"}}
        self.controls: dict[str, iw.Widget] = {
            "seed": iw.BoundedIntText(0, 0, MOST_SEED, description="seed", **wide),
            "other_seed": iw.BoundedIntText(1000, 0, MOST_SEED, description="second seed", **wide),
            "way": iw.FloatSlider(0, min=0, max=1, step=0.02, description="toward second", **wide),
            "mix_from": iw.IntSlider(
                -1, min=-1, max=last, description="second's style from", **wide
            ),
            "psi": iw.FloatSlider(1, min=0, max=2, step=0.05, description="psi", **wide),
            "noise_seed": iw.BoundedIntText(
                -1, min=-1, max=MOST_SEED, description="noise (-1: stored)", **wide
            ),
        }
        self.pictures = {
            name: iw.Image(format="png", width=SIDE_PX) for name in explorer.generators
        }
        self.scores, self.said = iw.HTML(), iw.Label()
        self.saved = iw.Dropdown(description="saved", layout={"width": "18em"})
        self._list_saved()
        for control in self.controls.values():
            control.observe(lambda _: self.draw(), "value")
        columns = [
            iw.VBox([iw.HTML(f"<b>{html.escape(name)}</b>"), picture])
            for name, picture in self.pictures.items()
        ]
        buttons = [
            self._button("another seed", self.another),
            self._button("save", self.save),
            self.saved,
            self._button("load", self.load),
        ]
        super().__init__(
            [iw.HBox(columns), self.scores, *self.controls.values(), iw.HBox(buttons), self.said]
        )
        self.add_class("ohlora-explorer")
        self.draw()

    @staticmethod
    def _button(text: str, act: Callable[[], Any]) -> iw.Button:
        button = iw.Button(description=text)
        button.on_click(lambda _: act())
        return button

    @property
    def latent(self) -> Latent:
        """What the controls say."""
        return Latent(**{name: control.value for name, control in self.controls.items()})

    def draw(self) -> View:
        """Shows what the controls say."""
        view = self.explorer.view(self.latent)
        for name, pixels in view.images.items():
            self.pictures[name].value = png(pixels)
        table = view.scores.map("{:.2f}".format)
        table.loc["meaning"] = [meaning_of(prop, self.meaning) for prop in table]
        self.scores.value = table.to_html(border=0) if view.scores.size else ""
        self.said.value = f"Drawn and scored in {1000 * view.seconds:.0f} ms."
        return view

    def another(self) -> None:
        """Goes on to the next seed."""
        self.controls["seed"].value = (self.controls["seed"].value + 1) % MOST_SEED

    def save(self) -> None:
        """Keeps the pictures and the latent."""
        numbers = [re.fullmatch(r"latent-(\d+)", p.stem) for p in self.folder.glob("latent-*.*")]
        number = 1 + max((int(match[1]) for match in numbers if match), default=0)
        path = self.explorer.save(self.latent, self.folder, f"latent-{number:03d}")
        self._list_saved()
        self.saved.value = path.name
        self.said.value = f"Saved {path.name} and its picture."

    def load(self) -> None:
        """Sets the controls as the chosen file says."""
        if not self.saved.value:
            self.said.value = "Nothing is saved yet."
            return
        try:
            latent = load_latent(self.folder / self.saved.value)
            self._check(latent)
        except ValueError as error:
            self.said.value = str(error)
            return
        for name, control in self.controls.items():
            control.value = getattr(latent, name)
        self.said.value = f"Loaded {self.saved.value}."

    def _check(self, latent: Latent) -> None:
        """Raises ValueError if a control cannot show the value, as one of a larger generator."""
        for name, control in self.controls.items():
            value = getattr(latent, name)
            if not control.min <= value <= control.max:
                raise ValueError(f"{self.saved.value} is not loaded: {name} is {value}, here it "
                                 f"goes from {control.min} to {control.max}")  # fmt: skip

    def _list_saved(self) -> None:
        self.saved.options = sorted(path.name for path in self.folder.glob("latent-*.json"))


def png(pixels: np.ndarray) -> bytes:
    """An image, uint8 (H, H, 3), as PNG, enlarged where it is small."""
    picture = Image.fromarray(pixels)
    times = -(-SIDE_PX // picture.width)
    if times > 1:
        size = (picture.width * times, picture.height * times)
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, format="png", compress_level=1)
    return buffer.getvalue()
