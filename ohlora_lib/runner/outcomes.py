"""Describes how a stage ended: one line, with a remedy for known causes."""

import re
import signal
from dataclasses import dataclass
from enum import StrEnum

from ohlora_lib.io.disk import WriteError

SMALLER = "use a smaller batch or fewer samples"
GO_ON = "a training run resumes from its last checkpoint"
CAUSES = (  # pattern for `CLASS: text` of an error, and the message shown instead
    ("^OutOfMemoryError|CUDA.* out of memory", f"the GPU ran out of memory ({{}}); {SMALLER}"),
    (r"^\w*MemoryError|(can't allocate|not enough) memory", f"memory ran out ({{}}); {SMALLER}"),
    ("No space left", f"the disk is full ({{}}). Free some space and start again: {GO_ON}"),
)
GRACE_SEC = {signal.SIGINT: 300, signal.SIGTERM: 7}  # time for a stopped stage to save its state
STOPPED_BY = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Ended(StrEnum):
    """How a stage ended."""

    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    KILLED = "killed"


@dataclass(frozen=True)
class Outcome:
    """How a stage ended, a one-line reason, and the exit status the command should return."""

    ended: Ended
    reason: str = ""
    exit_status: int = 1


def of_stop(number: int) -> Outcome:
    """Returns the outcome of a stage that a signal interrupted."""
    return Outcome(Ended.INTERRUPTED, f"stopped by {STOPPED_BY[number]}", 128 + number)


def of_exit(who: str, exit_code: int | None) -> Outcome:
    """Returns the outcome of a stage when a process, `who`, exited before its notebook finished.

    The exit code is the negated number of a fatal signal, and None if it is unknown.
    """
    if exit_code is not None and exit_code >= 0:
        return Outcome(Ended.FAILED, f"{who} ended (exit status {exit_code})")
    known = {
        None: "died",
        -signal.SIGTERM: f"was ended by SIGTERM. Start again: {GO_ON}",
        -signal.SIGKILL: f"died (killed, most often for lack of memory: {SMALLER})",
    }
    how = known.get(exit_code) or f"died ({signal.Signals(-exit_code).name})"
    return Outcome(Ended.KILLED, f"{who} {how}")


def of_error(name: str, text: str) -> str:
    """Describes an error in one line, given its class name and text."""
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
    """Describes in one line why the executed notebook or its page at `path` was not written."""
    if error.errno is None:  # papermill's own message for a missing folder
        return f"{str(error).rstrip('.')}. Mount its disk and start again: {GO_ON}"
    return str(WriteError(error.errno, error.strerror, str(error.filename or path)))
