"""Set-up of every test: one thread, and a time limit for unmarked tests."""

import importlib
import os
import pkgutil
import signal

import pytest
import torch

import ohlora_lib

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, and for the processes tests start
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells make `&` jobs ignore it
QUICK_SEC = 2.0  # of processor time, on a machine that does `fixed_work` in its time or faster
FIXED_WORK_SEC = 0.05  # it takes .09 s on the slowest machine so far, a virtual CPU with AVX2
MARKS = {"slow", "browser", "gpu"}


@pytest.fixture(scope="session", autouse=True)
def imported():
    """Imports all modules, so that no test is charged for a first import."""
    for module in pkgutil.walk_packages(ohlora_lib.__path__, "ohlora_lib."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    torch.optim.Adam([torch.zeros(1)])  # torch imports more with the first optimiser
    torch.empty(1, device="meta").normal_()  # and with the first tensor without values


def fixed_work():
    """Returns the processor time of a fixed piece of work, in seconds."""
    before = processor_sec()
    image = torch.ones(256, 256)
    for _ in range(100):
        image = torch.tanh(image @ image)
    sum(k * k for k in range(500_000))
    return processor_sec() - before


def processor_sec():
    """Processor time of this process and of the child processes it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    before = processor_sec()
    result = yield
    took = processor_sec() - before
    if took > QUICK_SEC and not MARKS & {mark.name for mark in item.iter_markers()}:
        slowness = max(1.0, fixed_work() / FIXED_WORK_SEC)  # of a slow or busy machine
        if took > QUICK_SEC * slowness:
            pytest.fail(f"took {took:.1f} s of processor time; mark it slow, or make it quicker")
    return result


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project with empty folders."""
    for name in ("params", "notebooks"):
        (tmp_path / name).mkdir()
    for name in ("OHLORA_ROOT", "OHLORA_COMMAND"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path
