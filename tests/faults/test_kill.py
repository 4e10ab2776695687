"""Killed at any moment and started again: the same results as never killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.kill import Harness, log_of, main

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(("what", "times"), [("finetune", 3), ("base", 2), ("cnn", 2)])
def test_killed_and_started_again_is_as_if_never_killed(tmp_path, what, times):
    harness = Harness(what, tmp_path, seed=1)
    harness.reference()
    kills = []
    while len(kills) < times or all(kill.resumed == "the start" for kill in kills):
        assert len(kills) < 8, "nothing was ever gone on from"
        kills.append(harness.kill(len(kills)))
    assert [kill.differs for kill in kills] == [[]] * len(kills)
    assert all(kill.log_whole for kill in kills)


def test_a_torn_log_is_found(tmp_path):
    (tmp_path / "train_log.csv").write_text(",epoch,idx,elapsed_sec\n0,0,0,1.5\n1,0")
    with pytest.raises(AssertionError, match="torn"):
        log_of(tmp_path, "finetune")
    (tmp_path / "train_log.csv").write_text(",epoch,idx,elapsed_sec\n0,0,0,1.5\n")
    assert log_of(tmp_path, "finetune") == [["", "epoch", "idx"], ["0", "0", "0"]]


@pytest.mark.slow
def test_sigterm_saves_within_ten_seconds_and_the_process_ends_of_it(tmp_path):
    code = (
        "import sys; from pathlib import Path; from tests.faults import small_runs\n"
        "small_runs.run('finetune', Path(sys.argv[1]), Path(sys.argv[1]) / 'a.mark')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env={**os.environ}
    ) as process:
        log = tmp_path / "outputs/tiny/05_finetune_generator/train_log.csv"
        while not log.exists():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM
    assert (log.parent / "checkpoints" / "state.pt").exists()
    assert not (log.parent / "summary.json").exists()


def test_the_command_says_what_it_takes(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "--times" in capsys.readouterr().out
