"""Explores latents by hand: sliders, images before and after, scores, saved latents, films.

Axes: L style layers, W style vector, H image height.
"""

import html
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import ipywidgets as iw
import numpy as np
import pandas as pd
import torch
from imageio.v2 import get_writer
from pydantic import BaseModel, Field
from torch import Tensor

from ohlora_lib.base.base import load_base
from ohlora_lib.io.disk import atomic_path, write_atomic
from ohlora_lib.io.images import enlarged, save_png, to_png
from ohlora_lib.io.pictures import open_image
from ohlora_lib.io.weights import load_generator
from ohlora_lib.nets.samples import draw_latents, to_uint8
from ohlora_lib.nets.style_generator import StyleGenerator
from ohlora_lib.properties.ensemble import Ensemble
from ohlora_lib.report.tables import grids_over_time
from ohlora_lib.study.look import Meanings, meaning_of
from ohlora_lib.study.records import check_input, project_root, read_config

MOST_SEED = 10**6
SIDE_PX = 256  # images are shown at least this large
WALK_FRAMES = 24  # frames from one seed of a walk to the next
GRID_FRAMES = 6  # frames per grid of a training run


class Latent(BaseModel, frozen=True, strict=True):
    """All that determines an image besides the generator; descriptions label the controls."""

    seed: int = Field(0, ge=0, le=MOST_SEED, description="seed")  # of z and property scores
    other_seed: int = Field(1000, ge=0, le=MOST_SEED, description="second seed")
    way: float = Field(0.0, ge=0, le=1, description="toward second")  # 0 to 1, in style space
    mix_from: int = Field(-1, ge=-1, description="second's style from")  # layer; -1: no mixing
    psi: float = Field(1.0, ge=0, le=2, description="psi")  # truncation; 0 gives the mean w
    noise_seed: int = Field(-1, ge=-1, le=MOST_SEED, description="noise (-1: stored)")


@dataclass(frozen=True)
class View:
    """Images and scores of one latent, from every generator."""

    images: dict[str, np.ndarray]  # uint8, (H, H, 3)
    scores: pd.DataFrame  # one row per generator, one column per property; empty without CNNs
    seconds: float


class Explorer:
    """Draws one latent with several generators, and scores the images if given an ensemble.

    The generators, keyed by names such as before and after, share one latent width.
    """

    def __init__(
        self, generators: Mapping[str, StyleGenerator], ensemble: Ensemble | None = None
    ) -> None:
        self.generators = {name: net.eval() for name, net in generators.items()}
        self.ensemble = ensemble
        self.layers = min(2 * net.synthesis.num_blocks for net in self.generators.values())

    @torch.no_grad()
    def view(self, latent: Latent) -> View:
        """Draws and scores a latent."""
        began = time.perf_counter()
        drawn = {name: to_uint8(self._draw(net, latent)) for name, net in self.generators.items()}
        scores = pd.DataFrame(index=list(drawn))
        if self.ensemble:
            values = self.ensemble.scores(torch.cat(list(drawn.values()))).float().cpu().numpy()
            scores = pd.DataFrame(values, index=list(drawn), columns=self.ensemble.properties)
        images = {name: batch[0].cpu().numpy() for name, batch in drawn.items()}
        return View(images, scores, time.perf_counter() - began)

    def _draw(self, net: StyleGenerator, latent: Latent) -> Tensor:
        latents = (draw_latents(net, 1, seed=s) for s in (latent.seed, latent.other_seed))
        first, second = (net.styles(*drawn).w for drawn in latents)  # (1, W)
        both = torch.cat([first.lerp(second, latent.way), second])
        layers = 2 * net.synthesis.num_blocks
        wp = net.truncation(both, layers, latent.psi, self.layers)  # (2, L, W)
        styles = wp[:1].clone()
        if latent.mix_from >= 0:
            styles[:, latent.mix_from :] = wp[1:, latent.mix_from :]
        if latent.noise_seed < 0:
            return net.synthesis(styles, "fixed")
        with torch.random.fork_rng():
            torch.manual_seed(latent.noise_seed)
            return net.synthesis(styles, "random")


def side_by_side(view: View) -> np.ndarray:
    """Joins the images of all generators, uint8 (H, generators * H, 3)."""
    return np.concatenate(list(view.images.values()), axis=1)


class ExploreWidget(iw.VBox):
    """Redraws as a slider moves; saves latents (`latent-NNN.json`) and images in a folder.

    `meaning` explains scores of 0 and 1 for each property.
    """

    def __init__(self, explorer: Explorer, folder: Path, meaning: Meanings) -> None:
        self.explorer, self.folder, self.meaning = explorer, folder, meaning
        schema = Latent.model_json_schema()["properties"]
        schema["mix_from"]["maximum"] = explorer.layers - 1
        self.controls = {name: _control(**facts) for name, facts in schema.items()}
        for control in self.controls.values():
            control.observe(lambda _: self.draw(), "value")
        self.scores, self.drawn, self.said = iw.HTML(), iw.Label(), iw.Label()
        self.saved = iw.Dropdown(description="saved", layout={"width": "18em"})
        self._list_saved()
        names = explorer.generators
        self.pictures = {name: iw.Image(format="png", width=SIDE_PX) for name in names}
        titles = {name: iw.HTML(f"<b>{html.escape(name)}</b>") for name in names}
        columns = iw.HBox([iw.VBox([titles[name], self.pictures[name]]) for name in names])
        acts = {"another seed": self.another, "save": self.save, "load": self.load}
        buttons = [iw.Button(description=text) for text in acts]
        for button in buttons:
            button.on_click(lambda clicked: acts[clicked.description]())
        row = iw.HBox([*buttons, self.saved])
        super().__init__(
            [columns, self.scores, *self.controls.values(), self.drawn, row, self.said]
        )
        self.add_class("ohlora-explorer")
        self.draw()

    @property
    def latent(self) -> Latent:
        """The latent set by the controls."""
        return Latent(**{name: control.value for name, control in self.controls.items()})

    def draw(self) -> View:
        """Draws and shows the latent set by the controls."""
        view = self.explorer.view(self.latent)
        for name, pixels in view.images.items():
            self.pictures[name].value = to_png(enlarged(pixels, SIDE_PX))
        table = view.scores.map("{:.2f}".format)
        table.loc["meaning"] = [meaning_of(prop, self.meaning) for prop in table]
        self.scores.value = table.to_html(border=0) if view.scores.size else ""
        self.drawn.value = f"Drawn and scored in {1000 * view.seconds:.0f} ms."
        return view

    def another(self) -> None:
        """Advances to the next seed."""
        self.controls["seed"].value = (self.controls["seed"].value + 1) % MOST_SEED

    def save(self) -> None:
        """Saves the latent as JSON, which `load` reads, and its images next to it as PNG."""
        found = " ".join(path.name for path in self.folder.glob("latent-*.*"))
        number = 1 + max(map(int, re.findall(r"latent-(\d+)\.", found)), default=0)
        path, view = self.folder / f"latent-{number:03d}.json", self.explorer.view(self.latent)
        save_png(path.with_suffix(".png"), side_by_side(view))
        facts = self.latent.model_dump() | {"generators": list(view.images)}
        facts["scores"] = json.loads(view.scores.to_json(orient="index", double_precision=4))
        write_atomic(path, json.dumps(facts, indent=2) + "\n")
        self._list_saved()
        self.saved.value = path.name
        self.said.value = f"Saved {path.name} and its image."

    def load(self) -> None:
        """Sets the controls from the chosen file."""
        if not self.saved.value:
            self.said.value = "Choose a saved latent first."
            return
        latent = Latent.model_validate_json((self.folder / self.saved.value).read_text("utf-8"))
        for field, value in latent.model_dump().items():
            self.controls[field].value = value
        self.said.value = f"Loaded {self.saved.value}."

    def _list_saved(self) -> None:
        self.saved.options = sorted(path.name for path in self.folder.glob("latent-*.json"))


def _control(
    *, type: str, default: float, minimum: float, maximum: float, description: str, **_: Any
) -> iw.Widget:
    """Builds a control from a field's JSON schema: a box for a seed, otherwise a slider."""
    kind = iw.FloatSlider if type == "number" else iw.IntSlider
    return (iw.BoundedIntText if maximum == MOST_SEED else kind)(
        value=default, min=minimum, max=maximum, step=0.02 if type == "number" else 1,
        description=description, style={"description_width": "12em"}, layout={"width": "34em"},
    )  # fmt: skip


def explorer_of(folder: Path) -> Explorer:
    """Opens base and result of a fine-tuning run; ValueError if one is missing or unfinished."""
    named = str(read_config(folder).get("base_run", ""))
    before = load_base(check_input("base_run", named, project_root())).generator
    return Explorer({"before": before, "after": load_generator(folder / "generator.safetensors")})


def latent_walk(explorer: Explorer, seeds: Sequence[int]) -> Iterator[np.ndarray]:
    """Walks through two or more seeds in style space, `WALK_FRAMES` each, and back to the first.

    Yields frames of all generators, uint8 (H, generators * H, 3).
    """
    for seed, other in pairwise([*seeds, seeds[0]]):
        for step in range(WALK_FRAMES):
            way = (1 - np.cos(np.pi * step / WALK_FRAMES)) / 2  # slow near the seeds
            yield side_by_side(explorer.view(Latent(seed=seed, other_seed=other, way=float(way))))


def training_film(folder: Path) -> Iterator[np.ndarray]:
    """Yields a fine-tuning run's grids of the same latents in order, uint8 (H, W, 3).

    Raises ValueError if its run folder is missing or holds no grids, or one is damaged.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder. Give the run folder of a fine-tuning.")
    grids = grids_over_time(folder, most=10**6).values()
    if not grids:
        raise ValueError(f"{folder}: no grids (images/fixed-*.png); give a run of stage 5")
    for path in grids:
        with open_image(path) as picture:
            frame = np.asarray(picture.convert("RGB"))
        yield from [frame] * GRID_FRAMES


def write_film(frames: Iterable[np.ndarray], path: Path, *, fps: int) -> int:
    """Writes equally sized frames, uint8 (H, W, 3), as a film; returns their number.

    Raises ValueError if the path ends in neither .mp4 nor .webp, or `ohlora[video]`, which encodes
    MP4, is not installed.
    """
    webp = {"duration": round(1000 / fps), "loop": 0, "quality": 80}
    kinds = {".webp": webp, ".mp4": {"fps": fps, "macro_block_size": 2}}  # H.264 needs even sides
    if path.suffix not in kinds:
        raise ValueError(f"{path}: choose a name that ends in .mp4 or .webp")
    count = 0
    with atomic_path(path) as temporary, get_writer(temporary, **kinds[path.suffix]) as writer:
        for count, frame in enumerate(frames, start=1):  # noqa: B007
            writer.append_data(np.asarray(enlarged(frame, SIDE_PX)))
    return count
