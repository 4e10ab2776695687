"""One of two processes that train together; `python rank_worker.py FOLDER` keeps what it found.

RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are set as a launcher sets them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ohlora_lib.evaluation.evaluator import Evaluation
from ohlora_lib.finetune.loop import FineTuner, FinetuneSettings, finetune
from ohlora_lib.finetune.recipe import RECIPES, StepRule
from ohlora_lib.nets import Discriminator, Generator
from ohlora_lib.training.checkpoint import tensors_sha256
from ohlora_lib.training.losses import NotFiniteError
from ohlora_lib.training.ranks import Ranks, join, leave


def lively(generator: Generator) -> Generator:
    """Gives an untrained generator what a trained one has: a constant that is none, and noise.

    Without, its maps are flat, and instance norm makes features of their rounding.
    """
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith(("const", "apply_noise.weight")):
                parameter.normal_(0.0, 0.3)
    return generator


def tuner(ranks: Ranks) -> FineTuner:
    """A small fine-tuning; the last batch of an epoch is one image, which both ranks see."""
    torch.manual_seed(0)
    sizes = {"z_dim": 8, "w_dim": 8, "fmaps_base": 64, "wide_dim": 12}
    nets = lively(Generator(32, **sizes)), Discriminator(32, fmaps_base=64)
    pixels = torch.randint(0, 256, (9, 32, 32, 3), dtype=torch.uint8)
    settings = FinetuneSettings(
        epochs=2, batch=4, learning_rate=1e-2, r1_gamma=3.0, every_batches=1, average_batches=3.0,
        seed=3,
    )  # fmt: skip
    strict = {"discriminator_rule": StepRule(4, 1.2), "generator_rule": StepRule(4, 0.7)}
    return FineTuner(*nets, pixels, replace(RECIPES["v9"], **strict), settings, ranks)


def weights(one: FineTuner) -> str:
    """Hash of all weights."""
    nets = {"generator": one.generator, "discriminator": one.discriminator, "mean": one.average}
    states = {kind: net.state_dict() for kind, net in nets.items()}
    return tensors_sha256({f"{k}.{n}": v for k, state in states.items() for n, v in state.items()})


def train(one: FineTuner, then: Callable[[int], None] = lambda _: None) -> dict:
    """Fine-tunes; what came of each batch. `then` is called after each with its number."""
    batches = []

    def on_batch(_: FineTuner) -> None:
        fake = one.last_scores[1].tolist()  # of this rank's own images
        batches.append({"weights": weights(one), "fake": fake, "seen": one.images_seen})
        then(len(batches))

    def evaluate(generator: Generator, _: int) -> Evaluation:
        assert one.ranks.first
        total = sum(p.square().sum().item() for p in generator.parameters())
        return Evaluation({"mean_gender_score": total}, np.empty(0))

    said = ""
    try:
        done = finetune(
            one, evaluate, on_row=lambda *_: None, on_epoch=lambda _: None, on_batch=on_batch
        )
    except NotFiniteError as error:
        done, said = False, str(error)
    rows = [{k: v for k, v in row.items() if k != "elapsed_sec"} for row in one.rows]
    return {"done": done, "said": said, "batches": batches, "rows": rows}


def main(folder: Path) -> None:
    """Does everything, in the same order on every rank."""
    torch.set_num_threads(1)
    ranks = join()
    second = not ranks.first
    found = {"whole": train(tuner(ranks))}

    def stop(number: int) -> None:
        if second and number == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    one = tuner(ranks)
    found["stopped"] = train(one, stop)
    state = ranks.from_first(one.state)  # as if read from the checkpoint of rank 0
    again = tuner(ranks)
    again.load(state)
    found["resumed"] = train(again)

    broken = tuner(ranks)

    def spoil(number: int) -> None:
        if second and number == 2:
            broken.latents = lambda count: torch.full((count, 8), torch.nan)

    found["broken"] = train(broken, spoil)
    torch.save(found, folder / f"found-{ranks.rank}.pt")

    def die(number: int) -> None:
        if second and number == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    train(tuner(ranks), die)
    leave(ranks)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
