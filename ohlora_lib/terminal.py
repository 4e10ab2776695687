"""What the command prints: tables, and errors as one line of what is wrong and what to do."""

import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ohlora_lib.io import disk
from ohlora_lib.study.machine import printable

WIDE = 160  # columns of a table that no terminal shows
MOST_LETTERS = 500  # of an error; what is longer was data


def as_text(value: Any) -> str:
    """A value for a table cell."""
    if value is None or value != value:
        return "-"
    if isinstance(value, float):  # four decimals, or two digits of less; rounding errors are 0
        tiny = 1e-12 < abs(value) < 5e-4
        return f"{value:.2g}" if tiny else f"{round(value, 4) + 0:.6g}"
    return ", ".join(map(as_text, value)) if isinstance(value, list | tuple) else str(value)


def show_table(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Prints a table; a long cell is folded, never cut."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*[Text(printable(as_text(value))) for value in row])
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def in_words(error: Any) -> str:
    """The text of an error for a person; empty if help was printed instead."""
    if hasattr(error, "exit_code"):  # a wrong command line
        message, context = error.format_message(), getattr(error, "ctx", None)
        if not message or not context:
            return message
        stop = "" if message.endswith(("?", ".")) else "."
        return f"{message}{stop} See {context.command_path} --help"
    if isinstance(error, OSError) and error.filename is not None:
        path = Path(os.fsdecode(error.filename))
        room = error.errno in disk.ROOM
        remedy = "Free room on its disk." if room else "Correct the path, its rights or its disk."
        return disk.dangling_link(path) or f"{path}: {error.strerror}. {remedy}"
    if isinstance(error, ValueError | OSError) or hasattr(error, "exit_status"):
        return str(error)
    return f"unexpected {type(error).__name__}: {error} (--debug shows where it comes from)"


def complain(error: Exception, *, debug: bool) -> None:
    """Writes an error as one line to standard error, after its traceback if asked for."""
    if debug:
        traceback.print_exception(error)
    line = printable(" ".join(in_words(error).split()))
    if len(line) > MOST_LETTERS:  # what was wrong stands first, what to do last
        line = f"{line[: MOST_LETTERS // 2]} ... {line[-MOST_LETTERS // 2 :]}"
    if line:
        sys.stderr.write(f"ohlora: {line}\n")
