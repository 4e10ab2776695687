"""Devices and number formats are picked by name, and wrong names are told."""

import pytest
import torch

from ohlora_lib.nets import Generator, compute
from ohlora_lib.nets.compute import (
    autocast,
    choice_sentence,
    images_at_once,
    pick_device,
    pick_precision,
)
from ohlora_lib.nets.samples import sample_images

CPU = torch.device("cpu")


def test_device_by_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("cpu") == CPU
    assert pick_device("auto") == CPU
    with pytest.raises(ValueError, match="'cuda', but this machine has no CUDA; use auto or cpu"):
        pick_device("cuda")
    with pytest.raises(ValueError, match="device is 'tpu'; it must be auto, cpu or cuda"):
        pick_device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match="'cuda:2', but the last GPU of this machine is cuda:1"):
        pick_device("cuda:2")


@pytest.mark.parametrize(
    ("flags", "wanted", "said"),
    [
        ("fpu avx512_bf16 amx_bf16", "bfloat16", "has avx512_bf16 and amx_bf16."),
        ("fpu avx2", "float32", "has neither avx512_bf16 nor amx_bf16."),
    ],
)
def test_auto_goes_by_the_flags_of_the_processor(monkeypatch, tmp_path, flags, wanted, said):
    (tmp_path / "cpuinfo").write_text(f"processor: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr(compute, "Path", lambda _: tmp_path / "cpuinfo")
    assert pick_precision("auto", CPU) == wanted
    assert choice_sentence(wanted, CPU).endswith(said)
    assert pick_precision("float32", CPU) == "float32"
    assert pick_precision("bfloat16", CPU) == "bfloat16"
    (tmp_path / "cpuinfo").unlink()  # a system that does not tell
    assert pick_precision("auto", CPU) == "float32"


def test_bad_precision():
    with pytest.raises(ValueError, match=r"precision is 'float16'; it must be one of"):
        pick_precision("float16", CPU)


@pytest.mark.parametrize(
    ("name", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_autocast(name, dtype):
    layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    with autocast(CPU, name):
        assert layer(x).dtype == dtype


def test_a_cpu_takes_as_many_images_at_a_time_as_are_of_use():
    counts = [images_at_once(px**2 * 64, CPU) for px in (32, 64, 256, 1024)]
    assert counts == [128, 32, 4, 4]
    assert images_at_once(1, CPU) == images_at_once(10**9, torch.device("cuda")) == 250


def test_how_many_at_a_time_changes_no_image(monkeypatch):
    torch.manual_seed(0)
    net = Generator(32, z_dim=8, w_dim=8, fmaps_base=64)
    assert net.widest_map == 2 * 32**2
    (some,) = sample_images(net, 7, seed=1, batch=7)
    monkeypatch.setattr(compute, "MAP_NUMBERS", 5 * net.widest_map)
    (others,) = sample_images(net, 7, seed=1, batch=7)
    assert (some.int() - others.int()).abs().max() <= 1  # sums may round otherwise
    assert len(list(sample_images(net, 7, seed=1, batch=3))) == 3
