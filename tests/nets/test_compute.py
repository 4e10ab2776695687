"""Devices and number formats are picked by name; unknown names raise."""

import os
import subprocess
import sys

import pytest
import torch

from ohlora_lib.nets import Generator, compute
from ohlora_lib.nets.compute import choice_sentence, images_at_once, pick_device, pick_precision
from ohlora_lib.nets.samples import sample_images
from tests.checks import complaint

CPU = torch.device("cpu")


@pytest.mark.parametrize(("given", "wanted"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_waiting_threads_soon_sleep_unless_the_user_says_otherwise(given, wanted):
    env = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"} | given
    code = "import ohlora_lib, os; print(os.environ['GOMP_SPINCOUNT'])"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout == f"{wanted}\n"


@pytest.mark.parametrize(
    ("gpus", "name", "wanted"),
    [
        *((0, "auto", "cpu"), (0, "cuda", None), (0, "tpu", None)),
        *((2, "auto", "cuda"), (2, "cpu", "cpu"), (2, "cuda:1", "cuda:1"), (2, "cuda:2", None)),
    ],
)
def test_device_by_name(monkeypatch, gpus, name, wanted):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    if wanted:
        assert pick_device(name) == torch.device(wanted)
        return
    with pytest.raises(ValueError, match=f"device is '{name}'; this machine allows auto, cpu"):
        pick_device(name)


@pytest.mark.parametrize(
    ("flags", "wanted", "said"),
    [
        (["avx512_bf16", "amx_bf16"], "bfloat16", "has avx512_bf16 and amx_bf16."),
        (["avx2"], "float32", "has neither avx512_bf16 nor amx_bf16."),
    ],
)
def test_auto_goes_by_the_flags_of_the_processor(monkeypatch, flags, wanted, said):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(flags, True))
    assert pick_precision("auto", CPU) == wanted
    assert choice_sentence(wanted, CPU).endswith(said)
    for name in ("float32", "bfloat16"):
        assert pick_precision(name, CPU) == name
        with compute.autocast(CPU, name):
            assert str(torch.ones(1, 1).mm(torch.ones(1, 1)).dtype) == f"torch.{name}"
    assert "precision is 'float16'; it must be one of" in complaint(pick_precision, "float16", CPU)


def test_a_cpu_limits_the_images_of_one_pass(monkeypatch):
    counts = [images_at_once(px**2 * 64, CPU) for px in (32, 64, 256, 1024)]
    assert counts == [128, 32, 4, 4]
    assert images_at_once(1, CPU) == images_at_once(10**9, torch.device("cuda")) == 250
    torch.manual_seed(0)
    net = Generator(32, z_dim=8, w_dim=8, fmaps_base=64)
    assert net.synthesis.widest_map == 2 * 32**2
    (some,) = sample_images(net, 7, seed=1, batch=7)
    monkeypatch.setattr(compute, "MAP_NUMBERS", 5 * net.synthesis.widest_map)
    (others,) = sample_images(net, 7, seed=1, batch=7)
    assert (some.int() - others.int()).abs().max() <= 1  # sums may round differently
