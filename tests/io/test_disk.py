"""A write that fails leaves what was there, and says so in one line."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from ohlora_lib.io.disk import WriteError, atomic_path, write_atomic
from ohlora_lib.study.run import FolderLock

ROOT = Path(__file__).parents[2]


@contextmanager
def small_files():
    """No file may grow over 1,000 bytes inside the block, the tests' own output included."""
    resource = pytest.importorskip("resource", reason="needs limits as Unix has them")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@contextmanager
def array_file(path):
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        yield file


def test_what_does_not_fit_leaves_the_old_file_and_nothing_else(tmp_path):
    write_atomic(tmp_path / "a.csv", "old")
    with pytest.raises(WriteError) as caught, small_files():
        write_atomic(tmp_path / "a.csv", bytes(5000))
    assert str(caught.value) == (
        f"{tmp_path}/a.csv: cannot be written (File too large). Free room on its disk and start "
        "again: a training resumes from its last checkpoint."
    )
    with (
        pytest.raises(WriteError) as caught,
        small_files(),
        array_file(tmp_path / "b.npy") as file,
    ):
        np.save(file, np.zeros(5000))  # says how much it wrote, not what the system said
    assert "Free room on its disk" in str(caught.value)
    assert (tmp_path / "a.csv").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_an_error_of_reading_something_else_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.csv") as caught, array_file(tmp_path / "a"):
        (tmp_path / "gone.csv").read_bytes()
    assert not isinstance(caught.value, WriteError)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_a_folder_or_a_dangling_link_is_said(tmp_path):
    (tmp_path / "a.csv" / "full").mkdir(parents=True)
    with pytest.raises(WriteError, match="a.csv: cannot be written"):
        write_atomic(tmp_path / "a.csv", "x")
    (tmp_path / "outputs").symlink_to("/mnt/gone")
    with pytest.raises(ValueError, match="^outputs is a link to /mnt/gone, which is not there"):
        write_atomic(tmp_path / "outputs" / "tiny" / "a.csv", "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "outputs"]


def test_a_locked_folder_that_is_gone_is_not_made_again(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    lock = FolderLock(folder)
    write_atomic(folder / "images" / "a.txt", "x")
    folder.rename(tmp_path / "moved")
    with pytest.raises(WriteError, match="Mount its disk again, or bring its folder back"):
        write_atomic(folder / "images" / "a.txt", "x")
    assert not folder.exists()
    write_atomic(tmp_path / "beside.txt", "x")
    lock.release()
    write_atomic(folder / "a.txt", "x")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="tells files by Linux's /proc")
def test_data_and_name_are_on_the_disk_before_the_write_returns(tmp_path, monkeypatch):
    """Else a power cut could leave an empty file under the name."""
    calls, replace = [], os.replace

    def noted(*names):
        calls.append("rename")
        replace(*names)

    monkeypatch.setattr("os.fsync", lambda f: calls.append(os.path.isdir(f"/proc/self/fd/{f}")))
    monkeypatch.setattr("os.replace", noted)
    write_atomic(tmp_path / "a", "x")
    assert calls == [False, "rename", True]


WRITES = """
import sys
from pathlib import Path
from ohlora_lib.io.disk import write_atomic
from ohlora_lib.study.run import FolderLock
for name in ("a", "b"):
    folder = Path(sys.argv[1], name)
    folder.mkdir()
    try:
        FolderLock(folder)
        write_atomic(folder / "a.txt", "whole")
    except OSError as error:
        print(error)
"""
NO_LOCKS = (
    "This file system has no locks ({}), so nothing stops two runs from writing to the same "
    "folder. Start each stage only once.\n"
)


@pytest.fixture(scope="module")
def odd_disk(tmp_path_factory):
    """What `WRITES` leaves and says where locks or the syncing of folders give an errno."""
    if sys.platform != "linux" or shutil.which("gcc") is None:
        pytest.skip("needs gcc on Linux, to put an odd file system in the place of this one")
    shim = tmp_path_factory.mktemp("shim") / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)

    def write(folder, **errnos):
        env = {k: v for k, v in os.environ.items() if k != "OHLORA_NO_LOCKS"}
        env |= {k: str(v) for k, v in errnos.items()} | {"LD_PRELOAD": str(shim)}
        command = [sys.executable, "-c", WRITES, str(folder)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env)
        return [path.read_text() for path in sorted(folder.glob("*/a.txt"))], done

    return write


@pytest.mark.parametrize(
    ("call", "number", "said"),
    [
        *(("SHIM_FLOCK", k, NO_LOCKS) for k in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)),
        *(("SHIM_FSYNC", k, "") for k in (errno.EINVAL, errno.ENOTSUP, errno.EBADF)),
    ],
)
def test_a_disk_without_locks_or_syncs_is_written_to(tmp_path, odd_disk, call, number, said):
    left, done = odd_disk(tmp_path, **{call: number})
    assert left == ["whole", "whole"]
    assert (done.stdout, done.stderr) == ("", said.format(os.strerror(number)))


def test_another_fault_of_a_disk_is_said_as_what_it_is(tmp_path, odd_disk):
    left, done = odd_disk(tmp_path, SHIM_FLOCK=errno.EIO)
    assert left == []
    assert f"Input/output error: '{tmp_path}/.locks/a.lock'" in done.stdout
    assert "is writing here" not in done.stdout + done.stderr
    (tmp_path / "other").mkdir()
    left, done = odd_disk(tmp_path / "other", SHIM_FSYNC=errno.EIO)
    assert "cannot be written (Input/output error)" in done.stdout


def test_a_lock_file_has_the_rights_of_other_files(tmp_path):
    """Else whoever comes second to a shared project is locked out."""
    before = os.umask(0o002)
    try:
        lock = FolderLock(tmp_path)
        write_atomic(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    lock.release()
    assert lock.path.stat().st_mode == (tmp_path / "a.txt").stat().st_mode
