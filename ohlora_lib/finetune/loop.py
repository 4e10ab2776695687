"""Fine-tunes a StyleGAN on selected images, as a recipe prescribes.

Axes: N selected images, B batch, H image height.
"""

import copy
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ohlora_lib.evaluation.evaluator import Evaluation, Evaluator
from ohlora_lib.finetune.recipe import Recipe, StepRule, only_trainable, trainable_names
from ohlora_lib.io.images import Images
from ohlora_lib.nets import Discriminator
from ohlora_lib.nets.compute import autocast
from ohlora_lib.nets.samples import to_signed
from ohlora_lib.nets.style_generator import StyleGenerator
from ohlora_lib.training import losses
from ohlora_lib.training.checkpoint import random_states, set_random_states
from ohlora_lib.training.ranks import ALONE, Ranks

PARTS = ("generator", "discriminator", "g_optimizer", "d_optimizer", "average")
GENERATORS = ("random", "order_random")
PLAIN = ("order", "last_g_loss", "images_seen", "elapsed_sec", "rows", "pool")


@dataclass(frozen=True)
class FinetuneSettings:
    """Fine-tuning settings; the defaults are the published study's."""

    epochs: int = 72
    batch: int = 8
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    r1_gamma: float = 10.0
    every_batches: int = 50
    first_epoch_every: int = 25
    first_epoch_each: int = 10
    average_batches: float = 0.0  # half-life of the weight average, batches; 0: off
    seed: int = 0
    precision: str = "float32"

    def evaluation_due(self, epoch: int, idx: int) -> bool:
        """Whether to evaluate after a batch: at fixed intervals, more often in the first epoch."""
        early = idx < self.first_epoch_each or idx % self.first_epoch_every == 0
        return idx % self.every_batches == 0 or (epoch == 0 and early)


@dataclass(eq=False)
class FineTuner:
    """Networks, optimizers, random state and data position of one fine-tuning run."""

    generator: StyleGenerator  # base weights, with the recipe's mapping network, on its device
    discriminator: Discriminator  # the base's, on the same device
    images: Images  # selected, uint8, (N, H, H, 3), on the same device
    recipe: Recipe  # what to train, and when a network has caught up
    settings: FinetuneSettings  # `batch` is the total over all ranks
    ranks: Ranks = ALONE  # share one data order; rank 0's state resumes all of them

    def __post_init__(self) -> None:
        settings, recipe, self.device = self.settings, self.recipe, self.images.device
        nets = self.generator, self.discriminator
        for net in nets:
            net.to(memory_format=torch.channels_last).train()
        self.g_names = trainable_names(self.generator, recipe.generator_trainable)
        self.d_names = trainable_names(self.discriminator, recipe.discriminator_trainable)
        options = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
        self.g_optimizer, self.d_optimizer = (
            torch.optim.AdamW(map(net.get_parameter, names), **options)
            for net, names in zip(nets, (self.g_names, self.d_names), strict=True)
        )
        self.average = None
        if settings.average_batches:
            self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.result = self.average or self.generator  # the generator evaluated and saved
        self.parts = {name: part for name in PARTS if (part := getattr(self, name)) is not None}
        torch.manual_seed(settings.seed)
        self.random = torch.Generator(self.device).manual_seed(settings.seed)
        self.order_random = torch.Generator().manual_seed(settings.seed)
        self.order = torch.empty(0, dtype=torch.long)
        self.batches_per_epoch = math.ceil(len(self.images) / settings.batch)
        self.total_batches = settings.epochs * self.batches_per_epoch + 1  # with the closing batch
        self.batches_done = 0
        self.last_g_loss: float | None = None
        self.images_seen, self.elapsed_sec = 0, 0.0
        self.rows: list[dict[str, float]] = []  # rows of the log
        self.pool: list[tuple[Tensor, Tensor]] = []  # real and fake scores since the last row
        self.last_scores = (torch.empty(0), torch.empty(0))

    def state(self) -> dict[str, Any]:
        """Everything needed to resume exactly."""
        return {
            **{name: part.state_dict() for name, part in self.parts.items()},
            **{name: getattr(self, name).get_state() for name in GENERATORS},
            **{name: getattr(self, name) for name in PLAIN},
            **dict(zip(("epoch", "idx"), self.place(self.batches_done), strict=True)),
            "process_random": random_states(self.device),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restores a `state`."""
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        for name in GENERATORS:
            getattr(self, name).set_state(state[name])
        for name in PLAIN:
            setattr(self, name, state[name])
        self.batches_done = state["epoch"] * self.batches_per_epoch + state["idx"]
        self.pool = [tuple(scores.to(self.device) for scores in pair) for pair in self.pool]
        set_random_states(state["process_random"], self.device)

    def place(self, batch: int) -> tuple[int, int]:
        """Epoch and idx (position in the epoch) of a batch, counted from the start."""
        return divmod(batch, self.batches_per_epoch)

    @property
    def finished(self) -> bool:
        """Whether all batches are done, including the closing batch."""
        return self.batches_done == self.total_batches

    @property
    def epoch_ended(self) -> bool:
        """Whether the last trained batch ended an epoch."""
        return self.place(self.batches_done)[1] == 0 and not self.finished

    def batches(self) -> Iterator[tuple[int, int, Tensor]]:
        """Yields epoch, idx and this rank's real images (b, 3, H, H) in [-1, 1] until the end.

        One closing batch follows the last epoch, as in the published run: like the first row of
        any epoch, its log row shows the networks just after a whole number of epochs.
        """
        size = self.settings.batch  # the last batch of an epoch may be shorter
        while not self.finished:
            epoch, idx = self.place(self.batches_done)
            if idx == 0:
                self.order = torch.randperm(len(self.images), generator=self.order_random)
            rows = self.ranks.deal(self.order[idx * size : (idx + 1) * size]).to(self.device)
            self.batches_done += 1  # before the yield: a state saved then resumes at the next
            yield epoch, idx, to_signed(self.images[rows])

    def latents(self, count: int) -> tuple[Tensor, Tensor | None]:
        """Draws standard normal latents, (count, Z), and a class-conditional network's labels.

        Property scores stay zero (None), and so do the discriminator's scores or labels, for real
        and generated images alike.
        """
        size = (count, self.generator.z_dim)
        z = torch.randn(size, generator=self.random, device=self.device)
        return z, self.generator.labels(count, self.random)

    def train_batch(self, real: Tensor) -> dict[str, float]:
        """Updates the discriminator, then the generator, each until it has caught up.

        Args:
            real: This rank's images, (b, 3, H, H).

        Returns:
            Losses of the last updates and update counts, named as in the log.
        """
        if not self.ranks.first:  # seeded by batch: rank 0's state can resume any rank count
            words = (self.settings.seed, self.ranks.rank, self.batches_done)
            noise, latents = np.random.SeedSequence(words).generate_state(2).tolist()
            torch.manual_seed(noise)
            self.random.manual_seed(latents)
        rules = self.recipe.discriminator_rule, self.recipe.generator_rule
        update = partial(self.update_discriminator, real)
        d_loss, d_count = _until_caught_up(update, rules[0], self.last_g_loss, "d_loss")
        update = partial(self.update_generator, real)
        g_loss, g_count = _until_caught_up(update, rules[1], d_loss, "g_loss")
        self.ranks.mean(self.generator.truncation.w_avg)  # each rank has updated its own
        if self.average is not None:
            self.average.move_toward(self.generator, 0.5 ** (1 / self.settings.average_batches))
        self.last_g_loss = g_loss
        self.images_seen += len(real) * self.ranks.size
        self.pool.append(tuple(self.ranks.gather(scores) for scores in self.last_scores))
        counts = {"d_train_count": d_count, "g_train_count": g_count}
        return {"d_loss": d_loss, "g_loss": g_loss, **counts}

    def update_discriminator(self, real: Tensor) -> Tensor:
        """Updates once; returns loss and largest gradient, (2,); stores the scores, (b,) each."""
        with torch.no_grad(), autocast(self.device, self.settings.precision):
            fake = self.generator(*self.latents(len(real)), noise="random")
        real = real.detach().requires_grad_(self.settings.r1_gamma > 0)
        with only_trainable(self.discriminator, self.d_names):
            with autocast(self.device, self.settings.precision):
                scores = self.discriminator(real), self.discriminator(fake.detach())
            loss = losses.discriminator_loss(real, *scores, self.settings.r1_gamma)
            self.last_scores = tuple(part.detach().flatten() for part in scores)
            return self._step(loss, self.d_optimizer)

    def update_generator(self, real: Tensor) -> Tensor:
        """Updates once with `len(real)` samples; returns loss and largest gradient, (2,)."""
        with only_trainable(self.generator, self.g_names), only_trainable(self.discriminator, []):
            with autocast(self.device, self.settings.precision):
                fake = self.generator(*self.latents(len(real)), noise="random")
                loss = losses.generator_loss(self.discriminator(fake))
            return self._step(loss, self.g_optimizer)

    def _step(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        loss = self.ranks.mean_gradients(loss, optimizer.param_groups[0]["params"])
        optimizer.step()
        return losses.with_gradient(loss, optimizer)

    def record(
        self, epoch: int, idx: int, batch: Mapping[str, float], evaluation: Evaluation
    ) -> None:
        """Appends one tidy row to the log, and clears the pooled scores.

        Raises:
            NotFiniteError: If a value in the row is NaN or infinite.
        """
        row = {"epoch": epoch, "idx": idx, **batch}
        if self.recipe.discriminator_rule.max_updates == 1:
            del row["d_train_count"]
        real_scores, fake_scores = self.pool[-1]
        means = {k: v for k, v in evaluation.row.items() if k.startswith("mean_")}
        row |= {
            "real_scores_mean": real_scores.mean().item(),
            "fake_scores_mean": fake_scores.mean().item(),
            "real_fake_auroc": auroc([self.pool[-1]]),
            **means, "elapsed_sec": self.elapsed_sec, "images_seen": self.images_seen,
            "pooled_auroc": auroc(self.pool),
        }  # fmt: skip
        self.rows.append(row | evaluation.row)
        self.pool = []
        losses.check_finite(self.rows[-1])


def _until_caught_up(
    update: Callable[[], Tensor], rule: StepRule, other_loss: float | None, name: str
) -> tuple[float, int]:
    """Updates one network until its rule is met; returns the last loss and the update count."""
    loss, taken = math.nan, 0
    while taken == 0 or not rule.caught_up(loss, other_loss, taken):
        loss = losses.finite_loss(update(), name)  # the only host sync: the rule needs the loss
        taken += 1
    return loss, taken


def auroc(pairs: list[tuple[Tensor, Tensor]]) -> float:
    """AUROC of the scores for real against fake: 0.5 is chance, 1 is perfect separation."""
    real, fake = (torch.cat(scores).float().cpu() for scores in zip(*pairs, strict=True))
    truth = torch.cat([torch.ones_like(real), torch.zeros_like(fake)])
    return float(roc_auc_score(truth.numpy(), torch.cat([real, fake]).numpy()))


def finetune(
    tuner: FineTuner, evaluator: Evaluator, asked: Collection[int] = ()
) -> Iterator[Evaluation | None]:
    """Fine-tunes from the tuner's current batch to its last epoch.

    Args:
        tuner: State to train; it holds the rows of the log.
        evaluator: Scores samples when an evaluation is due, on rank 0 only.
        asked: Stop signals received; once it holds one, all ranks stop after the same batch.

    Yields:
        The evaluation after each batch, or None if none was due; show progress and save here.
    """
    started, before = time.monotonic(), tuner.elapsed_sec
    for epoch, idx, real in tuner.batches():
        batch, evaluation = tuner.train_batch(real), None
        tuner.elapsed_sec = before + time.monotonic() - started
        if tuner.settings.evaluation_due(epoch, idx):
            evaluation = tuner.ranks.from_first(lambda: evaluator(tuner.result, len(tuner.rows)))
            tuner.record(epoch, idx, batch, evaluation)
        yield evaluation
        if tuner.ranks.any(bool(asked)):
            return
