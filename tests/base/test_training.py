"""Base training: schedules, and a stop that leaves no trace."""

import dataclasses
import os
import signal

import pytest
import torch

from ohlora_lib.base.base import Base, BaseRun, load_base, new_nets
from ohlora_lib.base.training import (
    BaseSettings,
    BaseTrainer,
    learning_rate,
    level_of_detail,
    resize_real,
)
from ohlora_lib.training import checkpoint
from ohlora_lib.training.losses import NotFiniteError

GROWING = BaseSettings(grow_kimg={"16": 60, "32": 150}, fade_kimg=20)
SETTINGS = {
    "total_kimg": 0.08, "grow_kimg": {"8": 0.02}, "fade_kimg": 0.02, "batch": 8,
    "learning_rate": 1e-2, "decay_kimg": 0.02, "r1_every": 2, "average_kimg": 0.02, "seed": 5,
}  # fmt: skip
SIZES = {"z_dim": 8, "w_dim": 8, "num_properties": 3, "fmaps_base": 64, "fmaps_max": 16}


def images(count=24):
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 16, 16, 3), dtype=torch.uint8, generator=random)


def nets():
    torch.manual_seed(0)
    return new_nets(16, **SIZES)


def trainer(**changes):
    base = nets()
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
        *((0, 2), (59.9, 2), (60, 2), (70, 1.5), (80, 1), (149, 1)),
        *((150, 1), (165, 0.25), (170, 0), (1e6, 0)),
    ],
)
def test_level_of_detail(kimg, lod):
    assert level_of_detail(kimg, GROWING, 64) == pytest.approx(lod)


def test_level_of_detail_sorts_sizes_as_numbers():
    settings = BaseSettings(grow_kimg={"16": 30, "8": 10}, fade_kimg=5)
    assert [level_of_detail(k, settings, 32) for k in (0, 20, 40)] == [2, 1, 0]
    assert level_of_detail(0, BaseSettings(), 64) == 0


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


@pytest.mark.parametrize(("share", "zero"), [(0.0, 1.0), (1.0, 0.0), (0.5, 0.5)])
def test_share_of_latents_with_scores(share, zero):
    one = trainer(normal_labels=share, batch=2000)
    z, properties = one.latents()
    assert z.std().item() == pytest.approx(1, abs=0.05)
    assert (~properties.any(dim=1)).float().mean().item() == pytest.approx(zero, abs=0.05)


def test_style_mixing_mixes_late_layers_only():
    one = trainer(mixing=1.0)
    seen = []
    one.generator.synthesis.forward = lambda wp, *_: seen.append(wp) or torch.zeros(8, 3, 16, 16)
    for _ in range(20):
        one.fake_batch(0.0)
    same = torch.stack([(wp == wp[:, :1]).all(dim=2).all(dim=0) for wp in seen])
    assert same[:, 0].all()  # the first layer is the first latent's
    assert not same[:, -1].any()  # the last one never is
    assert len(set(same.sum(dim=1).tolist())) > 1  # the place varies
    plain = trainer(mixing=0.0)
    plain.generator.synthesis.forward = lambda wp, *_: seen.append(wp) or torch.zeros(8, 3, 16, 16)
    plain.fake_batch(0.0)
    assert (seen[-1] == seen[-1][:, :1]).all()


def test_average_follows_the_generator():
    one = trainer(learning_rate=0.0)
    one.images_seen = 10**6  # past the warm-up: half-life 20 images, batch 8
    before = one.average.mapping.dense0.weight.clone()
    with torch.no_grad():
        one.generator.mapping.dense0.weight.add_(1.0)
        one.generator.truncation.w_avg.fill_(7.0)
    one.average_weights()
    moved = (one.average.mapping.dense0.weight - before).mean().item()
    assert moved == pytest.approx(1 - 0.5 ** (8 / 20), rel=1e-3)
    assert (one.average.truncation.w_avg == 7).all()  # buffers are copied
    assert not any(p.requires_grad for p in one.average.parameters())


def run(one, every_kimg=0.02, stop_after=None):
    rows = []

    def report(_, row):
        rows.append(row)
        if len(rows) == stop_after:
            raise KeyboardInterrupt

    if stop_after:
        with pytest.raises(KeyboardInterrupt):
            one.run(every_kimg, report)
    else:
        one.run(every_kimg, report)
    return rows


def test_training_moves_every_parameter_in_use():
    one = trainer()
    before = weights(one)
    rows = run(one)
    still = before.keys() - different(before, weights(one))
    constant = {n for n in before if n.endswith(("lod", "blur.kernel", "apply_noise.noise"))}
    unused = {n for n in before if ".output0." in n or ".input2." in n}  # 4 px was never shown
    assert still == constant | unused
    assert [row["kimg"] for row in rows] == pytest.approx([0.024, 0.04, 0.064, 0.08])
    assert [row["lod"] for row in rows] == pytest.approx([1.0, 0.4, 0.0, 0.0])
    assert all(p.requires_grad for p in one.discriminator.parameters())


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_resume_equals_uninterrupted(tmp_path, stop_after):
    whole = trainer()
    rows = run(whole)
    wanted = weights(whole)
    one = trainer()
    first = run(one, stop_after=stop_after)
    torch.save(one.state(), tmp_path / "state.pt")
    again = trainer()
    torch.manual_seed(99)  # a fresh process is somewhere else
    again.load(torch.load(tmp_path / "state.pt", weights_only=True))
    rest = run(again)
    assert different(weights(again), wanted) == set()
    assert first + rest == rows
    assert different(weights(trainer(seed=6)), wanted) != set()


def winning_discriminator(seed=1):
    """Rows of a training while the generator is held."""
    one = trainer(total_kimg=0.48, grow_kimg={}, r1_gamma=0.1, decay_kimg=0, seed=seed)
    one.update_generator = lambda lod: torch.zeros(())
    return run(one, 0.16)


def test_discriminator_learns_to_tell_real_from_fake():
    rows = winning_discriminator()
    assert rows[-1]["d_loss"] < 0.5 * 2 * 0.6931


def test_run_in_a_folder_resumes_and_leaves_loadable_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoint, "MOST_SHARE", 1e9)  # at every report, however short
    settings = BaseSettings(**SETTINGS)
    whole = BaseRun(tmp_path / "whole", nets(), images(), settings).train(0.02)
    stopped = BaseRun(tmp_path / "run", nets(), images(), settings)
    report, count = stopped._report, []

    def stop(one, row):
        report(one, row)
        count.append(0)
        if len(count) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(stopped, "_report", stop)
    with pytest.raises(KeyboardInterrupt):
        stopped.train(0.02)
    resumed = BaseRun(tmp_path / "run", nets(), images(), settings)
    assert resumed.trainer.images_seen == 40
    log = resumed.train(0.02)
    assert log.to_dict("list") == whole.to_dict("list")
    there, here = load_base(tmp_path / "whole"), load_base(tmp_path / "run")
    assert isinstance(here, Base)
    for a, b in ((there.generator, here.generator), (there.discriminator, here.discriminator)):
        assert different(a.state_dict(), b.state_dict()) == set()
    average = resumed.trainer.average.mapping.dense0.weight
    assert torch.equal(here.generator.mapping.dense0.weight, average)
    assert (tmp_path / "run" / "checkpoints" / "state.pt").exists()  # until the summary is there
    other = dataclasses.replace(settings, r1_gamma=7.0)
    with pytest.raises(ValueError, match=r"because r1_gamma was .* and is now 7\.0, images is"):
        BaseRun(tmp_path / "run", nets(), images().flip(0), other)
    assert len(list((tmp_path / "run" / "images").glob("samples-*.png"))) >= 1
    assert "d_loss" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_saves_at_that_step_and_the_rest_is_as_if_never_stopped(tmp_path, number):
    settings = BaseSettings(**SETTINGS)
    whole = BaseRun(tmp_path / "whole", nets(), images(), settings).train(0.02)
    stopped, terminated = BaseRun(tmp_path / "run", nets(), images(), settings), []
    step = stopped.trainer.step

    def step_and_stop():
        losses = step()
        if stopped.trainer.steps == 4:
            os.kill(os.getpid(), number)
        return losses

    stopped.trainer.step = step_and_stop
    before = signal.signal(signal.SIGTERM, lambda *_: terminated.append(0))
    try:
        with pytest.raises(KeyboardInterrupt, match="saved at 0.03 kimg"):
            stopped.train(0.02)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(terminated) == (number == signal.SIGTERM)  # it arrives once all is saved
    resumed = BaseRun(tmp_path / "run", nets(), images(), settings)
    assert resumed.trainer.steps == 4
    assert resumed.train(0.02).to_dict("list") == whole.to_dict("list")


def test_a_loss_that_is_no_number_keeps_the_last_checkpoint(tmp_path):
    settings = BaseSettings(**SETTINGS)
    one = BaseRun(tmp_path, nets(), images(), settings)
    step = one.trainer.step

    def diverge():
        if one.trainer.steps == 3:
            with torch.no_grad():
                one.trainer.generator.mapping.dense0.weight.fill_(float("nan"))
        return step()

    one.trainer.step = diverge
    with pytest.raises(NotFiniteError, match="loss is nan"):
        one.train(0.02)
    again = BaseRun(tmp_path, nets(), images(), settings)
    assert again.trainer.generator.mapping.dense0.weight.isfinite().all()
    assert again.trainer.steps == 3
