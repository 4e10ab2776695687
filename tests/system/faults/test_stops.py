"""Messages, word for word, when a study is stopped or killed, or its disk is full or lost."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ohlora_lib.study.records import read_json, read_summary
from tests.stand_ins import PACKAGE_ROOT
from tests.system.faults import tiny_study
from tests.system.faults.kill import log_of
from tests.system.faults.tiny_study import STAGE, command, set_parameters, surroundings

pytestmark = pytest.mark.slow
SECONDS = 240  # after which a run counts as hung
AS_FAR = rf" \(output so far: outputs/tiny/{STAGE}/{STAGE}.ipynb\)"


@pytest.fixture
def folder(tmp_path):
    return tiny_study.make(tmp_path)


def start(folder, *more):
    return subprocess.Popen(
        command(folder.parents[2], *more), cwd=PACKAGE_ROOT, env=surroundings(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run(folder, *more):
    """Exit status, lines of standard output, and the error line ("" on success)."""
    with start(folder, *more) as process:
        said, error = process.communicate()
    assert error.count("\n") == (process.returncode != 0), error
    return process.returncode, said.splitlines(), error.rstrip("\n")


def wait_for_rows(process, folder):
    log = folder / "train_log.csv"
    while not log.exists() or len(log.read_text().splitlines()) <= 3:
        assert process.poll() is None, process.stderr.read()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The log of an uninterrupted run."""
    folder = tiny_study.make(tmp_path_factory.mktemp("whole"))
    assert run(folder)[0] == 0
    return log_of(folder)


def check_unfinished(folder, status, reason):
    """Checks that the summary names the reason, and that neither page nor reader sees success."""
    failure = read_json(folder / "summary.json")
    assert failure["status"] == status
    assert re.fullmatch(reason, failure["reason"]), failure["reason"]
    with pytest.raises(ValueError, match=f"has not finished .{status}: "):
        read_summary(folder)
    page = (folder.parent / "index.html").read_text()
    assert "0 of 1 stages finished" in page
    assert f">{status}<" in page


def family(pid):
    """A process and its descendants, descendants first."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [one for child in children for one in family(int(child))] + [pid]


def stopped(folder, pids):
    """Exit status, output and error of a run that received SIGTERM during training."""
    with start(folder) as process:
        wait_for_rows(process, folder)
        for pid in pids(process.pid):
            os.kill(pid, signal.SIGTERM)
        said, error = process.communicate(timeout=SECONDS)
    return process.returncode, said, error


@pytest.mark.parametrize("pids", [lambda pid: [pid], family], ids=["command", "all"])
def test_sigterm_saves_and_ends(folder, whole, pids):
    """Schedulers send SIGTERM to the command alone, or to all processes of a job at once."""
    status, said, error = stopped(folder, pids)
    line = f"ohlora: {STAGE}: stopped by SIGTERM. The same command resumes from there.\n"
    assert (status, error) == (143, line)
    # Signalled with the command, the stage may have saved before the command looks for signals.
    assert pids is family or "stopping: the stage saves its state\n" in said
    check_unfinished(folder, "interrupted", "stopped by SIGTERM")
    assert (folder / "checkpoints" / "state.pt").exists()
    status, _, error = run(folder)
    assert status == 0, error
    assert log_of(folder) == whole


def test_sigterm_to_papermill_alone_saves_and_ends(folder, tmp_path):
    installed = tmp_path / "installed" / "tiny_engine-1.dist-info"
    installed.mkdir(parents=True)
    installed.joinpath("entry_points.txt").write_text(
        "[papermill.engine]\nohlora_default = ohlora_lib.runner.papermill_engine:DefaultEngine\n"
    )
    paths = os.pathsep.join((str(installed.parent), str(PACKAGE_ROOT)))
    with subprocess.Popen(
        [sys.executable, "-m", "papermill", f"notebooks/{STAGE}.ipynb", "out.ipynb",
         "-f", f"params/tiny/{STAGE}.yaml"],
        cwd=tmp_path, env={**surroundings(), "PYTHONPATH": paths},
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        wait_for_rows(process, folder)
        process.send_signal(signal.SIGTERM)
        error = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 143
    assert "Traceback" not in error
    assert "warn" not in error.lower()  # for example about kernels on plain TCP
    assert (folder / "checkpoints" / "state.pt").exists()
    assert not (folder / "summary.json").exists()


def test_changed_parameters_are_named_and_force_keeps_the_old_folder(folder):
    stopped(folder, lambda pid: [pid])
    log = (folder / "train_log.csv").read_text()
    set_parameters(folder.parents[2], learning_rate=2e-3)
    status, _, error = run(folder)
    assert status == 1
    assert re.fullmatch(
        rf"ohlora: {STAGE}: cell \[4\]: ValueError: {re.escape(str(folder))}/checkpoints/"
        r"state\.pt: the training cannot resume, because learning_rate was 0\.001 "
        r"and is now 0\.002\. Change that back, choose another `variant`, or start anew with "
        rf"ohlora run params/tiny --only {STAGE} --force, which keeps the old run\.{AS_FAR}",
        error,
    ), error
    assert run(folder, "--force")[0] == 0
    (aside,) = (folder.parent / ".earlier").iterdir()
    assert (aside / "train_log.csv").read_text() == log
    assert (aside / "checkpoints" / "state.pt").exists()
    assert ".earlier" not in (folder.parent / "index.html").read_text()


def test_the_message_names_the_cause_of_a_kernels_death(folder):
    set_parameters(folder.parents[2], trouble="import os; os.kill(os.getpid(), 9)")
    status, _, error = run(folder)
    reason = (
        r"its kernel died \(killed, most often for lack of memory: use a smaller batch or fewer "
        r"samples\)"
    )
    assert status == 1
    assert re.fullmatch(f"ohlora: {STAGE}: {reason}{AS_FAR}", error), error
    check_unfinished(folder, "killed", reason)


def mounted(path, size):
    """Mounts a small disk; returns whether mounting is permitted here."""
    path.mkdir(parents=True, exist_ok=True)
    if shutil.which("mount") is None:
        return False
    small = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    return subprocess.run(small, capture_output=True).returncode == 0


@pytest.fixture
def small_disk(folder):
    """Puts the study's outputs on their own disk."""
    outputs = folder.parents[1]
    if not mounted(outputs, "4m"):
        pytest.skip("mounting is not permitted here")
    yield outputs
    subprocess.run(["umount", "-l", str(outputs)], check=True)


def fill(disk):
    """Writes a file that leaves 40 kB free on a disk."""
    with (disk / "others.bin").open("wb") as file:
        left = shutil.disk_usage(disk).free - 40_000
        file.write(bytes(max(left, 0)))


def test_a_full_disk_is_reported_and_the_run_resumes_when_there_is_room(folder, small_disk, whole):
    with start(folder) as process:
        wait_for_rows(process, folder)
        fill(small_disk)
        error = process.communicate()[1]
    assert process.returncode == 1
    assert error.count("\n") == 1
    assert re.match(
        rf"ohlora: {STAGE}: (cell \[4\]: )?{re.escape(str(folder))}/\S+: cannot be written "
        r"\(No space left on device\)\. Free room on its disk and start again: a training run "
        r"resumes from its last checkpoint\.",
        error,
    ), error
    assert not (folder / "summary.json").exists() or "reason" in read_json(folder / "summary.json")
    assert not list(folder.rglob("*.partial*"))
    (small_disk / "others.bin").unlink()
    status, _, error = run(folder)
    assert status == 0, error
    assert log_of(folder) == whole


def test_a_lost_mount_is_reported_and_nothing_is_written_in_its_place(folder, small_disk):
    with start(folder) as process:
        wait_for_rows(process, folder)
        subprocess.run(["umount", "-l", str(small_disk)], check=True)
        error = process.communicate()[1]
    there = list(small_disk.iterdir())
    mounted(small_disk, "1m")  # for the fixture to unmount
    assert process.returncode == 1
    assert error.count("\n") == 1
    assert re.match(
        rf"ohlora: {STAGE}: (output folder {re.escape(str(folder))} doesn't exist\. Mount its "
        r"disk|.*cannot be written \(No such file or directory\)\. Mount its disk again, or "
        r"restore its folder) and start again: a training run resumes from its last checkpoint",
        error,
    ), error
    assert there == []
