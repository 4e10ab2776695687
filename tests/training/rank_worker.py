"""One of two processes that the tests of ranks start; keeps what it found in a file.

`python rank_worker.py FOLDER`, with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT as a launcher
sets them; with WORLD_SIZE 1 the same alone. Networks and images are float64, so that what differs
is the order of sums, and not what Adam makes of gradients that are zero but for rounding.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from ohlora_lib.evaluation.evaluator import Evaluation, Evaluator
from ohlora_lib.finetune import loop
from ohlora_lib.finetune.loop import FineTuner, FinetuneSettings
from ohlora_lib.finetune.recipe import RECIPES, StepRule
from ohlora_lib.nets import Discriminator, Generator, PropertyCNN
from ohlora_lib.nets.samples import to_signed
from ohlora_lib.properties.ensemble import Ensemble
from ohlora_lib.training.ranks import Ranks


class Unequal(Ranks):
    """Ranks that are not averaged: each steps by the gradients of its own half."""

    def mean_gradients(self, loss: Tensor, parameters: object) -> Tensor:
        """Leaves the gradients as they are."""
        return super().mean_gradients(loss, [])


class Private(Ranks):
    """Ranks whose losses stay their own; gradients are averaged."""

    def mean_gradients(self, loss: Tensor, parameters: object) -> Tensor:
        """Gives back the loss of this rank."""
        super().mean_gradients(loss, parameters)
        return loss.detach()


class Grainy(Ranks):
    """Ranks that draw noise for their own half only."""

    def noise(self, batch: int) -> str:
        """Has the generator draw planes for the images it is given."""
        return "random"


class Apart(Ranks):
    """Ranks whose discriminator sees the deviation of its own half."""

    def over_batch(self, batch: int) -> None:
        """Takes the share for the whole."""


def lively(generator: Generator) -> Generator:
    """Gives an untrained generator what a trained one has: a constant that is none, and noise.

    Without, its maps are flat, and instance norm makes features of their rounding.
    """
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith(("const", "apply_noise.weight")):
                parameter.normal_(0.0, 0.3)
    return generator


def tuner(
    ranks: Ranks, version: str = "v9", *, batch: int = 4, images: int = 10, once: bool = False
) -> FineTuner:
    """A small fine-tuning; `once` has one update a batch, so that ranks cannot part and hang."""
    torch.manual_seed(0)
    sizes = {"z_dim": 8, "w_dim": 8, "fmaps_base": 64, "wide_dim": 12 * (version == "v9")}
    nets = lively(Generator(32, **sizes)).double(), Discriminator(32, fmaps_base=64).double()
    pixels = torch.randint(0, 256, (images, 32, 32, 3), dtype=torch.uint8)
    settings = FinetuneSettings(
        epochs=2, batch=batch, learning_rate=1e-2, r1_gamma=3.0, every_batches=1,
        average_batches=3.0, seed=3,
    )  # fmt: skip
    strict = (StepRule(4, 1.2), StepRule(4, 0.7))  # than the published, so that all counts occur
    d_rule, g_rule = (StepRule(), StepRule()) if once else strict
    recipe = replace(RECIPES[version], discriminator_rule=d_rule, generator_rule=g_rule)
    return FineTuner(*nets, pixels, recipe, settings, ranks)


def train(one: FineTuner, *, stop_at: int = 0, stop_rank: int = 0) -> dict:
    """Fine-tunes; what came of it. `stop_at` batches later one rank alone gets a SIGTERM."""
    counts = []

    def on_batch(tuner: FineTuner) -> None:
        counts.append(0)
        if len(counts) == stop_at and tuner.ranks.rank == stop_rank:
            os.kill(os.getpid(), signal.SIGTERM)

    def evaluate(generator: Generator, index: int) -> Evaluation:
        total = sum(p.square().sum().item() for p in generator.parameters())
        return Evaluation({"mean_gender_score": total}, np.empty(0))

    done = loop.finetune(
        one, evaluate, on_row=lambda *_: None, on_epoch=lambda _: None, on_batch=on_batch
    )
    nets = {"generator": one.generator, "discriminator": one.discriminator, "mean": one.average}
    weights = {f"{k}.{n}": v for k, net in nets.items() for n, v in net.state_dict().items()}
    rows = [{k: v for k, v in row.items() if k != "elapsed_sec"} for row in one.rows]
    return {"done": done, "batches": len(counts), "rows": rows, "weights": weights}


def forced_apart(ranks: Ranks) -> dict:
    """Losses under the rule's limit on one rank, over it on the other; the mean is over it."""
    rule, asked = RECIPES["v9"].generator_rule, []

    def update() -> Tensor:
        own = torch.tensor(0.5 if ranks.rank else 9.0)
        asked.append(rule.caught_up(own.item(), 1.0, 1))
        return ranks.mean_gradients(own, [])

    loss, taken = FineTuner._until_caught_up(update, rule, 1.0)
    return {"would_stop": asked[0], "loss": loss, "taken": taken}


def evaluation(ranks: Ranks, samples: int) -> dict:
    """Figures of samples that the ranks share."""
    torch.manual_seed(1)
    ensembles = [
        Ensemble({p: [PropertyCNN(p, image_px=32, width=0.1) for _ in range(2)] for p in "ab"})
        for _ in range(2)
    ]
    selected = torch.randint(0, 256, (40, 32, 32, 3), dtype=torch.uint8)
    generator = Generator(32, z_dim=8, w_dim=8, fmaps_base=64)
    evaluator = Evaluator(*ensembles, selected, samples=samples, seed=4, ranks=ranks)
    drawn = []
    generator.register_forward_hook(lambda net, args, out: drawn.append(len(out)))
    found = evaluator(generator, 1)
    return {"row": found.row, "images": torch.from_numpy(found.fixed_images), "drawn": drawn}


def main(folder: Path) -> None:
    """Does everything, in the same order on every rank."""
    torch.set_num_threads(1)
    size = int(os.environ["WORLD_SIZE"])
    if size > 1:
        dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    place = (dist.get_rank() if size > 1 else 0, size)
    ranks = Ranks(*place)
    found = {"evaluations": {count: evaluation(ranks, count) for count in (12, 13)}}
    torch.set_default_dtype(torch.float64)
    loop.to_signed = lambda images: to_signed(images).double()
    found["even"] = train(tuner(ranks))
    found["once"] = train(tuner(ranks, once=True))
    found["short"] = train(tuner(ranks, images=9))  # the last batch is of one image
    found["large"] = train(tuner(ranks, batch=34, images=34))  # two groups of deviation
    found["v8"] = train(tuner(ranks, "v8"))
    if size > 1:
        found["forced"] = forced_apart(ranks)
        found["stopped"] = train(tuner(ranks), stop_at=4, stop_rank=1)
        found["unequal"] = train(tuner(Unequal(*place), once=True))
        found["private"] = train(tuner(Private(*place), once=True))
        found["grainy"] = train(tuner(Grainy(*place), once=True))
        found["apart"] = train(tuner(Apart(*place), once=True))
    torch.save(found, folder / f"found-{place[0]}-of-{size}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
