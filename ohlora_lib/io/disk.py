"""Atomic writes that survive a full disk, a lost mount or a power cut; errors are one line."""

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".partial"  # in the names of files that are still being written
ROOM = {None, errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # NumPy's errors have no errno
RIGHTS = {errno.EACCES, errno.EPERM, errno.EROFS}
MOUNT = {errno.ENOENT, errno.ENOTDIR, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV}
REMEDIES = {
    "Free room on its disk": ROOM,
    "Make its folder writable again": RIGHTS,
    "Mount its disk again, or restore its folder": MOUNT,
}
locked: dict[Path, Path] = {}  # run folders that this process has locked, by the file of each lock
NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES}  # of a folder


class WriteError(OSError):
    """A file could not be written; the message is one line that names it and the remedy."""

    def __str__(self) -> str:
        known = (remedy for remedy, numbers in REMEDIES.items() if self.errno in numbers)
        return (
            f"{self.filename}: cannot be written ({self.strerror or 'only part was written'}). "
            f"{next(known, 'Check its disk')} and start again: a training run resumes from its "
            f"last checkpoint."
        )


def _sync(path: Path) -> None:
    """Flushes a file, or the entries of a folder, to disk if the file system supports it."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise


def dangling_link(path: Path) -> str:
    """Names the part of a path that is a dangling link, or returns an empty string."""
    for part in (path, *path.parents):
        if os.path.islink(part) and not os.path.exists(part):
            target = os.readlink(part)
            return f"{part.name} is a link to {target}, which does not exist. Mount its disk."
    return ""


def make_folder(folder: Path) -> None:
    """Creates a folder and its parents; ValueError if one of them is a dangling link."""
    if reason := dangling_link(folder):
        raise ValueError(reason)
    folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path with the same suffix, and renames it to `path` on success.

    Creates the folder. If writing fails, raises WriteError and keeps the old file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(6)}{PARTIAL}{path.suffix}")
    ours = {None, *map(str, (path, temporary, path.parent))}
    try:
        for mark, folder in list(locked.items()):  # do not recreate one lost with its disk
            if folder in path.parents and not (folder.is_dir() and mark.is_file()):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        make_folder(path.parent)
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        other = error.filename not in ours and error.errno not in ROOM  # of reading another file
        if other or isinstance(error, WriteError):
            raise
        raise WriteError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):  # an error being raised already names the fault
            temporary.unlink(missing_ok=True)


def write_atomic(path: Path | str, data: bytes | str) -> None:
    """Writes a file atomically; text as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def complaint(
    path: Path | str,
    what: str,
    remedy: str = "",
    errors: type[Exception] | tuple[type[Exception], ...] = Exception,
) -> Iterator[None]:
    """Turns errors inside the block into a ValueError of one line: PATH: WHAT (REASON). REMEDY."""
    try:
        yield
    except errors as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        reason = " ".join((getattr(error, "strerror", None) or f"{kind}{error}").split())[:300]
        raise ValueError(f"{path}: {what} ({reason}). {remedy}".rstrip()) from error


def check_file(path: Path, kind: str, remedy: str = "Check the path.") -> None:
    """Raises ValueError unless the path is a file; the message names the path and `kind`."""
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, not a {kind}. Give a file.")
    if not path.is_file():
        raise ValueError(f"{path}: no such {kind}. {remedy}")


def file_name(text: str, *, kept: str = r"\w-", longest: int = 80) -> str:
    """Makes a file name from any text: characters of the class `kept`, others become `_`.

    An altered text ends in part of its hash, so two texts never share a file.
    """
    plain = re.sub(rf"[^{kept}]+", "_", text)
    if plain == text and len(plain) <= longest:
        return plain
    return f"{plain[: longest - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
