"""One writer a folder: a lock file that the system frees when its holder ends, crash included."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

from ohlora_lib.io.disk import watched

if os.name == "nt":
    import msvcrt
else:
    import fcntl

LOCKS = ".locks"  # beside the folders: a folder can be moved while it is locked
HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
TOLD = "OHLORA_NO_LOCKS"  # set once the line was printed; kernels inherit it
FAR_BYTE = 2**30  # Windows locks bytes against reading too: lock one beyond the text


class FolderLock:
    """A lock on a folder, held until `release` or the end of the process.

    Args:
        folder: The folder; it need not be there, but its parent must.
        name: End of the lock file's name.

    Raises:
        ValueError: If another process holds the lock; says which and since when.
        OSError: If the lock file cannot be opened or locked for another reason. A file system
            without locks is no error: one line says so, once.
    """

    def __init__(self, folder: Path, name: str = ".lock") -> None:
        self.folder, self.path = folder, folder.parent / LOCKS / f"{folder.name}{name}"
        self.path.parent.mkdir(exist_ok=True)
        self._file: int | None = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(self._file)
        except OSError as error:
            if error.errno in NO_LOCKS:
                _tell_once(error)
            else:
                self.release()
                raise _refusal(folder, self.path, error) from error
        facts = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        os.ftruncate(self._file, 0)
        os.write(self._file, json.dumps(facts).encode())

    def watch(self) -> None:
        """Lets nothing be written once the folder is gone or another is in its place."""
        there = self.folder.stat()
        watched[self.folder] = (there.st_dev, there.st_ino)

    def release(self) -> None:
        """Frees the lock; a second call does nothing."""
        if self._file is not None:
            watched.pop(self.folder, None)
            os.close(self._file)  # closing frees it on every system
            self._file = None


def _lock(file: int) -> None:
    if os.name == "nt":
        os.lseek(file, FAR_BYTE, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _refusal(folder: Path, path: Path, error: OSError) -> Exception:
    """What to raise: held by another process, or what else the system said."""
    if error.errno not in HELD:
        return OSError(error.errno, error.strerror, str(path))
    return ValueError(
        f"{folder}: {_holder(path)} is writing here. Wait for it or stop it; then start again."
    )


def _tell_once(error: OSError) -> None:
    """Says that there are no locks, unless this process or one that started it has said so."""
    if TOLD not in os.environ:
        os.environ[TOLD] = "told"
        sys.stderr.write(
            f"This file system has no locks ({error.strerror}), so nothing stops two runs from "
            f"writing to the same folder. Start each stage only once.\n"
        )


def _holder(path: Path) -> str:
    """Who holds the lock, as far as its file tells."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return f"process {facts['pid']} on {facts['host']} (since {facts['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
