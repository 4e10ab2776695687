"""Writing that survives a full disk, a lost mount and a pulled plug, and says so in one line."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".partial"  # part of the name of files that are being written
_counter = itertools.count()
ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
RIGHTS = {errno.EACCES, errno.EPERM, errno.EROFS}
NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}
MOUNT = {errno.ENOENT, errno.ENOTDIR, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV}


watched: dict[Path, tuple[int, int]] = {}  # folders that are held: device and inode


class WriteError(OSError):
    """A file could not be written; the message is one line that names it and the remedy."""

    def __str__(self) -> str:
        reason = self.strerror or "it was not written whole"
        remedy = "Look at its disk"
        if self.errno in ROOM or self.errno is None:
            remedy = "Free room on its disk"
        elif self.errno in RIGHTS:
            remedy = "Make its folder writable again"
        elif self.errno in MOUNT:
            remedy = "Mount its disk again, or bring its folder back"
        return (
            f"{self.filename}: cannot be written ({reason}). {remedy} and start again: "
            f"a training resumes from its last checkpoint."
        )


@contextmanager
def explained(path: Path, temporary: Path) -> Iterator[None]:
    """Turns what the system says of a failed write into a `WriteError`; removes what is half done.

    Args:
        path: The file that shall be.
        temporary: What is written to until it is whole.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        _remove(temporary)
        own = error.filename is None or Path(os.fsdecode(error.filename)) in {
            path, temporary, path.parent,
        }  # fmt: skip
        if not own and error.errno not in ROOM:  # of reading something else, say
            raise
        raise WriteError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        _remove(temporary)
        raise


def check_there(path: Path) -> None:
    """Raises if a folder that this process has locked is not there, or another is in its place.

    A disk that is unmounted leaves an empty folder, where a run must not go on writing.

    Args:
        path: A file to write.

    Raises:
        WriteError: If so.
    """
    for folder, opened in tuple(watched.items()):  # other threads open and close folders
        if folder not in path.parents:
            continue
        try:
            there = os.stat(folder)
        except OSError as error:
            raise WriteError(error.errno, error.strerror, str(path)) from error
        if (there.st_dev, there.st_ino) != opened:
            raise WriteError(errno.ESTALE, "its folder is another one now", str(path))


def _remove(temporary: Path) -> None:
    with suppress(OSError):  # the error on its way says why the disk takes nothing any more
        temporary.unlink(missing_ok=True)


def sync(file: int) -> None:
    """Makes what an open file holds last through a power cut, where its file system can."""
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise


def sync_folder(folder: Path) -> None:
    """Makes new names in a folder last through a power cut, where the system can."""
    if os.name == "nt" or not os.access(folder, os.R_OK):  # writing needs no right to list it
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        sync(handle)
    finally:
        os.close(handle)


def dangling_link(path: Path) -> str:
    """Says which part of a path is a link to what is not there; empty if none is."""
    for part in (path, *path.parents):
        if os.path.islink(part) and not os.path.exists(part):
            target = os.readlink(part)
            return f"{part.name} is a link to {target}, which is not there. Mount it."
    return ""


def make_folder(folder: Path) -> None:
    """Makes a folder and those it lies in, unless they are there.

    Raises:
        ValueError: If one of them is a link to what is not there, a disk not mounted for instance.
        OSError: If it cannot be made for another reason.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if reason := dangling_link(folder):
            raise ValueError(reason) from error
        raise


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Gives a temporary path in the same folder, which takes the name of `path` on success.

    Args:
        path: Where the file shall be; its folder is made. The temporary name keeps the suffix.

    Raises:
        WriteError: If the disk does not take it; what was there before stays.
    """
    path = Path(path)
    temporary = path.with_name(
        f".{path.stem}.{os.getpid()}-{next(_counter)}{PARTIAL}{path.suffix}"
    )
    with explained(path, temporary):
        check_there(path)
        make_folder(path.parent)
        yield temporary
        with temporary.open("rb+") as file:
            sync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)


def write_atomic(path: Path | str, data: bytes | str) -> None:
    """Writes a file whole or not at all; text as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def check_file(path: Path, kind: str, remedy: str = "Check the path.") -> None:
    """Raises a ValueError that names the path and the kind wanted if there is no file at it."""
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, not a {kind}. Give a file.")
    if not path.is_file():
        raise ValueError(f"{path}: no such {kind}. {remedy}")


def sha256(path: Path) -> str:
    """Hash of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
