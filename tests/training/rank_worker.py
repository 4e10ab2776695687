"""One of two processes that train together; `python rank_worker.py FOLDER` saves its results.

The test sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT as a launcher would.
"""

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
from ohlora_lib.training.stopping import stop_on_interrupt


def lively(generator: Generator) -> Generator:
    """Gives an untrained generator noise and a varied constant, like a trained one's.

    Otherwise, its maps would be flat, and instance norm would amplify their rounding errors.
    """
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith(("const", "apply_noise.weight")):
                parameter.normal_(0.0, 0.3)
    return generator


def tuner(ranks: Ranks) -> FineTuner:
    """Makes a small fine-tuning run; an epoch's last batch is one image, which both ranks see."""
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


def train(one: FineTuner, at: int = 0, do: Callable[[], None] = lambda: None) -> dict:
    """Fine-tunes and returns the results of each batch; rank 1 calls `do` after batch `at`."""
    batches, said = [], ""

    def evaluate(generator: Generator, _: int) -> Evaluation:
        assert one.ranks.first
        total = sum(p.square().sum().item() for p in generator.parameters())
        return Evaluation({"mean_gender_score": total}, np.empty(0))

    try:
        with stop_on_interrupt(pass_on=False) as asked:
            for _ in finetune(one, evaluate, asked):
                fake = one.last_scores[1].tolist()  # of this rank's own images
                nets = (one.generator, one.discriminator, one.average)
                weights = [tensors_sha256(net.state_dict()) for net in nets]
                batches.append({"weights": weights, "fake": fake, "seen": one.images_seen})
                if len(batches) == at and not one.ranks.first:
                    do()
    except NotFiniteError as error:
        said = str(error)
    rows = [{k: v for k, v in row.items() if k != "elapsed_sec"} for row in one.rows]
    return {"done": one.finished, "said": said, "batches": batches, "rows": rows}


def main(folder: Path) -> None:
    """Runs every case, in the same order on both ranks."""
    torch.set_num_threads(1)
    ranks = join()
    found = {"whole": train(tuner(ranks))}
    one, again, broken = (tuner(ranks) for _ in range(3))
    found["stopped"] = train(one, 4, lambda: signal.raise_signal(signal.SIGTERM))
    again.load(ranks.from_first(one.state))  # as if read from the checkpoint of rank 0
    found["resumed"] = train(again)

    def spoil() -> None:
        broken.latents = lambda count: (torch.full((count, 8), torch.nan), None)

    found["broken"] = train(broken, 2, spoil)
    torch.save(found, folder / f"found-{ranks.rank}.pt")
    train(tuner(ranks), 2, lambda: os.kill(os.getpid(), signal.SIGKILL))
    leave(ranks)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
