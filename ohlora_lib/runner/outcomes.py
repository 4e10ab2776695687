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
    if exit_code == -signal.SIGKILL:
        how = f"died (killed; most often the memory ran out: {SMALLER.replace('Use', 'use')})"
        if memory_kills is not None and machine.memory_kills() != memory_kills:
            how = f"was killed by the system because memory ran out. {SMALLER}"
    return Outcome(Ended.KILLED, f"{who} {how}")


def last_error(text: str) -> str:
    """The error that the last traceback in a text ends with; without one, the last line."""
    ignored = re.compile(r"^Exception ignored.*\nTraceback.*\n(?: .*\n)*\S.*", re.MULTILINE)
    raised = re.findall(r"^Traceback \(.*\n(?: .*\n)+(\S.*)", ignored.sub("", text), re.MULTILINE)
    return (raised or text.strip().splitlines() or [""])[-1]


def of_error(name: str, text: str) -> str:
    """What an error of a cell says, in one line.

    Args:
        name: The error's class.
        text: What it says.
    """
    line = next((part.strip() for part in text.splitlines() if part.strip()), "")
    short = re.split(r"(?<=[^.\d])\. ", line)[0].rstrip(".")
    if name == "OutOfMemoryError" or re.search("CUDA.* out of memory", line):
        return f"the GPU's memory ran out ({short}). {SMALLER}"
    if name.endswith("MemoryError") or re.search("(can't allocate|not enough) memory", line):
        return f"memory ran out ({short or name}). {SMALLER}"
    if name in {"WriteError", "NotFiniteError"}:
        return line
    if "No space left on device" in line:
        return f"the disk is full ({short}). Free room and start again: {GO_ON}"
    return f"{name}: {line}".rstrip(": ")


def of_disk(error: OSError, path: str) -> str:
    """What a failed write of the executed notebook or its page says, in one line.

    Args:
        error: What the system said.
        path: The file, where the error does not name it.
    """
    if isinstance(error, WriteError):
        return str(error)
    if error.errno is None:  # papermill's own words for a folder that is gone
        return f"{str(error).rstrip('.')}. Bring its disk back and start again: {GO_ON}"
    return str(WriteError(error.errno, error.strerror, str(error.filename or path)))
