"""Workers of this machine share its cores, and a cluster is looked at before it gets work."""

import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from ohlora_lib.runner import fanout
from ohlora_lib.study import machine

PROJECT = Path(__file__).parents[2]


def threads_of_a_child() -> int:
    code = "import os; print(os.environ['OMP_NUM_THREADS'])"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True).stdout)


def test_processes_share_the_cores(monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with fanout.supervisors(3) as pool:
        assert pool.slots() == 3
        assert pool.executor.submit(threads_of_a_child).result() == 2
        assert pool.words == "3 workers of 2 threads"
    assert "OMP_NUM_THREADS" not in os.environ
    assert fanout.thread_share(20) == 1


def test_a_number_of_threads_that_is_set_stays(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    with fanout.supervisors(2) as pool:
        assert pool.executor.submit(threads_of_a_child).result() == 5
    assert os.environ["OMP_NUM_THREADS"] == "5"


def test_a_number_of_threads_as_openmp_takes_it(monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: 8)
    for given, threads in {"2,1": "2", " 3 ": "3", "": "4"}.items():
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        with fanout.supervisors(2) as pool:
            assert f"of {threads} threads" in pool.words
        assert os.environ["OMP_NUM_THREADS"] == given
    for given in ("0", "-1", "many", "2x,1", ",2"):
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        with pytest.raises(ValueError, match=f"OMP_NUM_THREADS is '{given}'.*of at least 1"):
            fanout.supervisors(2).__enter__()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_what_is_no_scheduler_is_one_line_in_time(monkeypatch, answer):
    """A dashboard's port is silent until it is asked; Dask's client would wait for ever."""
    pytest.importorskip("distributed", reason="needs Dask")
    monkeypatch.setattr(fanout, "CONNECT_SEC", 2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        threading.Thread(target=answer_all, args=(server, answer), daemon=True).start()
        with (
            pytest.raises(ValueError, match="is no Dask scheduler: something else") as error,
            fanout.cluster(address, PROJECT),
        ):
            pass
        server.shutdown(socket.SHUT_RDWR)
    assert "\n" not in str(error.value)


def answer_all(server, answer):
    """Takes every connection, writes the answer and keeps it open, until the server is closed."""
    taken = []
    with suppress(OSError):
        while True:
            taken.append(server.accept()[0])
            taken[-1].sendall(answer)
    for connection in taken:
        connection.close()


class Cluster:
    """A client of a cluster with one worker."""

    def __init__(self, **facts):
        self.facts = {"project": True, "version": fanout.ohlora_lib.__version__, **facts}

    def wait_for_workers(self, count, timeout):
        if not self.facts.get("workers", True):
            raise TimeoutError

    def run(self, function, root):
        return {"tcp://a:1": self.facts}


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"project": False}, "does not see .*under the same path"),
        ({"version": "0.0.1"}, "has ohlora 0.0.1, this machine has"),
        ({"workers": False}, "has no workers"),
    ],
)
def test_a_cluster_that_lacks_something_is_one_line(tmp_path, facts, words):
    fanout._check_workers(Cluster(), "tcp://s:8786", tmp_path)
    with pytest.raises(ValueError, match=words) as error:
        fanout._check_workers(Cluster(**facts), "tcp://s:8786", tmp_path)
    assert "\n" not in str(error.value)


def test_a_worker_looks_for_the_project(tmp_path):
    assert fanout.site_facts(str(tmp_path))["project"]
    assert not fanout.site_facts(str(tmp_path / "none"))["project"]
