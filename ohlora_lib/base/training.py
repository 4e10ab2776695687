"""Trains a StyleGAN from scratch: the base that fine-tuning starts from.

Progressive growing, non-saturating logistic loss, lazy R1, style mixing, averaged weights.
Axes: N images of the population, B batch, H image height.
Source: Karras et al., "A Style-Based Generator Architecture for GANs", 2019, https://arxiv.org/abs/1812.04948;
lazy R1 is from "Analyzing and Improving the Image Quality of StyleGAN", 2020, https://arxiv.org/abs/1912.04958.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ohlora_lib.io.images import Images
from ohlora_lib.nets import Discriminator
from ohlora_lib.nets.compute import autocast
from ohlora_lib.nets.samples import to_signed
from ohlora_lib.nets.style_generator import StyleGenerator
from ohlora_lib.training.checkpoint import random_states, set_random_states
from ohlora_lib.training.losses import discriminator_loss, generator_loss


@dataclass(frozen=True)
class BaseSettings:
    """How a base is trained; one kimg is 1,000 real images shown."""

    total_kimg: float = 300.0
    grow_kimg: Mapping[str, float] = field(default_factory=dict)  # px: kimg at which it ends
    fade_kimg: float = 15.0  # length of the cross-fade into each larger size
    batch: int = 32
    learning_rate: float = 2e-3
    decay_kimg: float = 100.0  # length of the final decay of the learning rate, to a twentieth
    r1_gamma: float = 2.0
    r1_every: int = 16  # discriminator steps per penalty
    average_kimg: float = 5.0  # half-life of the averaged weights
    mixing: float = 0.9  # share of batches that mix the styles of two latents
    normal_labels: float = 0.5  # share of latents with normal property scores; others get zeros
    seed: int = 0
    precision: str = "float32"


def level_of_detail(kimg: float, settings: BaseSettings, image_px: int) -> float:
    """Returns how many times the image size is halved at this point; fractions cross-fade.

    Example: `grow_kimg={"16": 60, "32": 150}` shows 16 px for 60 kimg, fades to 32 px, stays until
    150 kimg, fades to 64 px and stays there.
    """
    for px, until in sorted(settings.grow_kimg.items(), key=lambda item: int(item[0])):
        lod = math.log2(image_px / int(px))
        if kimg < until:
            return lod
        if kimg < until + settings.fade_kimg:
            return lod - (kimg - until) / settings.fade_kimg
    return 0.0


def learning_rate(kimg: float, settings: BaseSettings) -> float:
    """Stays constant, then falls linearly to a twentieth over the last `decay_kimg`."""
    left = (settings.total_kimg - kimg) / max(settings.decay_kimg, 1e-9)
    return settings.learning_rate * min(1.0, max(0.05, left))


def resize_real(images: Tensor, lod: float) -> Tensor:
    """Shrinks full-size images (B, 3, H, H) to the level of detail, cross-fade included."""
    images = F.avg_pool2d(images, 2 ** math.floor(lod)) if lod >= 1 else images
    share = lod - math.floor(lod)
    if not share:
        return images
    return images.lerp(F.interpolate(F.avg_pool2d(images, 2), scale_factor=2.0), share)


class BaseTrainer:
    """Generator, averaged generator, discriminator, optimizers and random state of a training run.

    The networks must be on the same device as the real images, which are uint8 (N, H, H, 3).
    """

    PARTS = ("generator", "average", "discriminator", "g_optimizer", "d_optimizer")

    def __init__(
        self,
        generator: StyleGenerator,
        discriminator: Discriminator,
        images: Images,
        settings: BaseSettings,
    ) -> None:
        self.settings, self.images, self.device = settings, images, images.device
        self.generator = generator.to(memory_format=torch.channels_last).train()
        self.discriminator = discriminator.to(memory_format=torch.channels_last).train()
        self.average = copy.deepcopy(generator).eval().requires_grad_(False)
        self.random = torch.Generator(self.device).manual_seed(settings.seed)
        torch.manual_seed(settings.seed)  # for the noise inputs
        options = {"lr": settings.learning_rate, "betas": (0.0, 0.99)}
        self.g_optimizer = torch.optim.Adam(self.generator.parameters(), **options)
        self.d_optimizer = torch.optim.Adam(self.discriminator.parameters(), **options)
        self.steps = 0
        self.rows: list[dict[str, float]] = []  # the log

    def state(self) -> dict[str, Any]:
        """Everything that a bit-exact resume needs."""
        return {
            **{name: getattr(self, name).state_dict() for name in self.PARTS},
            **{"random": self.random.get_state(), "steps": self.steps, "rows": self.rows},
            "process_random": random_states(self.device),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` returned."""
        for name in self.PARTS:
            getattr(self, name).load_state_dict(state[name])
        self.random.set_state(state["random"])
        self.steps, self.rows = state["steps"], state["rows"]
        set_random_states(state["process_random"], self.device)

    @property
    def kimg(self) -> float:
        """Thousands of real images shown so far."""
        return self.steps * self.settings.batch / 1000

    @property
    def lod(self) -> float:
        """Level of detail at this point."""
        return level_of_detail(self.kimg, self.settings, self.generator.image_px)

    def step(self) -> dict[str, float | Tensor]:
        """Updates both networks once; returns the log row, with losses still on the device."""
        settings, lod = self.settings, self.lod
        for optimizer in (self.d_optimizer, self.g_optimizer):
            optimizer.param_groups[0]["lr"] = learning_rate(self.kimg, settings)
        real = resize_real(self.real_batch(), lod)
        with torch.no_grad():
            fake = self.fake_batch(lod)
        d_loss = self.update_discriminator(real, fake, lod)
        g_loss = self.update_generator(lod)
        self.average_weights()
        self.steps += 1
        kimg = round(self.kimg, 3)
        return {"kimg": kimg, "d_loss": d_loss, "g_loss": g_loss, "lod": torch.tensor(lod)}

    def update_discriminator(self, real: Tensor, fake: Tensor, lod: float) -> Tensor:
        """Updates once, with R1 weighted by its interval; returns the loss without R1."""
        penalised = self.steps % self.settings.r1_every == 0
        real.requires_grad_(penalised)
        with autocast(self.device, self.settings.precision):
            real_scores = self.discriminator(real, lod=lod)
            fake_scores = self.discriminator(fake, lod=lod)
        gamma = self.settings.r1_gamma * self.settings.r1_every * penalised
        _update(self.d_optimizer, discriminator_loss(real, real_scores, fake_scores, gamma))
        return discriminator_loss(real, real_scores, fake_scores, 0.0).detach()

    def update_generator(self, lod: float) -> Tensor:
        """Updates once, with the discriminator frozen."""
        self.discriminator.requires_grad_(False)
        with autocast(self.device, self.settings.precision):
            scores = self.discriminator(self.fake_batch(lod), lod=lod)
        loss = generator_loss(scores)
        _update(self.g_optimizer, loss)
        self.discriminator.requires_grad_(True)
        return loss.detach()

    def real_batch(self) -> Tensor:
        """Draws real images, (B, 3, H, H) in [-1, 1]; half of them are mirrored."""
        batch, options = self.settings.batch, {"generator": self.random, "device": self.device}
        pick = torch.randint(len(self.images), (batch,), **options)
        real = to_signed(self.images[pick])  # (B, 3, H, H)
        return torch.cat([real[: batch // 2], real[batch // 2 :].flip(3)])

    def fake_batch(self, lod: float) -> Tensor:
        """Generates images, (B, 3, h, h) at the level of detail; some batches mix styles."""
        net = self.generator
        with autocast(self.device, self.settings.precision):
            w = net.styles(*self.latents()).w
            layers = 2 * net.synthesis.num_blocks
            wp = w.unsqueeze(1).repeat(1, layers, 1)  # (B, L, W)
            used = layers - 2 * math.floor(lod)
            draw = torch.rand(2, generator=self.random, device=self.device).tolist()
            if draw[0] < self.settings.mixing:
                crossover = 1 + int(draw[1] * (used - 1))
                wp[:, crossover:] = net.styles(*self.latents()).w.unsqueeze(1)
            return net.synthesis(wp, "random", lod)

    def latents(self) -> tuple[Tensor, Tensor | None]:
        """Draws latents (B, Z) and scores (B, P), normal for some latents and zero for others."""
        net, batch = self.generator, self.settings.batch
        options = {"generator": self.random, "device": self.device}
        z = torch.randn(batch, net.z_dim, **options)
        labels = net.labels(batch, self.random)
        if labels is not None or not net.num_properties:
            return z, labels
        properties = torch.randn(batch, net.num_properties, **options)
        normal = torch.rand(batch, 1, **options) < self.settings.normal_labels
        return z, properties * normal

    def average_weights(self) -> None:
        """Moves the averaged generator, including its buffers, toward the trained one."""
        seen = self.steps * self.settings.batch
        half_life = min(self.settings.average_kimg * 1000, max(seen * 0.1, 1.0))
        self.average.move_toward(self.generator, 0.5 ** (self.settings.batch / half_life))


class DiscriminatorTrainer(BaseTrainer):
    """Trains the discriminator alone, at full size, for a generator without one."""

    lod = 0.0

    def __init__(self, *nets_images_settings: Any) -> None:
        super().__init__(*nets_images_settings)
        self.generator.eval()  # w_avg stays, too

    def step(self) -> dict[str, float | Tensor]:
        """Updates the discriminator once; returns the log row."""
        self.d_optimizer.param_groups[0]["lr"] = learning_rate(self.kimg, self.settings)
        with torch.no_grad():
            fake = self.fake_batch(self.lod)
        d_loss = self.update_discriminator(self.real_batch(), fake, self.lod)
        self.steps += 1
        return {"kimg": round(self.kimg, 3), "d_loss": d_loss}


def _update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
