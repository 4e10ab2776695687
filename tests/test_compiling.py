"""Compiled drawing: only where it pays, only another rounding, and never a reason to fail."""

import shutil

import pytest
import torch

from benchmarks.cases import QUICK, new_tuner
from ohlora_lib import compiling
from ohlora_lib.compiling import CompiledDraw, draw_eagerly, pays
from ohlora_lib.images import to_signed
from ohlora_lib.nets import Generator
from ohlora_lib.selection import drawn_at_once, sample_images

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++"))), reason="needs a C++ compiler"
)


@pytest.fixture(scope="module")
def nets():
    """Two generators of one structure, other weights each, noise not zero."""
    made = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        net = Generator(8, z_dim=8, w_dim=8, fmaps_base=64, num_properties=0).eval()
        for name, parameter in net.named_parameters():
            if name.endswith("apply_noise.weight"):
                torch.nn.init.normal_(parameter)
        made.append(net)
    return made


@pytest.fixture(scope="module")
def compiled():
    """One for the whole module: compiling takes some seconds a structure."""
    return CompiledDraw(4)


@pytest.mark.parametrize(
    ("device", "images", "speedup", "wanted"),
    [("cpu", 2**31, 2.1, True), ("cpu", 2**31, 1.1, False), ("cpu", 100, 2.1, False),
     ("cuda", 2**31, 2.1, False)],
)  # fmt: skip
def test_only_long_runs_on_a_cpu_that_gains_are_compiled(
    monkeypatch, capsys, nets, device, images, speedup, wanted
):
    monkeypatch.setattr(compiling, "known_speedup", lambda _: speedup)
    assert pays(images, nets[0], torch.device(device), "float32") is wanted
    said = capsys.readouterr().out
    assert ("2.1 times as fast here, after a minute or two" in said) is wanted


def test_a_short_run_measures_nothing(monkeypatch, nets):
    monkeypatch.setattr(compiling, "known_speedup", lambda _: pytest.fail("measured"))
    assert not pays(1000, nets[0], CPU, "float32")


def test_without_a_compiler_it_is_said_and_nothing_fails(monkeypatch, capsys, tmp_path, nets):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiling, "CompiledDraw", lambda _: broken)
    assert not pays(2**31, nets[0], CPU, "float32")
    said = capsys.readouterr().out
    assert "Nothing is compiled, as no compiler works here (none found)." in said
    assert not list(tmp_path.rglob("*.json"))  # a compiler installed later is looked for again


def broken(*_, **__):
    raise RuntimeError("none found\n\nand forty lines more")


@needs_compiler
@pytest.mark.parametrize("noise", ["fixed", "random"])
def test_only_the_rounding_differs(nets, compiled, noise):
    z = torch.randn(4, 8)
    for net in nets:  # the second has the first one's code, and its own weights
        images = []
        for way in (draw_eagerly, compiled):
            torch.manual_seed(5)
            with torch.no_grad():
                images.append(way(net, z, noise=noise))
        torch.testing.assert_close(*images, rtol=1e-4, atol=1e-4)
        assert images[0].std() > 0.1


def test_other_numbers_of_images_are_drawn_as_ever(nets, compiled):
    compiled = CompiledDraw(4)
    compiled._call = broken
    assert torch.equal(compiled(nets[0], torch.ones(3, 8)), nets[0](torch.ones(3, 8)))
    with pytest.raises(RuntimeError, match="none found"):
        compiled(nets[0], torch.ones(4, 8))


@needs_compiler
def test_samples_are_drawn_by_it(nets, compiled, monkeypatch):
    monkeypatch.setattr("ohlora_lib.precision.MAP_NUMBERS", 4 * nets[0].widest_map)
    assert drawn_at_once(nets[0], 10, CPU) == 4
    sizes = []

    def way(net, z, *inputs):
        sizes.append(len(z))
        return compiled(net, z, *inputs)

    (images,) = sample_images(nets[0], 10, seed=2, batch=10, draw=way)
    (wanted,) = sample_images(nets[0], 10, seed=2, batch=10)
    assert sizes == [4, 4, 2]
    assert (images.int() - wanted.int()).abs().max() <= 1


@needs_compiler
def test_a_fine_tuning_by_it_learns_the_same_and_goes_on_the_same():
    """R1 and both updates, a short batch, and a stop half-way, which must leave no trace."""
    real = to_signed(new_tuner(QUICK, CPU, "float32").images)
    parts = [real, real[:2], real, real]
    states = []
    for way, stop in ((draw_eagerly, False), (CompiledDraw(len(real)), False), (None, True)):
        tuner = new_tuner(QUICK, CPU, "float32", draw=way or CompiledDraw(len(real)))
        done = [tuner.train_batch(part) for part in parts[:2]]
        if stop:
            state = tuner.state()
            tuner = new_tuner(QUICK, CPU, "float32", draw=CompiledDraw(len(real)))
            tuner.load(state)
        done += [tuner.train_batch(part) for part in parts[2:]]
        losses = torch.tensor([[batch.d_loss, batch.g_loss] for batch in done])
        states.append([losses, *tuner.generator.state_dict().values()])
    for eager, by_code, resumed in zip(*states, strict=True):
        torch.testing.assert_close(by_code, eager, rtol=1e-3, atol=1e-3)
        assert torch.equal(by_code, resumed)
