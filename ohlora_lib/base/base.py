"""The base StyleGAN of a study: shipped with the package, read from files, or trained here.

Axes: H image height.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ohlora_lib.base.training import BaseSettings, BaseTrainer, level_of_detail
from ohlora_lib.io.disk import write_atomic
from ohlora_lib.io.images import Images, grid_image, open_store, save_png
from ohlora_lib.io.weights import load_discriminator, load_generator, save_weights
from ohlora_lib.nets import Discriminator, Generator
from ohlora_lib.nets.samples import draw_latents, to_uint8
from ohlora_lib.population.faces.faces import render_faces
from ohlora_lib.population.labels import save_table
from ohlora_lib.training.checkpoint import (
    Pace,
    images_sha256,
    load_newest,
    random_states,
    set_random_states,
)
from ohlora_lib.training.losses import check_finite
from ohlora_lib.training.stopping import stop_on_interrupt

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


def copy_shipped(folder: Path, *, keep: bool = False) -> str:
    """Copies the shipped base into a folder.

    Args:
        folder: Run folder.
        keep: Whether the networks that are there stay.

    Returns:
        Its card, Markdown.
    """
    with as_file(files("ohlora_lib") / "assets") as assets:
        for name in () if keep else NETS:
            data = (assets / f"base64-{name}.safetensors").read_bytes()
            write_atomic(folder / f"{name}.safetensors", data)
        return (assets / "base64-card.md").read_text(encoding="utf-8")


def import_base(folder: Path, generator_file: Path, discriminator_file: Path) -> str:
    """Takes over published weights as a base; both networks may be in one file.

    Returns:
        What they are, a sentence.

    Raises:
        ValueError: If a file is unreadable, or the two do not fit each other; one line.
    """
    generator = load_generator(generator_file)
    discriminator = load_discriminator(discriminator_file)
    for name in ("image_px", "num_properties"):
        ours, theirs = getattr(generator, name), getattr(discriminator, name)
        if ours != theirs:
            raise ValueError(
                f"{discriminator_file}: its {name} is {theirs}, but that of {generator_file} is "
                f"{ours}. Give the discriminator that was trained with this generator."
            )
    save_weights(generator, folder / "generator.safetensors")
    save_weights(discriminator, folder / "discriminator.safetensors")
    return f"Weights of {generator_file.name} and {discriminator_file.name}, unchanged."


def training_images(
    population: Path | None, *, count: int, seed: int, image_px: int
) -> np.ndarray:
    """Images to train a base on, uint8 (N, H, H, 3): a population's, or built-in faces.

    Args:
        population: Run folder; None draws faces, others than a population of the same seed has.
        count: Faces drawn.
        seed: Which faces.
        image_px: Side H, pixels.

    Raises:
        ValueError: If the population's images have another size.
    """
    if population is None:
        return render_faces(range(100_000, 100_000 + count), seed=seed, image_px=image_px)
    images = open_store(population / "images" / "images.npy")
    if images.shape[1] != image_px:
        raise ValueError(
            f"{population}: its images have {images.shape[1]} px, but image_px is {image_px}. "
            f"Make both the same in the params files."
        )
    return images


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
        checkpoint_minutes: Longest time from one checkpoint to the next.

    Raises:
        ValueError: If the folder holds a checkpoint of a training with other settings, networks
            or images; names them.
    """

    def __init__(
        self,
        folder: Path,
        nets: Base,
        images: Images,
        settings: BaseSettings,
        *,
        checkpoint_minutes: float = 10.0,
    ) -> None:
        self.folder = folder
        self.state_path = folder / "checkpoints" / "state.pt"
        self.pace = Pace(checkpoint_minutes)
        self.facts = {**vars(settings), "device": images.device.type, **_sizes(nets.generator)}
        self.facts["images_sha256"] = images_sha256(images)
        generator, discriminator = (
            net.to(images.device) for net in (nets.generator, nets.discriminator)
        )
        self.trainer = BaseTrainer(generator, discriminator, images, settings)
        self.rows: list[dict[str, float]] = []
        state = load_newest(self.state_path, self.facts)
        if state is not None:
            self.trainer.load(state)
            self.rows = list(state["rows"])
            set_random_states(state["process_random"], images.device)
        self._write_log()

    def train(self, every_kimg: float) -> pd.DataFrame:
        """Trains to the end and writes the weights.

        Returns:
            The log: kimg, d_loss, g_loss, lod, a row every so many kimg.

        Raises:
            KeyboardInterrupt: If it was asked to stop; its state is saved.
            NotFiniteError: If a reported loss is NaN or infinite; the last checkpoint stays.
        """
        with stop_on_interrupt() as asked:

            def after_step(_: BaseTrainer) -> bool:
                if asked or self.pace.due():
                    self._save_state()
                return bool(asked)

            done = self.trainer.run(every_kimg, self._report, after_step)
        if not done:
            raise KeyboardInterrupt(
                f"stopped and saved at {self.trainer.kimg:.2f} kimg; the next start goes on"
            )
        save_weights(self.trainer.average, self.folder / "generator.safetensors")
        save_weights(self.trainer.discriminator, self.folder / "discriminator.safetensors")
        return pd.DataFrame(self.rows)

    def _save_state(self) -> None:
        state = {"rows": self.rows, "process_random": random_states(self.trainer.images.device)}
        self.pace.save(self.state_path, self.trainer.state() | state, self.facts)

    def _write_log(self) -> None:
        path = self.folder / "base_log.csv"
        if self.rows:
            save_table(path, pd.DataFrame(self.rows))
        else:
            path.unlink(missing_ok=True)

    def _report(self, trainer: BaseTrainer, row: dict[str, float]) -> None:
        check_finite(row)
        self.rows.append(row)
        self._write_log()
        path = self.folder / "images" / f"samples-{round(trainer.kimg):05d}kimg.png"
        save_png(path, grid_image(preview(trainer).cpu().numpy()))
        # Saved last: a run that resumes from it must find all files written above.
        if self.pace.due(epoch_ended=True) or trainer.kimg >= trainer.settings.total_kimg:
            self._save_state()
        print(" ".join(f"{k} {v:.3f}" for k, v in row.items()), flush=True)  # noqa: T201


def _sizes(generator: Generator) -> dict[str, int]:
    names = ("image_px", "z_dim", "w_dim", "num_properties", "fmaps_base", "fmaps_max")
    return {name: getattr(generator, name) for name in names}


@torch.no_grad()
def preview(trainer: BaseTrainer, count: int = 32) -> Tensor:
    """The same latents at the present level of detail, averaged weights, uint8 (N, H, H, 3)."""
    net = trainer.average
    lod = level_of_detail(trainer.kimg, trainer.settings, net.image_px)
    w = net.styles(*draw_latents(net, count, seed=0)).w
    wp = w.unsqueeze(1).expand(-1, 2 * net.synthesis.num_blocks, -1)
    return to_uint8(net.synthesis(wp, "fixed", float(int(lod))))
