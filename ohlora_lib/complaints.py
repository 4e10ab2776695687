"""Errors of the command as one line: what was given, what is allowed, what to do."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Any

from ohlora_lib.io import disk
from ohlora_lib.study.machine import printable

MOST_LETTERS = 500  # of a line; what is longer was data


def in_words(error: Exception) -> str:
    """What a person reads of an error; one that nobody foresaw is called so."""
    if isinstance(error, OSError) and error.filename is not None:
        path = Path(os.fsdecode(error.filename))
        room = error.errno in disk.ROOM
        remedy = "Free room on its disk." if room else "Correct the path, its rights or its disk."
        return disk.dangling_link(path) or f"{path}: {error.strerror}. {remedy}"
    if isinstance(error, ValueError | OSError) or hasattr(error, "exit_status"):
        return str(error)
    return f"unexpected {type(error).__name__}: {error} (--debug shows where it comes from)"


def usage_in_words(error: Any) -> str:
    """What a person reads of a wrong command line; empty where help was printed instead."""
    message, context = error.format_message(), getattr(error, "ctx", None)
    if not message or not context:
        return message
    stop = "" if message.endswith(("?", ".")) else "."
    return f"{message}{stop} See {context.command_path} --help"


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
