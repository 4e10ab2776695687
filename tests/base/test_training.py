"""Base training: schedules, and an exact resume after a stop."""

import os
import signal

import numpy as np
import pytest
import torch

from ohlora_lib.base.base import (
    BaseRun,
    load_base,
    new_nets,
    training_images,
    with_new_discriminator,
)
from ohlora_lib.base.training import (
    BaseSettings,
    BaseTrainer,
    learning_rate,
    level_of_detail,
    resize_real,
)
from ohlora_lib.io.images import new_store
from ohlora_lib.io.weights import load_generator, save_weights
from ohlora_lib.nets import stylegan2
from ohlora_lib.nets.samples import draw_latents, to_signed
from ohlora_lib.training import checkpoint
from ohlora_lib.training.losses import NotFiniteError
from tests.checks import complaint

GROWING = BaseSettings(grow_kimg={"32": 150, "8": 30, "16": 60}, fade_kimg=20)
SETTINGS = {
    "total_kimg": 0.08, "grow_kimg": {"8": 0.02}, "fade_kimg": 0.02, "batch": 8,
    "learning_rate": 1e-2, "decay_kimg": 0.02, "r1_every": 2, "average_kimg": 0.02, "seed": 5,
}  # fmt: skip
SIZES = {"z_dim": 8, "w_dim": 8, "num_properties": 3, "fmaps_base": 64, "fmaps_max": 16}


def images(count=24):
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 16, 16, 3), dtype=torch.uint8, generator=random)


def nets(architecture="stylegan1"):
    torch.manual_seed(0)
    return new_nets(16, **SIZES, architecture=architecture)


def trainer(architecture="stylegan1", **changes):
    base = nets(architecture)
    settings = BaseSettings(**{**SETTINGS, **changes})
    return BaseTrainer(base.generator, base.discriminator, images(), settings)


def weights(one):
    return {
        f"{kind}.{name}": value.clone()
        for kind in ("generator", "average", "discriminator")
        for name, value in getattr(one, kind).state_dict().items()
    }


def different(a, b):
    assert a.keys() == b.keys()
    return {name for name in a if not torch.equal(a[name], b[name])}


@pytest.mark.parametrize(
    ("kimg", "lod"),
    [
        *((0, 3), (30, 3), (59.9, 2), (60, 2), (70, 1.5), (80, 1), (149, 1)),
        *((150, 1), (165, 0.25), (170, 0), (1e6, 0)),
    ],
)
def test_level_of_detail(kimg, lod):
    assert level_of_detail(kimg, GROWING, 64) == pytest.approx(lod)
    assert level_of_detail(kimg, BaseSettings(), 64) == 0


def test_learning_rate():
    settings = BaseSettings(total_kimg=100, decay_kimg=40, learning_rate=1e-2)
    rates = [learning_rate(kimg, settings) for kimg in (0, 60, 80, 99, 100)]
    assert rates == pytest.approx([1e-2, 1e-2, 5e-3, 5e-4, 5e-4])
    flat = BaseSettings(total_kimg=100, decay_kimg=0, learning_rate=1e-2)
    assert learning_rate(99.9, flat) == pytest.approx(1e-2)


def test_real_images_are_shrunk_and_faded():
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(resize_real(x, 0.0), x)
    half = torch.nn.functional.avg_pool2d(x, 2)
    torch.testing.assert_close(resize_real(x, 1.0), half)
    assert resize_real(x, 2.0).shape == (2, 3, 4, 4)
    coarse = torch.nn.functional.interpolate(half, scale_factor=2.0)
    torch.testing.assert_close(resize_real(x, 0.75), 0.25 * x + 0.75 * coarse)


def test_real_batch_is_half_mirrored():
    one = trainer()
    one.images = one.images[:1]
    batch = one.real_batch()
    assert batch.shape == (8, 3, 16, 16)
    torch.testing.assert_close(batch[0], batch[-1].flip(2))
    assert not torch.equal(batch[0], batch[-1])
    assert (batch.min().item(), batch.max().item()) == pytest.approx((-1, 1), abs=0.02)


@pytest.mark.parametrize("share", [0.0, 1.0, 0.5])
def test_share_of_latents_with_property_scores(share):
    z, properties = trainer(normal_labels=share, batch=2000).latents()
    assert z.std().item() == pytest.approx(1, abs=0.05)
    assert properties.any(dim=1).float().mean().item() == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize("mixing", [0.0, 1.0])
def test_style_mixing_mixes_late_layers_only(mixing):
    one, seen = trainer(mixing=mixing), []
    one.generator.synthesis.forward = lambda wp, *_: seen.append(wp)
    for _ in range(20):
        one.fake_batch(0.0)
    same = torch.stack([(wp == wp[:, :1]).all(dim=2).all(dim=0) for wp in seen])
    assert same[:, 0].all()  # the first layer has the first latent's style
    assert same[:, -1].all() if mixing == 0 else not same[:, -1].any()  # the last never
    assert (len(set(same.sum(dim=1).tolist())) > 1) == (mixing > 0)  # the crossover varies


def test_average_follows_the_generator():
    one = trainer(learning_rate=0.0)
    one.steps = 10**5  # past the warm-up: half-life 20 images, batch 8
    before = one.average.mapping.dense0.weight.clone()
    with torch.no_grad():
        one.generator.mapping.dense0.weight.add_(1.0)
        one.generator.truncation.w_avg.fill_(7.0)
    one.average_weights()
    moved = (one.average.mapping.dense0.weight - before).mean().item()
    assert moved == pytest.approx(1 - 0.5 ** (8 / 20), rel=1e-3)
    assert (one.average.truncation.w_avg == 7).all()  # buffers are copied
    assert not any(p.requires_grad for p in one.average.parameters())


def train(one):
    """Trains to the end and returns the rows of all steps."""
    return [one.step() for _ in range(round(one.settings.total_kimg * 1000 / 8))]


STILL = {  # parts of names of what training leaves as it is; 4 px was never shown
    "stylegan1": ("lod", "blur.kernel", "apply_noise.noise", ".output0.", ".input2."),
    "stylegan2": ("resample_filter", "noise_const"),
}


@pytest.mark.parametrize(("architecture", "grow"), [("stylegan1", 0.02), ("stylegan2", None)])
def test_training_moves_every_parameter_in_use(architecture, grow):
    one = trainer(architecture, grow_kimg={"8": grow} if grow else {})
    before = weights(one)
    rows = train(one)
    still = before.keys() - different(before, weights(one))
    assert still == {n for n in before if any(part in n for part in STILL[architecture])}
    assert [row["kimg"] for row in rows[2::3]] == pytest.approx([0.024, 0.048, 0.072])
    lods = [float(rows[step]["lod"]) for step in (2, 4, 5, 8)]
    assert lods == pytest.approx([1.0, 0.4, 0.0, 0.0] if grow else [0.0] * 4)
    assert all(p.requires_grad for p in one.discriminator.parameters())


def winning_discriminator(seed):
    """Trains with a fixed generator and returns the rows."""
    one = trainer(total_kimg=0.48, grow_kimg={}, r1_gamma=0.1, decay_kimg=0, seed=seed)
    one.update_generator = lambda lod: torch.zeros(())
    return train(one)


def test_discriminator_learns_to_tell_real_from_fake():
    assert winning_discriminator(1)[-1]["d_loss"] < 0.5 * 2 * 0.6931


def base_run(folder, **changes):
    return BaseRun(folder, nets(), images(), BaseSettings(**SETTINGS | changes))


def at_step(one, number, do):
    """Calls `do` after a given step of a run."""
    step = one.trainer.step

    def step_and_do():
        row = step()
        if one.trainer.steps == number:
            do()
        return row

    one.trainer.step = step_and_do


def test_a_stop_saves_at_that_step_and_the_next_start_goes_on(tmp_path):
    """`system/faults` compares the results with those of an uninterrupted training."""
    stopped = base_run(tmp_path)
    at_step(stopped, 4, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match="saved at 0.03 kimg"):
        stopped.train(0.02)
    resumed = base_run(tmp_path)
    assert resumed.trainer.steps == 4
    assert resumed.train(0.02)["kimg"].tolist() == pytest.approx([0.024, 0.04, 0.064, 0.08])
    average = resumed.trainer.average.mapping.dense0.weight
    assert torch.equal(load_base(tmp_path).generator.mapping.dense0.weight, average)
    assert list((tmp_path / "images").glob("samples-*.png"))


def test_a_nan_loss_resumes_from_the_last_report_with_the_same_inputs_only(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "MOST_SHARE", 1e9)  # save at every report
    ended = base_run(tmp_path)
    weight = ended.trainer.generator.mapping.dense0.weight.data
    at_step(ended, 4, lambda: weight.fill_(float("nan")))
    with pytest.raises(NotFiniteError):
        ended.train(0.02)
    resumed = base_run(tmp_path)
    assert (resumed.trainer.steps, len(resumed.trainer.rows)) == (3, 1)
    assert resumed.trainer.generator.mapping.dense0.weight.isfinite().all()
    with pytest.raises(ValueError, match=r"because r1_gamma was .* and is now 7\.0"):
        base_run(tmp_path, r1_gamma=7.0)
    with pytest.raises(ValueError, match="because images changed"):
        BaseRun(tmp_path, nets(), images().flip(0), BaseSettings(**SETTINGS))


def test_images_of_a_base_must_have_its_size(tmp_path):
    shown = training_images(None, count=3, seed=1, image_px=32)
    with new_store(tmp_path / "images" / "images.npy", 32) as store:
        store.append(shown)
    options = {"count": 9, "seed": 1}
    assert np.array_equal(training_images(tmp_path, image_px=32, **options), shown)
    said = complaint(training_images, tmp_path, image_px=64, **options)
    assert "its images have 32 px, but image_px is 64" in said


def alone(folder):
    """Writes a class-conditional StyleGAN2 generator, without its discriminator, to a file."""
    torch.manual_seed(3)
    sizes = {"z_dim": 8, "w_dim": 8, "channel_base": 128, "channel_max": 16, "c_dim": 3}
    save_weights(stylegan2.Generator(16, **sizes, conv_clamp=256), folder / "alone.safetensors")
    return folder / "alone.safetensors"


def discriminator_run(folder, path, seed=5, **changes):
    torch.manual_seed(seed)
    options = {"grow_kimg": {}, "r1_gamma": 0.1, "learning_rate": 5e-3, "total_kimg": 0.24}
    settings = BaseSettings(**SETTINGS | options | {"seed": seed} | changes)
    return BaseRun(folder, with_new_discriminator(path), images(), settings, keep_generator=True)


def separation(base):
    """Lowest score of a real image minus highest of a sample, in standard deviations of both."""
    z, labels = draw_latents(base.generator, 24, seed=9)
    with torch.no_grad():
        scores = [base.discriminator(x) for x in (to_signed(images()), base.generator(z, labels))]
    return ((scores[0].min() - scores[1].max()) / torch.cat(scores).std()).item()


def new_discriminator(folder, seed):
    """Trains a new discriminator; returns the separation."""
    log = discriminator_run(folder, alone(folder), seed).train(0.08)
    assert list(log) == ["kimg", "d_loss"]
    return separation(load_base(folder))


def test_a_new_discriminator_learns_and_the_generator_stays_bit_equal(tmp_path):
    assert new_discriminator(tmp_path, 5) > 0.5
    start, end = with_new_discriminator(alone(tmp_path)), load_base(tmp_path)
    assert separation(start) < 0
    assert (end.discriminator.conv_clamp, end.discriminator.c_dim) == (256, 0)
    assert different(start.generator.state_dict(), end.generator.state_dict()) == set()


def test_training_a_discriminator_resumes_with_the_same_generator_only(tmp_path):
    path = alone(tmp_path)
    stopped = discriminator_run(tmp_path / "run", path)
    at_step(stopped, 4, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match="saved at"):
        stopped.train(0.02)
    assert discriminator_run(tmp_path / "run", path).trainer.steps == 4
    net = load_generator(path)
    net.mapping.w_avg[0] = 1
    save_weights(net, path)
    assert "because generator changed" in complaint(discriminator_run, tmp_path / "run", path)
