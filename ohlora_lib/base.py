"""The base StyleGAN of a study: the one shipped with the package, or one trained here.

Axes: H image height.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from ohlora_lib.base_training import BaseSettings, BaseTrainer, level_of_detail
from ohlora_lib.finetune.checkpoint import load_state, save_state
from ohlora_lib.images import grid_image, save_png, to_uint8
from ohlora_lib.labels import save_table
from ohlora_lib.nets import Discriminator, Generator
from ohlora_lib.selection import draw_latents
from ohlora_lib.weights import load_discriminator, load_generator, save_weights

NETS = ("generator", "discriminator")


@dataclass(frozen=True)
class Base:
    """A generator (averaged weights) and the discriminator it was trained against."""

    generator: Generator
    discriminator: Discriminator


def load_base(folder: Path | str) -> Base:
    """Reads `generator.safetensors` and `discriminator.safetensors` of a folder."""
    folder = Path(folder)
    generator = load_generator(folder / "generator.safetensors")
    return Base(generator, load_discriminator(folder / "discriminator.safetensors"))


def copy_shipped(folder: Path) -> str:
    """Copies the shipped base into a folder.

    Returns:
        Its card, Markdown.
    """
    with as_file(files("ohlora_lib") / "assets") as assets:
        for name in NETS:
            shutil.copyfile(assets / f"base64-{name}.safetensors", folder / f"{name}.safetensors")
        return (assets / "base64-card.md").read_text(encoding="utf-8")


def new_nets(
    image_px: int, *, z_dim: int, w_dim: int, num_properties: int, fmaps_base: int, fmaps_max: int
) -> Base:
    """Untrained networks of the given sizes; draws from torch's global random state."""
    sizes = {"fmaps_base": fmaps_base, "fmaps_max": fmaps_max, "num_properties": num_properties}
    generator = Generator(image_px, z_dim=z_dim, w_dim=w_dim, **sizes)
    return Base(generator, Discriminator(image_px, **sizes))


class BaseRun:
    """One base training in a folder: resumes from its checkpoint, reports as it goes.

    Args:
        folder: Run folder; gets `checkpoints/`, `images/`, `base_log.csv` and the weights.
        nets: Untrained networks.
        images: Real images, uint8, shape (N, H, H, 3), on the device to train on.
        settings: How to train.
    """

    def __init__(self, folder: Path, nets: Base, images: Tensor, settings: BaseSettings) -> None:
        self.folder = folder
        self.state_path = folder / "checkpoints" / "state.pt"
        generator, discriminator = (
            net.to(images.device) for net in (nets.generator, nets.discriminator)
        )
        self.trainer = BaseTrainer(generator, discriminator, images, settings)
        self.rows: list[dict[str, float]] = []
        if self.state_path.exists():
            state = load_state(self.state_path)
            self.trainer.load(state)
            self.rows = list(state["rows"])

    def train(self, every_kimg: float) -> pd.DataFrame:
        """Trains to the end and writes the weights.

        Returns:
            The log: kimg, d_loss, g_loss, lod, a row every so many kimg.
        """
        self.trainer.run(every_kimg, self._report)
        self.state_path.unlink(missing_ok=True)
        save_weights(self.trainer.average, self.folder / "generator.safetensors")
        save_weights(self.trainer.discriminator, self.folder / "discriminator.safetensors")
        return pd.DataFrame(self.rows)

    def _report(self, trainer: BaseTrainer, row: dict[str, float]) -> None:
        self.rows.append(row)
        save_state(self.state_path, trainer.state() | {"rows": self.rows})
        save_table(self.folder / "base_log.csv", pd.DataFrame(self.rows))
        path = self.folder / "images" / f"samples-{round(trainer.kimg):05d}kimg.png"
        save_png(path, grid_image(preview(trainer).cpu().numpy()))
        print(" ".join(f"{k} {v:.3f}" for k, v in row.items()), flush=True)  # noqa: T201


@torch.no_grad()
def preview(trainer: BaseTrainer, count: int = 32) -> Tensor:
    """The same latents at the present level of detail, averaged weights, uint8 (N, H, H, 3)."""
    net = trainer.average
    lod = level_of_detail(trainer.kimg, trainer.settings, net.image_px)
    w = net.styles(*draw_latents(net, count, seed=0)).w
    wp = w.unsqueeze(1).expand(-1, 2 * net.synthesis.num_blocks, -1)
    return to_uint8(net.synthesis(wp, "fixed", float(int(lod))))
