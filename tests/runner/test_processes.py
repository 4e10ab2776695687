"""Starting processes: what they print shows, what they tell arrives, an interrupt reaches them."""

import importlib.util
import os
import signal
import sys

import pytest
import torch

from ohlora_lib.runner import processes
from ohlora_lib.training.ranks import ALONE, Ranks

SECONDS = 60
BEGIN = "import os, sys\nfrom ohlora_lib.runner import processes\n"


@pytest.fixture
def launch(monkeypatch):
    """A launch of a piece of Python in place of a launcher and its processes."""

    def make(code):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
        one = processes.Launch(["finetune"], 2)
        one.command = [sys.executable, "-c", BEGIN + code]
        return one

    return make


def test_text_shows_and_events_arrive(launch, capsys):
    events = []
    code = "print('hello'); processes.tell(done=3)\nprint('oops', file=sys.stderr)\n"
    launch(code + "processes.tell(done=4)").run(events.append)
    assert events == [{"done": 3}, {"done": 4}]
    assert set(capsys.readouterr().out.splitlines()) == {"hello", "oops"}


def test_an_error_of_a_process_is_one_line(launch):
    code = "print('ohlora: a.pt: damaged', file=sys.stderr); print('Traceback'); sys.exit(1)"
    with pytest.raises(ValueError, match=r"^a\.pt: damaged$"):
        launch(code).run(print)


def test_another_end_is_not_silent(launch):
    with pytest.raises(RuntimeError, match="2 processes ended with status 7"):
        launch("sys.exit(7)").run(print)


WAITS = """
import signal, time
asked = []
signal.signal(signal.SIGINT, lambda *_: asked.append(0))
processes.stop_with_parent()
processes.tell(ready=True)
for _ in range(600):
    time.sleep(0.1)
    if asked:
        processes.tell(stopped=True)
        sys.exit(0)
"""


def test_an_interrupt_is_passed_on_and_the_end_awaited(launch):
    before, events = signal.getsignal(signal.SIGINT), []

    def on_event(event):
        events.append(event)
        if "ready" in event:
            os.kill(os.getpid(), signal.SIGINT)

    launch(WAITS).run(on_event)
    assert events == [{"ready": True}, {"stopped": True}]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_fault_of_who_watches_ends_the_processes(launch):
    def on_event(event):
        raise KeyError(event.popitem()[0])

    with pytest.raises(KeyError, match="ready"):  # else this test would wait a minute
        launch(WAITS).run(on_event)


def test_without_accelerate_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'ohlora\[distributed\]'") as caught:
        processes.Launch(["finetune"], 2)
    assert "\n" not in str(caught.value)


def test_accelerate_is_asked_for_so_many_processes(launch, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    command = processes.Launch(["finetune", "a.yaml"], 3).command
    assert command[command.index("--num_processes") + 1] == "3"
    assert command[-4:] == ["-m", "ohlora_lib", "finetune", "a.yaml"]


def test_started_by_itself_a_process_is_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert processes.join() is ALONE


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'; it must be a whole number of at least 1"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is set, but RANK is not"),
        ({"WORLD_SIZE": "2", "RANK": "1.5"}, "RANK is '1.5'"),
    ],
)
def test_a_place_that_a_launcher_wrote_wrong_is_one_line(monkeypatch, given, words):
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=words):
        processes.join()


def gpus(monkeypatch, count, *, here):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))


def test_each_process_takes_its_own_gpu(monkeypatch):
    gpus(monkeypatch, 2, here=2)
    ranks = Ranks(1, 2)
    assert processes.own_device("auto", ranks) == torch.device("cuda:1")
    assert processes.own_device("cuda", ranks) == torch.device("cuda:1")
    assert processes.own_device("cpu", ranks) == torch.device("cpu")
    with pytest.raises(ValueError, match="'cuda:0'.* a GPU each; use auto or cuda"):
        processes.own_device("cuda:0", ranks)


def test_more_processes_than_gpus_are_told(monkeypatch):
    gpus(monkeypatch, 2, here=3)
    with pytest.raises(ValueError, match="3 processes on a machine with 2 GPUs"):
        processes.own_device("auto", Ranks(1, 3))


def test_without_gpus_processes_share_the_cpu(monkeypatch):
    gpus(monkeypatch, 0, here=2)
    assert processes.own_device("auto", Ranks(1, 2)) == torch.device("cpu")
    with pytest.raises(ValueError, match="this machine has no CUDA"):
        processes.own_device("cuda", Ranks(1, 2))
