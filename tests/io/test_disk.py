"""A failed write keeps the old file and raises a one-line error."""

import errno
import os
import signal
import stat
from contextlib import contextmanager

import numpy as np
import pytest

from ohlora_lib.io.disk import WriteError, atomic_path, write_atomic
from ohlora_lib.study.run_folder import FolderLock


@contextmanager
def small_files():
    """Limits every file to 1,000 bytes inside the block, including the tests' own output."""
    resource = pytest.importorskip("resource", reason="needs Unix resource limits")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_write_that_does_not_fit_leaves_only_the_old_file(tmp_path):
    write_atomic(tmp_path / "a.csv", "old")
    with pytest.raises(WriteError) as caught, small_files():
        write_atomic(tmp_path / "a.csv", bytes(5000))
    assert str(caught.value) == (
        f"{tmp_path}/a.csv: cannot be written (File too large). Free room on its disk and start "
        "again: a training run resumes from its last checkpoint."
    )
    told = pytest.raises(WriteError, match="Free room on its disk")
    with told, small_files(), atomic_path(tmp_path / "b.npy") as path, path.open("wb") as file:
        np.save(file, np.zeros(5000))  # its error lacks the system's errno
    assert (tmp_path / "a.csv").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_an_error_in_reading_another_file_is_raised_unchanged(tmp_path):
    told = pytest.raises(FileNotFoundError, match="gone.csv")
    with told as caught, atomic_path(tmp_path / "a") as path:
        path.touch()
        (tmp_path / "gone.csv").read_bytes()
    assert not isinstance(caught.value, WriteError)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_or_a_dangling_link_in_the_way_is_named(tmp_path):
    (tmp_path / "a.csv" / "full").mkdir(parents=True)
    with pytest.raises(WriteError, match="a.csv: cannot be written"):
        write_atomic(tmp_path / "a.csv", "x")
    (tmp_path / "outputs").symlink_to("/mnt/gone")
    with pytest.raises(ValueError, match="^outputs is a link to /mnt/gone, which does not exist"):
        write_atomic(tmp_path / "outputs" / "tiny" / "a.csv", "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "outputs"]


def test_a_locked_folder_lost_with_its_disk_is_not_recreated(tmp_path):
    lock = FolderLock(tmp_path / "run")
    with pytest.raises(WriteError, match="Mount its disk again, or restore its folder"):
        write_atomic(tmp_path / "run" / "images" / "a.txt", "x")
    assert not (tmp_path / "run").exists()
    lock.release()
    write_atomic(tmp_path / "run" / "a.txt", "x")


def test_data_and_name_are_on_the_disk_before_the_write_returns(tmp_path, monkeypatch):
    """Otherwise, a power cut could leave an empty file under this name."""
    calls, replace = [], os.replace
    monkeypatch.setattr(
        "os.fsync", lambda file: calls.append(stat.S_ISDIR(os.fstat(file).st_mode))
    )
    monkeypatch.setattr("os.replace", lambda *names: calls.append("rename") or replace(*names))
    write_atomic(tmp_path / "a", "x")
    assert calls == [False, "rename", True]


@pytest.fixture
def odd_disk(monkeypatch):
    """Makes locking, or syncing folders, fail with an errno."""

    def odd(call, number):
        def fail(file, *_):
            if call == "fcntl.flock" or stat.S_ISDIR(os.fstat(file).st_mode):
                raise OSError(number, os.strerror(number))

        monkeypatch.setattr(call, fail)

    return odd


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF])
def test_a_disk_without_syncs_of_folders_is_written_to(tmp_path, odd_disk, number):
    odd_disk("os.fsync", number)
    write_atomic(tmp_path / "a.txt", "whole")
    assert (tmp_path / "a.txt").read_text() == "whole"


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_a_disk_without_locks_is_written_to(tmp_path, odd_disk):
    odd_disk("fcntl.flock", errno.ENOSYS)
    lock = FolderLock(tmp_path / "run")
    assert lock.path.is_file()  # it stands in for the system's lock
    lock.release()


def test_other_disk_errors_are_raised_as_they_are(tmp_path, odd_disk):
    odd_disk("fcntl.flock", errno.EIO)
    with pytest.raises(OSError, match=r"Input/output error: '.*\.locks/a\.lock'"):
        FolderLock(tmp_path / "a")
    odd_disk("os.fsync", errno.EIO)
    with pytest.raises(WriteError, match=r"cannot be written \(Input/output error\)"):
        write_atomic(tmp_path / "a.txt", "x")


def test_a_lock_file_has_the_permissions_of_other_files(tmp_path):
    """Otherwise, the second user of a shared project would be locked out."""
    before = os.umask(0o002)
    try:
        lock = FolderLock(tmp_path)
        write_atomic(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    lock.release()
    assert lock.path.stat().st_mode == (tmp_path / "a.txt").stat().st_mode
