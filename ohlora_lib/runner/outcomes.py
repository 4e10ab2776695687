"""How a stage ended, as what it was, in one line: failed, interrupted or killed, and why."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ohlora_lib.io.disk import WriteError

SMALLER = "Use a smaller batch or fewer samples"
GO_ON = "a training resumes from its last checkpoint"


@dataclass(frozen=True)
class Outcome:
    """How a stage ended that did not finish."""

    status: str  # failed, interrupted or killed
    reason: str  # one line


def of_event(event: Mapping[str, Any], *, memory_ran_out: bool = False) -> Outcome | None:
    """What the last event of a stage's process says; None if its notebook came to its end.

    Args:
        event: Its kind, and what came with it.
        memory_ran_out: Whether the system ended a process for want of memory meanwhile.
    """
    kind = event.get("event")
    if kind == "done":
        return None
    if kind == "died":
        return of_exit("its kernel", event["exit_code"], memory_ran_out=memory_ran_out)
    place = "" if event["cell"] is None else f"cell [{event['cell']}]: "
    return Outcome("failed", f"{place}{event['error']}")


def of_exit(who: str, exit_code: int | None, *, memory_ran_out: bool = False) -> Outcome:
    """What the exit status of a process says that ended before its notebook did."""
    if exit_code is None:
        return Outcome("killed", f"{who} died")
    if exit_code >= 0:
        return Outcome("failed", f"{who} ended (exit status {exit_code})")
    if exit_code == -9 and memory_ran_out:
        return Outcome(
            "killed", f"{who} was killed by the system because memory ran out. {SMALLER}"
        )
    if exit_code == -9:
        guess = f"most often the memory ran out: {SMALLER[0].lower()}{SMALLER[1:]}"
        return Outcome("killed", f"{who} died (killed; {guess})")
    if exit_code == -signal.SIGTERM:
        return Outcome("killed", f"{who} was ended by SIGTERM. Start again: {GO_ON}")
    return Outcome("killed", f"{who} died ({signal.Signals(-exit_code).name})")


def of_traceback(text: str) -> str:
    """The error that the last traceback in a text ends with; without one, the last line.

    Args:
        text: What a process wrote to standard error.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    raised = [
        k
        for k, line in enumerate(lines)
        if line.startswith("Traceback (") and not lines[k - 1].startswith("Exception ignored")
    ]
    after = lines[raised[-1] + 1 :] if raised else []
    return next((line for line in after if not line.startswith(" ")), lines[-1] if lines else "")


def of_error(name: str, text: str) -> str:
    """What an error of a cell says, in one line with its remedy where it is a known one.

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
    """What a failed write outside the notebook says, in one line with its remedy.

    Args:
        error: What the system said.
        path: The file, where the error does not name it.
    """
    if isinstance(error, WriteError):
        return str(error)
    if error.errno is None:  # papermill's own words for a folder that is gone
        return f"{str(error).rstrip('.')}. Bring its disk back and start again: {GO_ON}"
    return str(WriteError(error.errno, error.strerror, str(error.filename or path)))
