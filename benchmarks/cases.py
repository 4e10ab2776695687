"""Cases, each done our way and a plain way. Axes: N images, B batch, H image height."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from ohlora_lib.finetune.loop import FineTuner, FinetuneSettings
from ohlora_lib.finetune.losses import discriminator_loss, generator_loss
from ohlora_lib.finetune.recipe import RECIPES, StepRule
from ohlora_lib.images import to_signed, to_uint8
from ohlora_lib.nets import Discriminator, Generator, PropertyCNN
from ohlora_lib.property_ensemble import Ensemble
from ohlora_lib.selection import draw_latents, sample_images

PROPERTIES = ("gender", "quality", "age", "glass")
ONE_UPDATE = replace(  # v9, one update of each network: the same work every time
    RECIPES["v9"], discriminator_rule=StepRule(), generator_rule=StepRule()
)


@dataclass(frozen=True)
class Sizes:
    """How much work a case is."""

    image_px: int = 64
    fmaps_base: int = 8192
    fmaps_max: int = 128
    batch: int = 8
    samples: int = 100
    folds: int = 5  # CNNs a property: 20 in all
    cnn_width: float = 0.25


QUICK = Sizes(image_px=32, fmaps_base=512, fmaps_max=16, batch=4, samples=8, cnn_width=0.125)


@dataclass(frozen=True)
class Case:
    """One piece of work, done in two ways."""

    name: str
    ours: Callable[[], object]
    plain: Callable[[], object]
    difference: str  # what the plain way does otherwise


def new_tuner(sizes: Sizes, device: torch.device, precision: str) -> FineTuner:
    """A fine-tuning of untrained networks on noise: speed does not ask what is in them."""
    torch.manual_seed(0)
    side, shape = sizes.image_px, {"fmaps_base": sizes.fmaps_base, "fmaps_max": sizes.fmaps_max}
    generator = Generator(side, w_dim=128, wide_dim=512, **shape).to(device)
    discriminator = Discriminator(side, **shape).to(device)
    images = torch.randint(256, (sizes.batch, side, side, 3), dtype=torch.uint8)  # (N, H, H, 3)
    settings = FinetuneSettings(batch=sizes.batch, precision=precision)
    return FineTuner(generator, discriminator, images.to(device), ONE_UPDATE, settings)


def plain_tuner(sizes: Sizes, device: torch.device) -> FineTuner:
    """The same in float32 and in PyTorch's default memory layout."""
    tuner = new_tuner(sizes, device, "float32")
    for net in (tuner.generator, tuner.discriminator):
        net.to(memory_format=torch.contiguous_format)
    return tuner


def plain_step(tuner: FineTuner, real: torch.Tensor) -> tuple[float, float]:
    """The same updates with all gradients taken, those nobody uses included."""
    generator, discriminator = tuner.generator, tuner.discriminator
    real = real.contiguous().requires_grad_()  # (B, 3, H, H)
    fake = generator(tuner.latents(len(real)), noise="random")  # keeps its graph
    real_scores, fake_scores = discriminator(real), discriminator(fake)
    d_loss = discriminator_loss(real, real_scores, fake_scores, tuner.settings.r1_gamma)
    _plain_update(tuner, d_loss, tuner.d_optimizer)
    g_loss = generator_loss(discriminator(generator(tuner.latents(len(real)), noise="random")))
    _plain_update(tuner, g_loss, tuner.g_optimizer)
    return d_loss.item(), g_loss.item()


def _plain_update(tuner: FineTuner, loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    for net in (tuner.generator, tuner.discriminator):
        net.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


@torch.no_grad()
def plain_images(generator: Generator, count: int) -> torch.Tensor:
    """Random samples, uint8 (N, H, H, 3), in the format and layout the network has."""
    return to_uint8(generator(*draw_latents(generator, count, seed=0)))


def all_cases(sizes: Sizes, device: torch.device, precision: str) -> Iterator[Case]:
    """The cases, one after the other."""
    tuner, plain = new_tuner(sizes, device, precision), plain_tuner(sizes, device)
    yield Case(
        f"v9 training step, batch {sizes.batch}, {sizes.image_px} px",
        lambda: tuner.train_batch(to_signed(tuner.images)),
        lambda: plain_step(plain, to_signed(plain.images)),
        "float32, default layout, G's graph kept in D's update, gradients of frozen layers",
    )
    ours, theirs = tuner.generator.eval(), plain.generator.eval()
    drawing = {"seed": 0, "batch": sizes.samples, "precision": precision}
    yield Case(
        f"generating {sizes.samples} images",
        lambda: list(sample_images(ours, sizes.samples, **drawing)),
        lambda: plain_images(theirs, sizes.samples),
        "float32, default layout",
    )
    cnn = {"image_px": sizes.image_px, "width": sizes.cnn_width}
    nets = {prop: [PropertyCNN(prop, **cnn) for _ in range(sizes.folds)] for prop in PROPERTIES}
    ensemble = Ensemble(nets, precision=precision).to(device)
    images = plain_images(theirs, sizes.samples)
    yield Case(
        f"scoring {sizes.samples} images by {len(PROPERTIES) * sizes.folds} CNNs",
        lambda: ensemble.scores(images),
        lambda: torch.cat([ensemble.scores(image) for image in images.split(1)]),
        "one image at a time",
    )
