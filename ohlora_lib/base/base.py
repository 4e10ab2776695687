"""The base StyleGAN of a study: shipped with the package, read from files, or trained here.

Axes: H image height.
"""

import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ohlora_lib.base.training import BaseSettings, BaseTrainer, DiscriminatorTrainer
from ohlora_lib.io.disk import write_atomic
from ohlora_lib.io.images import Images, grid_image, open_store, save_png
from ohlora_lib.io.weights import load_discriminator, load_generator, save_weights
from ohlora_lib.nets import Discriminator, Generator, stylegan2
from ohlora_lib.nets.samples import draw_latents, to_uint8
from ohlora_lib.nets.style_generator import StyleGenerator
from ohlora_lib.population.faces.faces import render_faces
from ohlora_lib.population.labels import save_table
from ohlora_lib.training.checkpoint import Pace, images_sha256, load_unchanged, tensors_sha256
from ohlora_lib.training.losses import check_finite
from ohlora_lib.training.stopping import stop_on_interrupt

NETS = ("generator", "discriminator")


@dataclass(frozen=True)
class Base:
    """A generator (averaged weights) and the discriminator it was trained against."""

    generator: StyleGenerator
    discriminator: Discriminator


def load_base(folder: Path | str) -> Base:
    """Reads `generator.safetensors` and `discriminator.safetensors` from a folder."""
    generator, discriminator = (Path(folder) / f"{name}.safetensors" for name in NETS)
    return Base(load_generator(generator), load_discriminator(discriminator))


def copy_shipped(folder: Path, *, keep: bool = False) -> str:
    """Copies the shipped networks to a folder unless `keep` is set, and returns their card."""
    assets = files("ohlora_lib") / "assets"
    for name in () if keep else NETS:
        data = (assets / f"base64-{name}.safetensors").read_bytes()
        write_atomic(folder / f"{name}.safetensors", data)
    return (assets / "base64-card.md").read_text(encoding="utf-8")


def import_base(folder: Path, generator_file: Path, discriminator_file: Path) -> str:
    """Saves weights from files as a base and names the files in a sentence.

    Both may be the same file. ValueError if a file cannot be read or lacks its network, or if
    resolution or number of properties differ.
    """
    generator = load_generator(generator_file)
    discriminator = load_discriminator(discriminator_file)
    for name in ("image_px", "num_properties"):
        ours, theirs = getattr(generator, name), getattr(discriminator, name)
        if ours != theirs:
            raise ValueError(
                f"{discriminator_file}: its {name} is {theirs}, but {generator_file} has {ours}. "
                f"Give the discriminator that was trained with this generator."
            )
    _save(generator, discriminator, folder)
    names = dict.fromkeys((generator_file.name, discriminator_file.name))
    return f"Weights of {' and '.join(names)}, unchanged."


def with_new_discriminator(generator_file: Path) -> Base:
    """Reads a generator and adds an untrained discriminator from torch's global random state.

    The discriminator has the generator's resolution, channels and clamp, and takes no scores.
    """
    net = load_generator(generator_file)
    if isinstance(net, stylegan2.Generator):
        sizes = {"channel_base": net.channel_base, "channel_max": net.channel_max}
        discriminator = stylegan2.Discriminator(net.image_px, conv_clamp=net.conv_clamp, **sizes)
        return Base(net, discriminator)
    sizes = {"fmaps_base": net.fmaps_base, "fmaps_max": net.fmaps_max}
    return Base(net, Discriminator(net.image_px, **sizes))


def _save(generator: StyleGenerator, discriminator: Discriminator, folder: Path) -> None:
    for name, net in zip(NETS, (generator, discriminator), strict=True):
        save_weights(net, folder / f"{name}.safetensors")


def training_images(
    population: Path | None, *, count: int, seed: int, image_px: int
) -> np.ndarray:
    """Returns the images to train a base on, uint8 (N, H, H, 3), with H = `image_px`.

    Reads them from a population's run folder; ValueError if their size differs. If `population` is
    None, draws `count` faces from index 100,000 on, which no smaller population contains.
    """
    if population is None:
        return render_faces(range(100_000, 100_000 + count), seed=seed, image_px=image_px)
    images = open_store(population / "images" / "images.npy")
    if images.shape[1] != image_px:
        raise ValueError(
            f"{population}: its images have {images.shape[1]} px, but image_px is {image_px}. "
            f"Set the same image_px in stage 1, or use a base of {images.shape[1]} px."
        )
    return images


def new_nets(
    image_px: int,
    *,
    z_dim: int,
    w_dim: int,
    num_properties: int,
    fmaps_base: int,
    fmaps_max: int,
    architecture: str = "stylegan1",
) -> Base:
    """Creates untrained networks, `stylegan1` or `stylegan2`, from torch's global random state.

    A StyleGAN2 takes no property scores: `num_properties` is ignored.
    """
    if architecture == "stylegan2":
        both = {"channel_base": fmaps_base, "channel_max": fmaps_max}
        generator = stylegan2.Generator(image_px, z_dim=z_dim, w_dim=w_dim, **both)
        return Base(generator, stylegan2.Discriminator(image_px, **both))
    both = {"num_properties": num_properties, "fmaps_base": fmaps_base, "fmaps_max": fmaps_max}
    generator = Generator(image_px, z_dim=z_dim, w_dim=w_dim, **both)
    return Base(generator, Discriminator(image_px, **both))


class BaseRun:
    """Trains one base in a run folder; resumes from the folder's checkpoint.

    Args:
        folder: Run folder, which receives `checkpoints/`, `images/`, `base_log.csv` and weights.
        nets: Untrained networks.
        images: Real images, uint8, shape (N, H, H, 3), on the device to train on.
        keep_generator: Whether the generator stays as it is, and only the discriminator trains.

    Raises:
        ValueError: If settings, networks or images differ from the checkpoint's; names them.
    """

    def __init__(
        self,
        folder: Path,
        nets: Base,
        images: Images,
        settings: BaseSettings,
        *,
        keep_generator: bool = False,
        checkpoint_minutes: float = 10.0,
    ) -> None:
        self.folder, self.settings, self.pace = folder, settings, Pace(checkpoint_minutes)
        self.state_path = folder / "checkpoints" / "state.pt"
        self.facts = {**vars(settings), "device": images.device.type, **nets.generator.sizes}
        self.facts["images_sha256"] = images_sha256(images)
        trainer = BaseTrainer
        if keep_generator:
            trainer = DiscriminatorTrainer
            self.facts["generator_sha256"] = tensors_sha256(nets.generator.state_dict())
        ours = (net.to(images.device) for net in (nets.generator, nets.discriminator))
        self.trainer = trainer(*ours, images, settings)
        if state := load_unchanged(self.state_path, self.facts):
            self.trainer.load(state)

    def train(self, every_kimg: float) -> pd.DataFrame:
        """Trains to the end, writes the weights and returns the log: kimg, d_loss, g_loss, lod.

        With `keep_generator`, the log has no g_loss and no lod.

        Raises:
            KeyboardInterrupt: If a stop was requested; the state is saved first.
            NotFiniteError: If a reported loss is NaN or infinite; the last checkpoint stays.
        """
        trainer, total_kimg = self.trainer, self.settings.total_kimg
        with stop_on_interrupt() as asked:
            while trainer.kimg < total_kimg and not asked:
                before, row = trainer.kimg, trainer.step()
                # Whole multiples: a resumed run reports at the same steps as an uninterrupted one.
                every = [math.floor(kimg / every_kimg + 1e-9) for kimg in (before, trainer.kimg)]
                if trainer.kimg >= total_kimg or every[0] < every[1]:
                    self._report({name: float(value) for name, value in row.items()})
                if asked or self.pace.due():
                    self.pace.save(self.state_path, trainer.state(), self.facts)
        if trainer.kimg < total_kimg:
            raise KeyboardInterrupt(
                f"stopped and saved at {trainer.kimg:.2f} kimg; the next start resumes"
            )
        _save(trainer.average, trainer.discriminator, self.folder)
        return pd.DataFrame(trainer.rows)

    def _report(self, row: dict[str, float]) -> None:
        check_finite(row)
        self.trainer.rows.append(row)
        save_table(self.folder / "base_log.csv", pd.DataFrame(self.trainer.rows))
        kimg = self.trainer.kimg
        path = self.folder / "images" / f"samples-{round(kimg):05d}kimg.png"
        save_png(path, grid_image(_preview(self.trainer)))
        # Saved last: a run that resumes from it needs the files written above.
        if self.pace.due(epoch_ended=True) or kimg >= self.settings.total_kimg:
            self.pace.save(self.state_path, self.trainer.state(), self.facts)
        losses = " ".join(f"{name} {v:.3f}" for name, v in row.items() if name.endswith("_loss"))
        print(f"{kimg:.2f} of {self.settings.total_kimg:g} kimg, {losses}", flush=True)  # noqa: T201


@torch.no_grad()
def _preview(trainer: BaseTrainer, count: int = 32) -> np.ndarray:
    """Images of fixed latents at the current level of detail, uint8 (N, H, H, 3)."""
    net = trainer.average
    w = net.styles(*draw_latents(net, count, seed=0)).w  # (N, W)
    wp = w.unsqueeze(1).expand(-1, 2 * net.synthesis.num_blocks, -1)  # (N, L, W)
    return to_uint8(net.synthesis(wp, "fixed", float(int(trainer.lod)))).cpu().numpy()
