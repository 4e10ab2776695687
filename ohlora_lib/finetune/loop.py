"""Fine-tunes a StyleGAN on selected images, by a recipe.

Axes: N selected images, B batch, H image height.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ohlora_lib.evaluation.evaluator import Evaluation, Evaluator
from ohlora_lib.finetune.recipe import Recipe, StepRule, only_trainable, trainable_names
from ohlora_lib.io.images import Images
from ohlora_lib.nets import Discriminator, Generator
from ohlora_lib.nets.compute import autocast
from ohlora_lib.nets.samples import to_signed
from ohlora_lib.training.checkpoint import random_states, set_random_states
from ohlora_lib.training.losses import (
    check_finite,
    discriminator_loss,
    finite_loss,
    generator_loss,
    with_gradient,
)
from ohlora_lib.training.ranks import ALONE, Ranks
from ohlora_lib.training.stopping import stop_on_interrupt

PARTS = ("generator", "discriminator", "g_optimizer", "d_optimizer", "average")
PLAIN = ("order", "epoch", "idx", "last_g_loss", "images_seen", "elapsed_sec")


@dataclass(frozen=True)
class FinetuneSettings:
    """How to fine-tune; the defaults are the published ones."""

    epochs: int = 72
    batch: int = 8
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    r1_gamma: float = 10.0
    every_batches: int = 50
    first_epoch_every: int = 25
    first_epoch_each: int = 10
    average_batches: float = 0.0  # half-life of averaged weights, batches; 0 averages nothing
    seed: int = 0
    precision: str = "float32"


def evaluation_due(epoch: int, idx: int, settings: FinetuneSettings) -> bool:
    """Every so many batches, and more often at the very start."""
    early = idx < settings.first_epoch_each or idx % settings.first_epoch_every == 0
    return idx % settings.every_batches == 0 or (epoch == 0 and early)


class BatchResult(NamedTuple):
    """What one batch did: losses of the last updates, their numbers, scores of both sides."""

    d_loss: float
    g_loss: float
    d_count: int
    g_count: int
    real_scores: Tensor  # (B,)
    fake_scores: Tensor  # (B,)


class FineTuner:
    """Networks, optimizers, random state and place in the data of one fine-tuning.

    Args:
        generator: Base weights, already in the recipe's mapping, on its device.
        discriminator: The base's discriminator, on the same device.
        images: Selected images, uint8, shape (N, H, H, 3), on the same device.
        recipe: What is trainable and when to stop updating.
        settings: How to train; the batch is that of all ranks together.
        ranks: The processes that train together. All hold the same networks and see the images in
            the same order; the state of rank 0 is the state of all.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        images: Images,
        recipe: Recipe,
        settings: FinetuneSettings,
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        self.images, self.recipe, self.settings = images, recipe, settings
        self.device = images.device
        self.generator = generator.to(memory_format=torch.channels_last).train()
        self.discriminator = discriminator.to(memory_format=torch.channels_last).train()
        self.g_names = trainable_names(generator, recipe.generator_trainable)
        self.d_names = trainable_names(discriminator, recipe.discriminator_trainable)
        self.g_optimizer = self._optimizer(generator, self.g_names)
        self.d_optimizer = self._optimizer(discriminator, self.d_names)
        self.result, self.average = generator, None  # the result is evaluated and kept
        if settings.average_batches:
            self.result = self.average = copy.deepcopy(generator).eval().requires_grad_(False)
        self.parts = {name: part for name in PARTS if (part := getattr(self, name)) is not None}
        torch.manual_seed(settings.seed)
        self.random = torch.Generator(self.device).manual_seed(settings.seed)
        self.order_random = torch.Generator().manual_seed(settings.seed)
        self.order = torch.empty(0, dtype=torch.long)
        self.epoch, self.idx = 0, 0  # the batch to do next
        self.last_g_loss: float | None = None
        self.images_seen, self.elapsed_sec, self.rows = 0, 0.0, []
        self.pool: list[tuple[Tensor, Tensor]] = []  # real and fake scores since the last row
        self.last_scores = (torch.empty(0), torch.empty(0))
        self.stopping = False  # whether this batch is the last one for now

    def _optimizer(self, net: torch.nn.Module, names: list[str]) -> torch.optim.AdamW:
        options = {"lr": self.settings.learning_rate, "weight_decay": self.settings.weight_decay}
        return torch.optim.AdamW([net.get_parameter(name) for name in names], **options)

    def state(self) -> dict[str, Any]:
        """Everything needed to resume as if never stopped."""
        return {
            **{name: part.state_dict() for name, part in self.parts.items()},
            **{name: getattr(self, name) for name in PLAIN},
            "rows": list(self.rows),
            "pool": list(self.pool),
            "random": self.random.get_state(),
            "order_random": self.order_random.get_state(),
            "process_random": random_states(self.device),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state` gave."""
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        for name in PLAIN:
            setattr(self, name, state[name])
        self.rows = list(state["rows"])
        self.pool = [tuple(scores.to(self.device) for scores in pair) for pair in state["pool"]]
        self.random.set_state(state["random"])
        self.order_random.set_state(state["order_random"])
        set_random_states(state["process_random"], self.device)

    @property
    def total_batches(self) -> int:
        """Batches from the first to the last epoch, and the closing one."""
        return self.settings.epochs * self.batches_per_epoch + 1

    @property
    def batches_done(self) -> int:
        """Batches trained so far."""
        return self.epoch * self.batches_per_epoch + self.idx

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches with the last, short one kept."""
        return -(-len(self.images) // self.settings.batch)

    def batches(self) -> Iterator[tuple[int, int, Tensor]]:
        """Yields epoch, idx and this rank's real images (b, 3, H, H) in [-1, 1], from here on.

        One closing batch follows the last epoch, as in the published run: its row of the log
        shows what whole epochs have made of the networks, as every epoch's first row does.
        """
        size = self.settings.batch
        while self.epoch <= self.settings.epochs:
            if self.idx == 0:
                self.order = torch.randperm(len(self.images), generator=self.order_random)
            while self.idx < (1 if self.closing else self.batches_per_epoch):
                whole = self.order[self.idx * size : (self.idx + 1) * size]
                rows = self.ranks.deal(whole).to(self.device)
                epoch, idx = self.epoch, self.idx
                self.idx += 1  # before the yield: a state saved after this batch goes on behind it
                yield epoch, idx, to_signed(self.images[rows])
            if self.closing:
                return
            self.epoch, self.idx = self.epoch + 1, 0

    @property
    def closing(self) -> bool:
        """Whether all epochs are done, and only the closing batch is left."""
        return self.epoch == self.settings.epochs

    def latents(self, count: int) -> Tensor:
        """Standard normal latents, (count, Z); property scores stay zero."""
        size = (count, self.generator.z_dim)
        return torch.randn(size, generator=self.random, device=self.device)

    def train_batch(self, real: Tensor) -> BatchResult:
        """Updates the discriminator, then the generator, each until it has caught up.

        Args:
            real: This rank's images, (b, 3, H, H).
        """
        if not self.ranks.first:  # seeded by the batch: rank 0's random state resumes any number
            words = (self.settings.seed, self.ranks.rank, self.batches_done)
            noise, latents = np.random.SeedSequence(words).generate_state(2).tolist()
            torch.manual_seed(noise)
            self.random.manual_seed(latents)
        rules = self.recipe.discriminator_rule, self.recipe.generator_rule
        update = partial(self.update_discriminator, real)
        d_loss, d_count = _until_caught_up(update, rules[0], self.last_g_loss, "d_loss")
        update = partial(self.update_generator, real)
        g_loss, g_count = _until_caught_up(update, rules[1], d_loss, "g_loss")
        self.ranks.mean(self.generator.truncation.w_avg)  # moved by the mean w of each rank
        if self.average is not None:
            self.average.move_toward(self.generator, 0.5 ** (1 / self.settings.average_batches))
        self.last_g_loss = g_loss
        self.images_seen += len(real) * self.ranks.size
        self.pool.append(tuple(self.ranks.gather(scores) for scores in self.last_scores))
        return BatchResult(d_loss, g_loss, d_count, g_count, *self.pool[-1])

    def update_discriminator(self, real: Tensor) -> Tensor:
        """One update; gives loss and largest gradient, (2,), and keeps the scores, (b,) each."""
        with torch.no_grad(), autocast(self.device, self.settings.precision):
            fake = self.generator(self.latents(len(real)), noise="random")
        real = real.detach().requires_grad_(self.settings.r1_gamma > 0)
        with only_trainable(self.discriminator, self.d_names):
            with autocast(self.device, self.settings.precision):
                real_scores = self.discriminator(real)
                fake_scores = self.discriminator(fake.detach())
            loss = discriminator_loss(real, real_scores, fake_scores, self.settings.r1_gamma)
            self.last_scores = (real_scores.detach().flatten(), fake_scores.detach().flatten())
            return self._step(loss, self.d_optimizer)

    def update_generator(self, real: Tensor) -> Tensor:
        """One update with as many images as `real` has; gives loss and largest gradient, (2,)."""
        with only_trainable(self.generator, self.g_names), only_trainable(self.discriminator, []):
            with autocast(self.device, self.settings.precision):
                fake = self.generator(self.latents(len(real)), noise="random")
                loss = generator_loss(self.discriminator(fake))
            return self._step(loss, self.g_optimizer)

    def _step(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        loss = self.ranks.mean_gradients(loss, optimizer.param_groups[0]["params"])
        optimizer.step()
        return with_gradient(loss, optimizer)

    def record(self, epoch: int, idx: int, batch: BatchResult, evaluation: Evaluation) -> None:
        """Appends one tidy row; the pooled scores start anew.

        Raises:
            NotFiniteError: If a number of the row is NaN or infinite.
        """
        adaptive = self.recipe.discriminator_rule.max_updates > 1
        counts = {"d_train_count": batch.d_count} if adaptive else {}
        self.rows.append({
            "epoch": epoch, "idx": idx, "d_loss": batch.d_loss, "g_loss": batch.g_loss,
            **counts, "g_train_count": batch.g_count,
            "real_scores_mean": batch.real_scores.mean().item(),
            "fake_scores_mean": batch.fake_scores.mean().item(),
            "real_fake_auroc": auroc([self.pool[-1]]),
            **{k: v for k, v in evaluation.row.items() if k.startswith("mean_")},
            "elapsed_sec": self.elapsed_sec, "images_seen": self.images_seen,
            "pooled_auroc": auroc(self.pool),
            **{k: v for k, v in evaluation.row.items() if not k.startswith("mean_")},
        })  # fmt: skip
        self.pool = []
        check_finite(self.rows[-1])


def _until_caught_up(
    update: Callable[[], Tensor], rule: StepRule, other_loss: float | None, name: str
) -> tuple[float, int]:
    """Updates one network until its rule is content; gives the last loss and the count."""
    loss, taken = math.nan, 0
    while taken == 0 or not rule.caught_up(loss, other_loss, taken):
        loss = finite_loss(update(), name)  # the one host sync: the rule must know the loss
        taken += 1
    return loss, taken


def auroc(pairs: list[tuple[Tensor, Tensor]]) -> float:
    """How well scores tell real from fake: 0.5 is guessing, 1 is perfect."""
    real = torch.cat([pair[0] for pair in pairs]).float().cpu()
    fake = torch.cat([pair[1] for pair in pairs]).float().cpu()
    truth = torch.cat([torch.ones_like(real), torch.zeros_like(fake)])
    return float(roc_auc_score(truth.numpy(), torch.cat([real, fake]).numpy()))


def finetune(
    tuner: FineTuner,
    evaluator: Evaluator,
    *,
    on_row: Callable[[FineTuner, Evaluation], None],
    on_epoch: Callable[[FineTuner], None],
    on_batch: Callable[[FineTuner], None],
) -> bool:
    """Fine-tunes from the tuner's present place to its last epoch.

    Args:
        tuner: What to train; holds the rows of the log.
        evaluator: Scores samples when an evaluation is due; of several ranks, on rank 0.
        on_row: Called after each new row.
        on_epoch: Called after each epoch, after the closing batch, and when interrupted: save.
        on_batch: Called after each batch.

    Returns:
        Whether it finished; False after an interrupt, with the state saved.
    """
    started, before = time.monotonic(), tuner.elapsed_sec
    last = tuner.batches_per_epoch - 1
    with stop_on_interrupt(pass_on=tuner.ranks.size == 1) as asked:
        for epoch, idx, real in tuner.batches():
            result = tuner.train_batch(real)
            tuner.elapsed_sec = before + time.monotonic() - started
            if evaluation_due(epoch, idx, tuner.settings):
                evaluation = tuner.ranks.from_first(
                    lambda: evaluator(tuner.result, len(tuner.rows))
                )
                tuner.record(epoch, idx, result, evaluation)
                on_row(tuner, evaluation)
            on_batch(tuner)
            tuner.stopping = tuner.ranks.any(bool(asked))  # all stop after the same batch
            if tuner.stopping or idx == last or tuner.closing:
                on_epoch(tuner)
            if tuner.stopping:
                return tuner.closing
    return True
