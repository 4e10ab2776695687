"""Devices other than the CPU: no update reads a value back, and a GPU gives the CPU's results.

The first is tested without a GPU, in float32, on PyTorch's `meta` device: its tensors have no
values, so reading one raises, and so does combining one with a tensor on the CPU.
"""

import contextlib

import numpy as np
import pytest
import torch

from benchmarks.cases import QUICK, QUICK_2, new_tuner
from ohlora_lib.finetune import loop
from ohlora_lib.nets import Generator, PropertyCNN
from ohlora_lib.nets.samples import sample_images, to_signed
from ohlora_lib.properties import ensemble, published
from ohlora_lib.properties.ensemble import Ensemble
from ohlora_lib.properties.lesson import CNNSettings, Lesson
from ohlora_lib.properties.published import train_epoch
from ohlora_lib.training.losses import finite_loss

CPU, META, GPU = map(torch.device, ("cpu", "meta", "cuda"))
HostGenerator = torch.Generator


class AnyDevicesGenerator(HostGenerator):
    """Random generator that accepts any device and stays on the CPU."""

    def __new__(cls, _device=None):
        return HostGenerator.__new__(cls, "cpu")

    def __init__(self, _device=None):
        pass


@pytest.fixture
def meta(monkeypatch):
    """Replaces what `meta` lacks: random generators and automatic mixed precision."""
    monkeypatch.setattr(torch, "Generator", AnyDevicesGenerator)
    for module in (loop, ensemble, published):
        monkeypatch.setattr(module, "autocast", lambda *_: contextlib.nullcontext())


@pytest.mark.usefixtures("meta")
@pytest.mark.parametrize("sizes", [QUICK, QUICK_2], ids=lambda sizes: sizes.architecture)
def test_an_update_never_reads_a_value(sizes):
    tuner = new_tuner(sizes, META, "float32")
    tuner.latents = lambda batch: (torch.randn(batch, tuner.generator.z_dim, device=META), None)
    real = to_signed(tuner.images)
    for _ in range(2):  # in the second, the optimizers have a state
        results = [tuner.update_discriminator(real), tuner.update_generator(real)]
    assert {result.device for result in (*results, *tuner.last_scores)} == {META}
    with pytest.raises(NotImplementedError):  # the adaptive rule does this once per update
        finite_loss(results[-1], "g_loss")
    tuner.latents = lambda batch: (torch.randn(batch, tuner.generator.z_dim), None)
    with pytest.raises(RuntimeError, match="not on the expected device"):
        tuner.update_generator(real)


@pytest.mark.usefixtures("meta")
def test_scoring_reads_no_value_and_an_epoch_of_a_cnn_reads_one(monkeypatch):
    net = PropertyCNN("gender", image_px=32, width=0.125).to(META)
    images = torch.zeros(10, 32, 32, 3, dtype=torch.uint8, device=META)
    cnns = Ensemble({"gender": [net]})
    assert cnns.scores(images).device == cnns.features(images).device == META
    waits, item = [], torch.Tensor.item

    def wait(tensor):
        if tensor.device != META:
            return item(tensor)
        waits.append(tensor.shape)
        return 0.0

    monkeypatch.setattr(torch.Tensor, "item", wait)
    optimizer = torch.optim.AdamW(net.requires_grad_(True).parameters())
    settings = CNNSettings(architecture="published", batch=4)
    lesson = Lesson(images, np.zeros((10, 1)), ("gender",), settings)
    rows = torch.arange(10, device=META)
    assert train_epoch(net, optimizer, lesson, rows, HostGenerator()) == 0.0
    assert waits == [()]  # the mean loss


def trained(device, *, own_draws=True, stop=False):
    """Losses of six batches; without `own_draws`, latents come from the CPU and noise is fixed."""
    random = HostGenerator().manual_seed(3)

    def start():
        tuner = new_tuner(QUICK, device, "float32")
        if not own_draws:
            draw, size = tuner.generator.forward, tuner.generator.z_dim
            tuner.latents = lambda batch: (
                torch.randn(batch, size, generator=random).to(device),
                None,
            )
            tuner.generator.forward = lambda z, *_, **__: draw(z)
        return tuner

    tuner, done = start(), []
    for k in range(6):
        if stop and k == 3:
            state, tuner = tuner.state(), start()
            tuner.load(state)
        done.append(tuner.train_batch(to_signed(tuner.images)))
    return [loss for batch in done for loss in (batch["d_loss"], batch["g_loss"])]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_resumes_draws_and_scores_as_the_cpu_does(monkeypatch):
    """Covers R1, both updates and, through the later batches' losses, the optimizer steps."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # TF32 rounds to 19 bits
    here, there = (trained(device, own_draws=False)[:6] for device in (CPU, GPU))
    assert there == pytest.approx(here, rel=5e-3)
    assert trained(GPU, stop=True) == pytest.approx(trained(GPU), rel=1e-3)
    torch.manual_seed(0)
    generator = Generator(32, z_dim=8, w_dim=8, fmaps_base=512).eval()
    nets = {"gender": [PropertyCNN("gender", image_px=32, width=0.125) for _ in range(2)]}
    found = []
    for device in (CPU, GPU):
        (images,) = sample_images(generator.to(device), 20, seed=1, batch=20)
        scores = Ensemble(nets).to(device).scores(images)
        found.append((images.cpu().int(), scores.cpu()))
    (host, host_scores), (device, device_scores) = found
    assert (host - device).abs().max() <= 1
    assert torch.allclose(host_scores, device_scores, atol=1e-3)
    assert host.float().std() > 1
