"""The loop: which parameters are trained, which stay frozen, and how often networks update."""

import pytest
import torch

from ohlora_lib.evaluation.evaluator import Evaluation
from ohlora_lib.finetune.loop import FineTuner, FinetuneSettings, auroc, finetune
from ohlora_lib.finetune.recipe import RECIPES
from ohlora_lib.nets import Discriminator, Generator, stylegan2
from tests.checks import same

SETTINGS = {
    "epochs": 2, "batch": 4, "learning_rate": 1e-2, "every_batches": 2, "first_epoch_every": 2,
    "first_epoch_each": 1, "seed": 3,
}  # fmt: skip


def tuner(version="v9", images=10, seed=0, architecture="stylegan1", image_px=32, **changes):
    """Builds a new tuner on each call: training changes the networks in place."""
    torch.manual_seed(seed)
    widths = {"z_dim": 8, "w_dim": 8, "wide_dim": 12 * (version == "v9")}
    if architecture == "stylegan1":
        sizes = {"fmaps_base": 64}
        nets = Generator(image_px, **widths, **sizes), Discriminator(image_px, **sizes)
    else:
        sizes = {"channel_base": max(64, image_px), "channel_max": 8}
        net = stylegan2.Generator(image_px, **widths, **sizes)
        nets = net, stylegan2.Discriminator(image_px, **sizes)
    pixels = torch.randint(0, 256, (images, image_px, image_px, 3), dtype=torch.uint8)
    settings = FinetuneSettings(**SETTINGS | changes)
    return FineTuner(*nets, pixels, RECIPES[version], settings)


def evaluate(generator, index):
    """Stub evaluator whose values depend only on the weights."""
    total = sum(p.double().sum().item() for p in generator.parameters())
    return Evaluation({"mean_gender_score": total, "diversity": float(index)}, None)


def train(one, on_batch=lambda _: None):
    for _ in finetune(one, evaluate, []):
        on_batch(one)
    return one.finished


def trained(**changes):
    one = tuner(**changes)
    assert train(one)
    return one


def weights(one):
    nets = {"generator": one.generator, "discriminator": one.discriminator}
    return {
        f"{kind}.{name}": value.clone()
        for kind, net in nets.items()
        for name, value in net.state_dict().items()
    }


@pytest.mark.parametrize(
    ("architecture", "version", "image_px", "precision", "idle"),
    [
        *(("stylegan1", "v8", 32, "float32", 2), ("stylegan1", "v9", 32, "float32", 10)),
        *(("stylegan2", "v8", 32, "bfloat16", 0), ("stylegan2", "v9", 32, "float32", 0)),
        *(("stylegan2", "v8", 256, "float32", 0), ("stylegan2", "v9", 64, "bfloat16", 0)),
    ],
)
def test_trainable_parameters_move_and_frozen_ones_stay_bit_equal(
    architecture, version, image_px, precision, idle
):
    kind = {"architecture": architecture, "image_px": image_px, "precision": precision}
    one = tuner(version, 4, epochs=1, **kind)
    before = weights(one)
    nets = (one.generator, one.discriminator)
    flags = [p.requires_grad for net in nets for p in net.parameters()]
    assert train(one)
    moved = {name for name, value in weights(one).items() if not torch.equal(before[name], value)}
    trainable = {f"generator.{n}" for n in one.g_names}
    trainable |= {f"discriminator.{n}" for n in one.d_names}
    # A StyleGAN1's full-size images use only the last output and the first input.
    without = {n for n in trainable if "synthesis.output" in n or ".input" in n}
    assert len(without) == idle
    average = "truncation" if architecture == "stylegan1" else "mapping"
    assert moved == trainable - without | {f"generator.{average}.w_avg"}
    assert [p.requires_grad for net in nets for p in net.parameters()] == flags


def test_bfloat16_gives_a_stylegan2_nearly_the_same_first_losses():
    found = {}
    for precision in ("float32", "bfloat16"):
        one = tuner(architecture="stylegan2", precision=precision, r1_gamma=100.0)
        batch = one.train_batch(next(one.batches())[2])
        found[precision] = [batch["d_loss"], batch["g_loss"]]
    assert found["bfloat16"] != found["float32"]
    assert found["bfloat16"] == pytest.approx(
        found["float32"], rel=5e-3
    )  # without R1: off by 0.05


def winning_discriminator(seed=0):
    """Trains only the discriminator; the generator is held fixed."""
    one = tuner("v9", 16, seed, batch=16, epochs=25, r1_gamma=0.1, first_epoch_each=0)
    one.g_optimizer.param_groups[0]["lr"] = 0.0
    assert train(one)
    return one


@pytest.mark.slow
def test_the_discriminator_learns_to_tell_real_from_fake():
    """Over 20 seeds, the last loss is at most 0.404 of the first; see `benchmarks.margins`."""
    first, *_, last = winning_discriminator().rows
    assert last["d_loss"] < 0.7 * first["d_loss"]
    assert last["real_scores_mean"] - last["fake_scores_mean"] > 0.5
    assert last["real_fake_auroc"] > 0.9


def test_every_image_is_used_once_per_epoch_including_the_last_short_batch():
    one = tuner(images=10, epochs=2)
    one.images[:] = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1)
    seen = [(epoch, idx, real) for epoch, idx, real in one.batches()]
    places = [(e, i) for e in (0, 1) for i in range(3)]
    assert [(epoch, idx) for epoch, idx, _ in seen] == [*places, (2, 0)]  # the closing batch
    assert [len(real) for *_, real in seen] == [4, 4, 2] * 2 + [4]
    numbers = [
        torch.cat([((real[:, 0, 0, 0] + 1) * 127.5).round() for e, _, real in seen if e == epoch])
        for epoch in (0, 1)
    ]
    for epoch in numbers:
        assert sorted(epoch.tolist()) == list(range(10))
    assert not torch.equal(*numbers)  # reshuffled each epoch
    assert one.total_batches == one.batches_done == 7


def test_auroc():
    low, high = torch.tensor([0.0, 1.0]), torch.tensor([2.0, 3.0])
    assert auroc([(high, low)]) == 1
    assert auroc([(low, high)]) == 0
    assert auroc([(low, low)]) == 0.5
    assert auroc([(high, low), (low, high)]) == 0.5  # pooled, not averaged pairwise


def test_pooled_auroc_is_over_all_batches_since_the_last_row():
    one = tuner(epochs=1)
    seen = []
    assert train(one, lambda one: seen.append(one.last_scores))
    assert one.rows[1]["pooled_auroc"] == pytest.approx(auroc(seen[1:3]))
    assert one.rows[1]["real_fake_auroc"] == pytest.approx(auroc(seen[2:3]))


def test_averaged_weights_lag_behind_and_do_not_affect_training():
    plain, averaged = trained(), trained(average_batches=1.0)
    assert plain.result is plain.generator
    assert averaged.result is averaged.average
    assert same(weights(plain), weights(averaged))  # averaging leaves the training unchanged
    trained_w = dict(averaged.generator.named_parameters())
    start_w = dict(tuner().generator.named_parameters())
    name = "synthesis.layer0.const"
    mean = dict(averaged.average.named_parameters())[name]
    assert not torch.equal(mean, trained_w[name])
    assert (mean - trained_w[name]).norm() < (start_w[name] - trained_w[name]).norm()
    w_avg = averaged.generator.truncation.w_avg
    assert torch.equal(averaged.average.truncation.w_avg, w_avg)


def test_a_class_conditional_stylegan2_gets_labels_and_its_discriminator_zeros():
    both = {"c_dim": 3, "channel_base": 64, "channel_max": 8}
    nets = stylegan2.Generator(16, z_dim=8, w_dim=8, **both), stylegan2.Discriminator(16, **both)
    pixels = torch.randint(0, 256, (8, 16, 16, 3), dtype=torch.uint8)
    one = FineTuner(*nets, pixels, RECIPES["v8"], FinetuneSettings(**SETTINGS | {"epochs": 1}))
    drawn, judged = [], []
    for net, labels in zip(nets, (drawn, judged), strict=True):
        net.mapping.register_forward_pre_hook(lambda _, given, keep=labels: keep.append(given[1]))
    assert train(one)
    labels = torch.cat(drawn)
    assert labels.sum(1).eq(1).all()
    assert labels.max(1).values.eq(1).all()
    assert labels.sum(0).gt(0).all()  # every class
    assert not torch.cat(judged).any()
