"""Benchmark cases in two implementations. Axes: N images, B batch, H image height."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from benchmarks import plain
from ohlora_lib.base.base import new_nets
from ohlora_lib.finetune.loop import FineTuner, FinetuneSettings
from ohlora_lib.finetune.recipe import RECIPES, StepRule
from ohlora_lib.nets import PropertyCNN
from ohlora_lib.nets.samples import draw_latents, sample_images, to_signed, to_uint8
from ohlora_lib.nets.style_generator import StyleGenerator
from ohlora_lib.properties.ensemble import Ensemble
from ohlora_lib.properties.lesson import CNNSettings, Lesson
from ohlora_lib.properties.published import train_epoch

PROPERTIES = ("gender", "quality", "age", "glass")
ONE_UPDATE = replace(  # v9 with one update per network: every step does the same work
    RECIPES["v9"], discriminator_rule=StepRule(), generator_rule=StepRule()
)


@dataclass(frozen=True)
class Sizes:
    """How much work a case does."""

    name: str
    image_px: int
    fmaps_base: int
    fmaps_max: int
    width: int  # of latents and styles
    wide_dim: int
    cnn_width: float
    batch: int = 8
    samples: int = 100
    folds: int = 5  # CNNs per property: 20 in total
    cnn_images: int = 160  # images per epoch of a property CNN
    rounds: int = 5
    architecture: str = "stylegan1"


SMALL = Sizes("64 px", 64, 8192, 128, 128, 512, 0.25)
PUBLISHED = Sizes(  # a quarter of an evaluation's samples; all take the plain way minutes
    "256 px", 256, 16384, 512, 512, 2048, 1.0, samples=25, cnn_images=48, rounds=1
)
QUICK = Sizes("32 px", 32, 512, 16, 64, 64, 0.125, 4, 4, 2, 8, 1)
SMALL_2 = replace(  # as in params/stylegan2
    SMALL, name="StyleGAN2 64 px", fmaps_base=1024, fmaps_max=96, architecture="stylegan2"
)
PUBLISHED_2 = replace(PUBLISHED, name="StyleGAN2 256 px", architecture="stylegan2")
QUICK_2 = replace(QUICK, name="StyleGAN2 32 px", architecture="stylegan2")


@dataclass(frozen=True)
class Case:
    """One piece of work in two implementations."""

    name: str
    ours: Callable[[], object]
    plain: Callable[[], object]
    difference: str  # what the plain implementation does differently
    rounds: int = 1


# ---- training -----------------------------------------------------------------------------------


def new_tuner(
    sizes: Sizes,
    device: torch.device,
    precision: str,
    *,
    r1_gamma: float = 10.0,
    kind: type[FineTuner] = FineTuner,
) -> FineTuner:
    """A fine-tuning run of untrained networks on noise; speed does not depend on the weights."""
    torch.manual_seed(0)
    side, widths = sizes.image_px, {"z_dim": 512, "w_dim": sizes.width, "num_properties": 7}
    shape = {"fmaps_base": sizes.fmaps_base, "fmaps_max": sizes.fmaps_max}
    base = new_nets(side, **widths, **shape, architecture=sizes.architecture)
    generator = base.generator.split(sizes.wide_dim, torch.default_generator).to(device)
    discriminator = base.discriminator.to(device)
    images = torch.randint(256, (sizes.batch, side, side, 3), dtype=torch.uint8)  # (N, H, H, 3)
    settings = FinetuneSettings(batch=sizes.batch, precision=precision, r1_gamma=r1_gamma)
    nets = (generator, discriminator, images.to(device))
    return kind(*nets, ONE_UPDATE, settings)


def plain_tuner(sizes: Sizes, device: torch.device, *, r1_gamma: float = 10.0) -> plain.PlainTuner:
    """The same fine-tuning in the plain implementation."""
    options = {"r1_gamma": r1_gamma, "kind": plain.PlainTuner}
    return new_tuner(sizes, device, "float32", **options).make_plain()


def training_cases(sizes: Sizes, device: torch.device, precision: str) -> Iterator[Case]:
    """A whole step of v9, and each network's update alone."""
    for r1_gamma, which in ((10.0, "R1"), (0.0, "no R1")):
        ours = new_tuner(sizes, device, precision, r1_gamma=r1_gamma)
        tuners = (ours, plain_tuner(sizes, device, r1_gamma=r1_gamma))
        name = f"v9 step, batch {sizes.batch}, {sizes.name}, {which}"
        yield _training_case(name, "train_batch", tuners, sizes)
        yield _training_case(
            f"update of D, {sizes.name}, {which}", "update_discriminator", tuners, sizes
        )
    yield _training_case(f"update of G, {sizes.name}", "update_generator", tuners, sizes)


def _training_case(
    name: str, work: str, tuners: tuple[FineTuner, FineTuner], sizes: Sizes
) -> Case:
    """One method of both tuners on the same batch."""
    real, words = to_signed(tuners[0].images), "one operation after another, G's graph kept"
    ours, theirs = (partial(getattr(tuner, work), real) for tuner in tuners)
    words = f"float32, default layout, {words} in D's update"
    return Case(name, ours, theirs, words, sizes.rounds)


# ---- evaluation ---------------------------------------------------------------------------------


@torch.no_grad()
def plain_images(generator: StyleGenerator, count: int) -> Tensor:
    """Random samples, uint8 (N, H, H, 3), drawn in one batch by the plain implementation."""
    return to_uint8(plain.draw(generator, *draw_latents(generator, count, seed=0)))


def evaluation_cases(
    sizes: Sizes, device: torch.device, precision: str, folder: Path
) -> Iterator[Case]:
    """Generation alone, and generation with scoring: 100 samples, 20 CNNs."""
    ours = new_tuner(sizes, device, precision).generator.eval()
    theirs = plain_tuner(sizes, device).generator.eval()
    count, batch = sizes.samples, min(sizes.samples, 25)
    yield Case(
        f"generating {batch} images, {sizes.name}",
        lambda: list(sample_images(ours, batch, seed=0, batch=batch, precision=precision)),
        lambda: plain_images(theirs, batch),
        "float32, default layout, one operation after another; all images at once",
        sizes.rounds,
    )
    cnn = {"image_px": sizes.image_px, "width": sizes.cnn_width}
    nets = {prop: [PropertyCNN(prop, **cnn) for _ in range(sizes.folds)] for prop in PROPERTIES}
    ensemble = Ensemble(nets, precision=precision).to(device)

    def evaluate() -> Tensor:
        draws = sample_images(ours, count, seed=0, batch=count, precision=precision)
        return torch.cat([ensemble.scores(images) for images in draws]).mean(0).cpu()

    yield Case(
        f"evaluation: {count} samples, {len(PROPERTIES) * sizes.folds} CNNs, {sizes.name}",
        evaluate,
        lambda: plain.evaluate(theirs, nets, count, folder),
        "float32, one image at a time through JPEG files, one CNN after another",
    )


def cnn_cases(sizes: Sizes, device: torch.device, precision: str, folder: Path) -> Iterator[Case]:
    """One epoch of a property CNN."""
    count, side = sizes.cnn_images, sizes.image_px
    images = torch.randint(256, (count, side, side, 3), dtype=torch.uint8)
    labels = torch.randint(2, (count, 1)).float().to(device)  # (N, 1)
    files = [folder / f"cnn-{k:06d}.jpg" for k in range(count)]
    for path, pixels in zip(files, images, strict=True):
        Image.fromarray(pixels.numpy()).save(path, quality=95)
    nets = [PropertyCNN("gender", image_px=side, width=sizes.cnn_width) for _ in range(2)]
    mine, theirs = nets[0].to(device, memory_format=torch.channels_last), nets[1].to(device)
    optimizers = [torch.optim.AdamW(net.parameters(), lr=1e-5) for net in (mine, theirs)]
    settings = CNNSettings(architecture="published", batch=16, mirror=False, precision=precision)
    lesson = Lesson(images.to(device), labels.cpu().numpy(), ("gender",), settings)
    order = torch.Generator()
    rows = torch.arange(count, device=device)
    yield Case(
        f"epoch of a property CNN, {count} images, {sizes.name}",
        lambda: train_epoch(mine, optimizers[0], lesson, rows, order),
        lambda: plain.train_epoch(theirs, optimizers[1], files, labels, settings.batch),
        "float32, default layout, images read from JPEG files every epoch",
        sizes.rounds,
    )


def all_cases(sizes: Sizes, device: torch.device, precision: str) -> Iterator[Case]:
    """All cases of one size, in turn."""
    yield from training_cases(sizes, device, precision)
    with tempfile.TemporaryDirectory() as folder:
        yield from evaluation_cases(sizes, device, precision, Path(folder))
        if sizes.architecture == "stylegan1":  # property CNNs are the same beside either
            yield from cnn_cases(sizes, device, precision, Path(folder))
