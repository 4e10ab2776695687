"""Two processes are one training: the same log and weights, the same decisions, one end.

Two processes and one run `rank_worker.py` once, beside each other; the tests look at what they
found. In float64, what is left is the order of sums.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ohlora_lib.training.ranks import ALONE, Ranks

WORKER = Path(__file__).with_name("rank_worker.py")
SECONDS = 240  # until a hang is told
SAME = 1e-5  # relative; ranks that are not averaged differ by over 1e-2, which a test shows


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder, started = tmp_path_factory.mktemp("ranks"), []
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1"}
    for rank, size in ((0, 2), (1, 2), (0, 1)):
        env = {**os.environ, **place, "RANK": str(rank), "WORLD_SIZE": str(size)}
        with (folder / f"said-{rank}-of-{size}.txt").open("w") as said:
            command = [sys.executable, WORKER, folder]
            started.append(subprocess.Popen(command, env=env, stdout=said, stderr=said))
    try:
        for process in started:
            process.wait(SECONDS)
    finally:
        for process in started:
            process.kill()
            process.wait()
    said = "\n".join(path.read_text() for path in sorted(folder.glob("said-*")))
    assert [process.returncode for process in started] == [0, 0, 0], said
    names = {"one": "0-of-1", "first": "0-of-2", "second": "1-of-2"}
    return {k: torch.load(folder / f"found-{name}.pt") for k, name in names.items()}


def gap(a, b):
    """Largest relative difference of two logs."""
    return max(
        abs(row[name] - other[name]) / max(abs(row[name]), 1e-2)
        for row, other in zip(a["rows"], b["rows"], strict=True)
        for name in row
    )


@pytest.mark.parametrize("case", ["even", "once", "short", "large", "v8"])
def test_two_processes_log_and_learn_what_one_does(found, case):
    one, first = found["one"][case], found["first"][case]
    assert one["done"]
    assert first["done"]
    assert gap(one, first) < SAME
    for name, value in one["weights"].items():
        assert (value - first["weights"][name]).abs().max() < SAME, name


@pytest.mark.parametrize("case", ["even", "once", "short", "large", "v8", "stopped"])
def test_weights_and_logs_of_both_ranks_are_equal_bit_for_bit(found, case):
    first, second = found["first"][case], found["second"][case]
    assert first["rows"] == second["rows"]
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name]), name


def test_the_cases_are_what_they_are_called(found):
    for count in ("d_train_count", "g_train_count"):  # the rules decided something
        assert len({row[count] for row in found["one"]["even"]["rows"]}) > 1
    seen = [row["images_seen"] for row in found["one"]["short"]["rows"]]
    assert seen[2] - seen[1] == 1  # which two cannot share
    weights = found["one"]["even"]["weights"]
    assert weights["generator.truncation.w_avg"].any()
    assert not torch.equal(weights["generator.mapping.dense7.weight"],
                           weights["mean.mapping.dense7.weight"])  # fmt: skip


@pytest.mark.parametrize("fault", ["unequal", "private", "grainy", "apart"])
def test_what_is_not_shared_is_caught(found, fault):
    """Each rank trains alone on its half; losses, noise or deviation are of its half."""
    assert gap(found["one"]["once"], found["first"][fault]) > 1000 * SAME


def test_a_decision_that_the_ranks_alone_would_take_differently_is_taken_alike(found):
    first, second = found["first"]["forced"], found["second"]["forced"]
    assert (first["would_stop"], second["would_stop"]) == (False, True)
    assert first["taken"] == second["taken"] == 4
    assert first["loss"] == second["loss"] == (9.0 + 0.5) / 2


def test_a_signal_to_one_rank_stops_both_after_the_same_batch(found):
    for rank in ("first", "second"):
        assert not found[rank]["stopped"]["done"]
        assert found[rank]["stopped"]["batches"] == 4


@pytest.mark.parametrize("samples", [12, 13])
def test_evaluation_is_shared_and_every_rank_has_all_figures(found, samples):
    one, first, second = (found[k]["evaluations"][samples] for k in ("one", "first", "second"))
    assert one["drawn"] == [samples] * 2  # fresh and fixed
    assert first["drawn"] == second["drawn"] == [-(-samples // 2)] * 2
    assert first["row"] == second["row"]
    assert first["row"] == pytest.approx(one["row"], rel=1e-3)
    apart = (one["images"].int() - first["images"].int()).abs()
    assert apart.max() <= 1  # rounding to uint8
    assert (apart > 0).float().mean() < 1e-3


def test_alone_nothing_is_sent_or_copied():
    batch = torch.randn(4, 3, requires_grad=True)
    assert ALONE.share(batch) is batch
    assert ALONE.gather(batch, 4) is batch
    assert ALONE.deal(batch) is batch
    assert ALONE.collect(batch, 4) is batch
    assert ALONE.noise(4) == "random"
    assert ALONE.over_batch(4) is None
    assert ALONE.any(True)
    assert not ALONE.any(False)
    assert ALONE.from_first(lambda: 7) == 7


def test_shares_are_the_whole_batch_and_what_does_not_divide_is_not_shared():
    batch = torch.arange(6)
    assert torch.cat([Ranks(k, 3).share(batch) for k in range(3)]).tolist() == batch.tolist()
    assert Ranks(1, 4).share(batch).tolist() == batch.tolist()
    assert [Ranks(k, 4).deal(batch).tolist() for k in range(4)] == [[0, 1], [2, 3], [4, 5], [0, 1]]


def test_a_batch_that_ranks_cannot_share_is_told():
    with pytest.raises(ValueError, match="batch is 6, which 4 processes cannot share"):
        Ranks(0, 4).check_batch(6)
    Ranks(0, 3).check_batch(6)
