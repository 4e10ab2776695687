"""Workers of this machine share its cores, and a cluster is looked at before it gets work."""

import os
import subprocess
import sys

import pytest

from ohlora_lib import fanout, machine


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
