"""Latents by hand: what generators draw of them, how that scores, pictures kept with a latent.

Axes: L style layers, W style vector, H image height.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ohlora_lib.io.disk import write_atomic
from ohlora_lib.io.images import save_png
from ohlora_lib.nets import Generator
from ohlora_lib.nets.samples import draw_latents, to_uint8
from ohlora_lib.properties.ensemble import Ensemble

MOST_SEED = 10**6


@dataclass(frozen=True)
class Latent:
    """All that a picture depends on, beside the generator."""

    seed: int = 0  # draws the latent and its property scores
    other_seed: int = 1000  # the same of the second one
    way: float = 0.0  # from the first style vector (0) to the second (1)
    mix_from: int = -1  # layers from this one on take the second's style; -1 for none
    psi: float = 1.0  # truncation of all layers: 1 keeps the styles, 0 gives the mean face
    noise_seed: int = -1  # draws the noise; -1 for the stored planes

    def __post_init__(self) -> None:
        limits = {
            "seed": (0, MOST_SEED), "other_seed": (0, MOST_SEED), "way": (0, 1),
            "mix_from": (-1, 17), "psi": (0, 2), "noise_seed": (-1, MOST_SEED),
        }  # fmt: skip
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            kind = int if isinstance(getattr(type(self), name), int) else (int, float)
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                raise ValueError(f"{name} is {value!r}; it must be a number from {low} to {high}")


@dataclass(frozen=True)
class View:
    """A latent as every generator draws it."""

    images: dict[str, np.ndarray]  # uint8, (H, H, 3)
    scores: pd.DataFrame  # a row a generator, a column a property; empty without CNNs
    seconds: float


class Explorer:
    """Draws one latent by several generators and scores the pictures.

    Args:
        generators: By what they are called, such as before and after; all of one latent width.
        ensemble: Scores the pictures; None for none.
    """

    def __init__(
        self, generators: Mapping[str, Generator], ensemble: Ensemble | None = None
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

    def _draw(self, net: Generator, latent: Latent) -> Tensor:
        first, second = (
            net.styles(*draw_latents(net, 1, seed=seed)).w
            for seed in (latent.seed, latent.other_seed)
        )  # (1, W) each
        both = torch.cat([first.lerp(second, latent.way), second])
        wp = net.truncation(
            both, 2 * net.synthesis.num_blocks, latent.psi, self.layers
        )  # (2, L, W)
        styles = wp[:1].clone()
        if latent.mix_from >= 0:
            styles[:, latent.mix_from :] = wp[1:, latent.mix_from :]
        if latent.noise_seed < 0:
            return net.synthesis(styles, "fixed")
        with torch.random.fork_rng():
            torch.manual_seed(latent.noise_seed)
            return net.synthesis(styles, "random")

    def save(self, latent: Latent, folder: Path, name: str) -> Path:
        """Writes the pictures side by side as PNG, and the latent as JSON beside them.

        Returns:
            The JSON file, which `load_latent` reads.
        """
        view = self.view(latent)
        save_png(folder / f"{name}.png", np.concatenate(list(view.images.values()), axis=1))
        facts = asdict(latent) | {"generators": list(view.images)}
        facts["scores"] = json.loads(view.scores.to_json(orient="index", double_precision=4))
        write_atomic(folder / f"{name}.json", json.dumps(facts, indent=2) + "\n")
        return folder / f"{name}.json"


def load_latent(path: Path) -> Latent:
    """Reads a latent that `Explorer.save` wrote.

    Raises:
        ValueError: If the file is missing, damaged, or its values are out of range; one line.
    """
    try:
        facts = json.loads(Path(path).read_text(encoding="utf-8"))
        return Latent(**{field.name: facts[field.name] for field in fields(Latent)})
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such latent") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a saved latent ({reason})") from error
