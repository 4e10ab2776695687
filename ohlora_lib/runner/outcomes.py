"""How a stage ended, as what it was, in one line with its remedy where it is a known one."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from enum import StrEnum

from ohlora_lib.io.disk import WriteError
from ohlora_lib.study import machine

SMALLER = "Use a smaller batch or fewer samples"
GO_ON = "a training resumes from its last checkpoint"
CAUSES = (  # pattern of an error, its class first, and the message shown instead
    ("^OutOfMemoryError|CUDA.* out of memory", f"the GPU's memory ran out ({{}}). {SMALLER}"),
    (r"^\w*MemoryError|(can't allocate|not enough) memory", f"memory ran out ({{}}). {SMALLER}"),
    ("No space left", f"the disk is full ({{}}). Free room and start again: {GO_ON}"),
)
GRACE_SEC = {signal.SIGINT: 300, signal.SIGTERM: 7}  # that a stopped stage has to save its state
STOPPED_BY = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Ended(StrEnum):
    """How a stage ended."""

    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    KILLED = "killed"


@dataclass(frozen=True)
class Outcome:
    """How a stage ended, why in one line, and the exit status of a command that ends so."""

    ended: Ended
    reason: str = ""
    exit_status: int = 1


def of_stop(number: int) -> Outcome:
    """The outcome of a stage that a signal interrupted."""
    return Outcome(Ended.INTERRUPTED, f"stopped by {STOPPED_BY[number]}", 128 + number)


def of_exit(who: str, exit_code: int | None, memory_kills: int | None = None) -> Outcome:
    """The outcome of a stage whose process ended before its notebook did.

    Args:
        who: Which process.
        exit_code: Its exit status, minus the signal that ended it; None if it is not known.
        memory_kills: `machine.memory_kills()` at the start of the stage.
    """
    if exit_code is not None and exit_code >= 0:
        return Outcome(Ended.FAILED, f"{who} ended (exit status {exit_code})")
    how = f"died ({signal.Signals(-exit_code).name})" if exit_code else "died"
    if exit_code == -signal.SIGTERM:
        how = f"was ended by SIGTERM. Start again: {GO_ON}"
    elif exit_code == -signal.SIGKILL and memory_kills in {None, machine.memory_kills()}:
        how = f"died (killed; most often the memory ran out: {SMALLER.replace('Use', 'use')})"
    elif exit_code == -signal.SIGKILL:
        how = f"was killed by the system because memory ran out. {SMALLER}"
    return Outcome(Ended.KILLED, f"{who} {how}")


def of_error(name: str, text: str) -> str:
    """What an error of a cell, of this class and with this text, says in one line."""
    line = next((part.strip() for part in text.splitlines() if part.strip()), "")
    if name in {"WriteError", "NotFiniteError"}:
        return line
    whole = f"{name}: {line}".rstrip(": ")
    short = re.split(r"(?<=[^.\d])\. ", line)[0].rstrip(".")
    for pattern, words in CAUSES:
        if re.search(pattern, whole):
            return words.format(short or name)
    return whole


def of_disk(error: OSError, path: str) -> str:
    """What a failed write of the executed notebook or its page, at `path`, says in one line."""
    if isinstance(error, WriteError):
        return str(error)
    if error.errno is None:  # papermill's own words for a folder that is gone
        return f"{str(error).rstrip('.')}. Bring its disk back and start again: {GO_ON}"
    return str(WriteError(error.errno, error.strerror, str(error.filename or path)))


def last_error(text: str) -> str:
    """The error that the last traceback in a text ends with; without one, the last line."""
    ignored = re.compile(r"^Exception ignored.*\nTraceback.*\n(?: .*\n)*\S.*", re.MULTILINE)
    raised = re.findall(r"^Traceback \(.*\n(?: .*\n)+(\S.*)", ignored.sub("", text), re.MULTILINE)
    return (raised or text.strip().splitlines() or [""])[-1]
