"""Bases from StyleGAN2 files as people hold them, and files that lack a discriminator."""

import pytest
import torch

from ohlora_lib.base.base import import_base, load_base
from ohlora_lib.io.stylegan2.rosinality import rosinality
from ohlora_lib.io.weights import save_weights
from ohlora_lib.nets import Generator, stylegan2
from ohlora_lib.nets.samples import sample_images
from ohlora_lib.runner.stages import look
from ohlora_lib.study.parameters import TrainBase
from tests.checks import same
from tests.io.test_weights import complaint
from tests.official_file import JUDGE, SIZES, network, official_file, trapped


@pytest.fixture(params=[0, 3], ids=["plain", "conditional"])
def classes(request, tmp_path, monkeypatch):
    """Number of classes of official files, whose source text would create the file `trap`."""
    trapped(monkeypatch, tmp_path / "trap")
    monkeypatch.setitem(SIZES, "c_dim", request.param)
    monkeypatch.setitem(JUDGE, "c_dim", request.param)
    if request.param:
        monkeypatch.setitem(JUDGE, "mapping_layers", 8)
    yield request.param
    assert not (tmp_path / "trap").exists()


def test_an_official_file_alone_is_a_base(tmp_path, classes):
    path = tmp_path / "network.pkl"
    tensors = official_file(path, c_dim=classes)
    assert import_base(tmp_path, path, path) == "Weights of network.pkl, unchanged."
    base = load_base(tmp_path)
    assert same(base.generator.state_dict(), tensors["G_ema"])
    assert same(base.discriminator.state_dict(), tensors["D"])
    assert base.generator.num_properties == base.discriminator.num_properties == classes
    assert (base.generator.conv_clamp, base.discriminator.conv_clamp) == (256, 256)
    (images,) = sample_images(base.generator, 3, seed=0)
    assert images.shape == (3, 16, 16, 3)
    look("generator_file", stage(path), path, tmp_path)


def stage(path, source="files", **given):
    return TrainBase(source=source, generator_file=str(path), **given)


def test_a_file_of_rosinality_is_a_base_and_networks_must_fit(tmp_path, monkeypatch):
    path, judge = tmp_path / "550000.pt", tmp_path / "d.pt"
    nets = network("generator", 1), network("discriminator", 2)
    torch.save(dict(zip(("g_ema", "d"), map(rosinality, nets), strict=True)), path)
    import_base(tmp_path, path, path)
    base = load_base(tmp_path)
    assert same(base.generator.state_dict(), nets[0])
    assert same(base.discriminator.state_dict(), nets[1])
    torch.save({"d": network("discriminator", image_px=32)}, judge)
    said = complaint(lambda judge: import_base(tmp_path, path, judge), judge)
    assert f"its image_px is 32, but {path} has 16" in said


@pytest.mark.parametrize("name", ["g.pkl", "g.pt", "g.safetensors", "one.safetensors"])
def test_a_file_without_a_discriminator_is_refused_before_the_run(tmp_path, monkeypatch, name):
    path = tmp_path / name
    trapped(monkeypatch, tmp_path / "trap")
    if name == "g.pkl":
        official_file(path, discriminator=False)
    elif name == "g.pt":
        torch.save({"g_ema": rosinality(network("generator"))}, path)
    elif name == "g.safetensors":
        save_weights(stylegan2.Generator(8, z_dim=4, w_dim=4, channel_base=16), path)
    else:
        save_weights(Generator(8, z_dim=4, w_dim=4, fmaps_base=16), path)
    for refused in (
        complaint(lambda given: import_base(tmp_path, given, given), path),
        complaint(lambda given: look("generator_file", stage(given), given, tmp_path), path),
    ):
        assert "discriminator_file, or set `source: generator`" in refused
    remedied = stage(path, "generator", population_run="p")
    look("generator_file", remedied, path, tmp_path)
