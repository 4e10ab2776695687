"""Errors of the command as one line: what was given, what is allowed, what to do."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ohlora_lib.io import disk
from ohlora_lib.study.machine import printable

DISK = {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.ENXIO}
MOST_LETTERS = 500  # of a line; what is longer was data


def in_words(error: Exception) -> str:
    """What a person reads of an error; one that nobody foresaw is called so."""
    if isinstance(error, OSError) and error.filename is not None:
        return _of_file(error)
    if isinstance(error, ValueError | OSError) or hasattr(error, "exit_status"):
        return str(error)
    return f"unexpected {type(error).__name__}: {error} (--debug shows where it comes from)"


def _of_file(error: OSError) -> str:
    """What the system said of a file, and what helps."""
    path = os.fsdecode(error.filename)
    remedy = "Correct the path or its rights."
    if error.errno in disk.ROOM:
        remedy = "Free room on its disk."
    elif error.errno in DISK:
        remedy = "Look at its disk."
    return disk.dangling_link(Path(path)) or f"{path}: {error.strerror}. {remedy}"


def usage_in_words(error: Any, given: Sequence[str]) -> str:
    """What a person reads of a wrong command line; empty where help was printed instead."""
    message = error.format_message()
    if not message:
        return ""
    value = _value_of(getattr(error, "param", None), given)
    if value is not None and repr(value) not in message:
        message = f"{message.rstrip('.')}; given {value!r}"
    context = getattr(error, "ctx", None)
    stop = "" if message.endswith(("?", ".")) else "."
    return f"{message}{stop} See {context.command_path} --help" if context else message


def _value_of(param: Any, given: Sequence[str]) -> str | None:
    """What was given for an option."""
    for word, value in zip(given, [*given[1:], ""], strict=True):
        for name in getattr(param, "opts", ()):
            if word == name:
                return value
            if word.startswith(f"{name}="):
                return word.removeprefix(f"{name}=")
    return None


def complain(error: Exception | None, message: str, *, debug: bool) -> None:
    """Writes one line to standard error, after the traceback if asked for."""
    if debug:
        traceback.print_exception(error)
    if not message:
        return
    line = printable(" ".join(message.split()))
    if len(line) > MOST_LETTERS:  # what was wrong stands first, what to do last
        line = f"{line[: MOST_LETTERS // 2]} ... {line[-MOST_LETTERS // 2 :]}"
    sys.stderr.write(f"ohlora: {line}\n")
