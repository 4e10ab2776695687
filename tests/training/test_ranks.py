"""Two ranks on the CPU take the same decisions, hold the same weights, and end together."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ohlora_lib.training.ranks import Ranks

WORKER = Path(__file__).with_name("rank_worker.py")
SECONDS = 240  # after which a process counts as hung


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Results, exit statuses and output of both ranks."""
    folder, started = tmp_path_factory.mktemp("ranks"), []
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    for rank in "01":
        env = {**os.environ, **place, "RANK": rank, "OMP_NUM_THREADS": "1"}
        with (folder / f"said-{rank}.txt").open("w") as said:
            command = [sys.executable, WORKER, folder]
            started.append(subprocess.Popen(command, env=env, stdout=said, stderr=said))
    try:
        ends = [process.wait(SECONDS) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    said = [(folder / f"said-{rank}.txt").read_text() for rank in "01"]
    paths = [folder / f"found-{rank}.pt" for rank in "01"]
    assert all(path.exists() for path in paths), "\n".join(said)
    return [torch.load(path) for path in paths], ends, said


def test_ranks_decide_alike_and_hold_the_same_weights_after_each_batch(ranks):
    first, second = (found["whole"] for found in ranks[0])
    assert first["done"]
    assert first["rows"] == second["rows"]
    for count in ("d_train_count", "g_train_count"):  # the rules decided something
        assert len({row[count] for row in first["rows"]}) > 1
    for one, other in zip(first["batches"], second["batches"], strict=True):
        assert one["weights"] == other["weights"]
        assert one["fake"] != other["fake"]  # each drew its own latents and noise
    assert len({one["weights"][0] for one in first["batches"]}) == 7
    assert [batch["seen"] for batch in first["batches"]] == [4, 8, 10, 14, 18, 20, 24]


def test_a_stop_of_one_rank_stops_both_and_resuming_changes_no_result(ranks):
    for found in ranks[0]:
        whole, stopped, resumed = (found[name] for name in ("whole", "stopped", "resumed"))
        assert (stopped["done"], resumed["done"]) == (False, True)
        assert len(stopped["batches"]) == 4
        assert stopped["batches"] + resumed["batches"] == whole["batches"]
        assert resumed["rows"] == whole["rows"]


def test_a_number_that_is_not_finite_or_a_kill_on_one_rank_stops_both_at_that_step(ranks):
    every, (first, second), said = ranks
    for found in every:
        assert found["broken"]["said"] == "d_loss is nan"
        assert len(found["broken"]["batches"]) == 2
    assert second == -signal.SIGKILL
    assert first > 0
    assert "RuntimeError" in said[0]


def test_rows_are_dealt_evenly():
    batch = torch.arange(5)
    assert [Ranks(k, 3).deal(batch).tolist() for k in range(3)] == [[0, 1], [2, 3], [4, 0]]
    assert Ranks().deal(batch).tolist() == batch.tolist()


def test_each_rank_takes_its_own_gpu_if_there_are_gpus(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    for gpus, name, wanted in ((0, "auto", "cpu"), (2, "auto", "cuda:1"), (2, "cpu", "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpus=gpus: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        assert Ranks(1, 2).device(name) == torch.device(wanted)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="'cuda:1'; this machine allows auto, cpu, cuda, cuda:0"):
        Ranks(1, 2).device("auto")
