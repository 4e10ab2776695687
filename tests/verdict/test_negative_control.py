"""With learning rate 0 nothing is learnt, and the verdict must say so."""

import numpy as np
import pytest
import torch

from ohlora_lib.base.base import Base
from ohlora_lib.evaluation.evaluator import Evaluator
from ohlora_lib.finetune.loop import FinetuneSettings
from ohlora_lib.finetune.run import FinetuneRun
from ohlora_lib.nets import Discriminator, Generator, PropertyCNN
from ohlora_lib.properties.ensemble import Ensemble
from ohlora_lib.verdict import findings, logs
from ohlora_lib.verdict import verdict as trends

CONCEPT = trends.PUBLISHED_CONCEPT
WHOLE = (0.0, 1.0, 0.0, 1.0)


def ensemble(seed):
    torch.manual_seed(seed)
    nets = {}
    for prop in CONCEPT:
        net = PropertyCNN(prop, image_px=32, width=0.125, crop=WHOLE)
        net.fc_final[0].weight.data *= 20  # spread the scores, as a trained CNN would
        nets[prop] = [net]
    return Ensemble(nets)


class Brightness(Ensemble):
    """Scores every property by how bright an image is."""

    def scores(self, images):
        bright = images.float().mean((1, 2, 3)) / 255
        return bright[:, None].expand(-1, len(self.properties))


def train(folder, learning_rate, recipe, seed=0, selector=None, epochs=4):
    """The log of a small fine-tuning run on dark images: something to learn."""
    torch.manual_seed(seed)
    sizes = {"fmaps_base": 256, "fmaps_max": 16}
    base = Base(Generator(32, z_dim=32, w_dim=32, **sizes), Discriminator(32, **sizes))
    pixels = np.random.default_rng(seed).integers(0, 255, (48, 32, 32, 3), dtype=np.uint8)
    selected = torch.from_numpy(pixels // 4)
    settings = FinetuneSettings(
        epochs=epochs, batch=8, learning_rate=learning_rate, every_batches=1, r1_gamma=1.0
    )
    folder.mkdir()
    evaluator = Evaluator(selector or ensemble(1), ensemble(2), selected, samples=50)
    options = {"recipe": recipe, "wide_dim": 64, "grid_every": 100}
    run = FinetuneRun(folder, base, selected, evaluator, settings=settings, **options)
    assert run.train(lambda _: None)
    return logs.read_log(folder / "train_log.csv")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["v8", "v9"])
def test_no_learning_is_not_called_learning(tmp_path, recipe):
    log = train(tmp_path / "run", 0.0, recipe)
    assert len(log) == 25
    fixed = log[[f"fixed_{prop}_score" for prop in CONCEPT]]
    assert (fixed.nunique() == 1).all()  # the same latents, the same weights, the same scores
    assert log["mean_gender_score"].nunique() > 1  # while fresh latents do vary
    for source in ("mean", "heldout"):
        verdict = trends.run_verdict(log, CONCEPT, source=source)
        assert list(verdict["effect"]) == ["not shown"] * 4
    assert [finding.rule for finding in findings.of_log(log, CONCEPT)] == ["untrained"]


def moves(folder, seed=0):
    """Verdict of a run by brightness; `benchmarks.margins` measures it for other seeds."""
    selector = Brightness(ensemble(1).members)
    return trends.run_verdict(train(folder, 2e-2, "v9", seed, selector, epochs=20), CONCEPT)


@pytest.mark.slow
def test_learning_is_called_learning(tmp_path):
    """The samples darken: away from the targets of 1, towards those of 0."""
    effects = moves(tmp_path / "run")["effect"]
    assert list(effects) == ["moved away", "moved away", "closer", "closer"]
