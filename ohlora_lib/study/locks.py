"""One writer a folder: a lock that the system frees when its holder ends, crash included."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ohlora_lib.io.disk import watched

LOCKS = ".locks"  # beside the folders: a folder can be moved while it is locked
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
TOLD = "OHLORA_NO_LOCKS"  # set once the line was printed; kernels inherit it


class FolderLock:
    """A lock on a folder, held until `release` or the end of the process.

    Args:
        folder: The folder; it need not be there, but its parent must.
        name: End of the lock file's name; a `.json` beside it says who holds the lock.

    Raises:
        ValueError: If another process holds the lock; says which and since when.
        OSError: If the lock file cannot be opened or locked for another reason. A file system
            without locks is no error: one line says so, once.
    """

    def __init__(self, folder: Path, name: str = ".lock") -> None:
        self.folder, self.path = folder, folder.parent / LOCKS / f"{folder.name}{name}"
        self.path.parent.mkdir(exist_ok=True)
        # A soft lock would outlive a killed process; locks are freed by other threads too.
        self._lock = FileLock(self.path, thread_local=False, fallback_to_soft=False)
        holder = self.path.with_name(f"{self.path.name}.json")
        try:
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise ValueError(
                f"{folder}: {_holder(holder)} is writing here. Wait for it or stop it; then start "
                f"again."
            ) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise OSError(error.errno, error.strerror, str(self.path)) from error
            _tell_once(error)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        facts = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
        holder.write_text(json.dumps(facts), encoding="utf-8")

    def watch(self) -> None:
        """Lets nothing be written once the folder is gone or another is in its place."""
        there = self.folder.stat()
        watched[self.folder] = (there.st_dev, there.st_ino)

    def release(self) -> None:
        """Frees the lock; a second call does nothing."""
        watched.pop(self.folder, None)
        self._lock.release()


def _tell_once(error: OSError) -> None:
    """Says that there are no locks, unless this process or one that started it has said so."""
    if TOLD not in os.environ:
        os.environ[TOLD] = "told"
        sys.stderr.write(
            f"This file system has no locks ({error.strerror}), so nothing stops two runs from "
            f"writing to the same folder. Start each stage only once.\n"
        )


def _holder(path: Path) -> str:
    """Who holds the lock, as far as the file beside it tells."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return f"process {facts['pid']} on {facts['host']} (since {facts['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
