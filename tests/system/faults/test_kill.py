"""Killed at any moment and started again: the same results as never killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.faults.kill import Harness, log_of

ROOT = Path(__file__).parents[3]
SECONDS = 240  # until a hang is told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "late"),
    [("finetune", "finishing"), ("base", "writing weights"), ("cnn", "writing weights")],
)
def test_killed_and_started_again_is_as_if_never_killed(tmp_path, what, late):
    harness = Harness(what, tmp_path, seed=1)
    harness.reference()
    anywhere, aimed = harness.kill(0), harness.kill(2 * harness.places.index(late) + 1)
    assert (anywhere.differs, aimed.differs) == ([], [])
    assert anywhere.log_whole
    assert aimed.log_whole
    assert aimed.resumed != "the start"  # else nothing was gone on from


def test_a_torn_log_is_found(tmp_path):
    (tmp_path / "train_log.csv").write_text(",epoch,idx,elapsed_sec\n0,0,0,1.5\n1,0")
    with pytest.raises(AssertionError, match="torn"):
        log_of(tmp_path, "finetune")
    (tmp_path / "train_log.csv").write_text(",epoch,idx,elapsed_sec\n0,0,0,1.5\n")
    assert log_of(tmp_path, "finetune") == [["", "epoch", "idx"], ["0", "0", "0"]]


@pytest.mark.slow
def test_sigterm_saves_and_the_process_ends_of_it(tmp_path):
    code = (
        "import sys; from pathlib import Path; from tests.system.faults import small_runs\n"
        "small_runs.run('finetune', Path(sys.argv[1]), Path(sys.argv[1]) / 'a.mark')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env={**os.environ}
    ) as process:
        log = tmp_path / "outputs/tiny/05_finetune_generator/train_log.csv"
        while not log.exists():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == -signal.SIGTERM
    assert (log.parent / "checkpoints" / "state.pt").exists()
    assert not (log.parent / "summary.json").exists()
