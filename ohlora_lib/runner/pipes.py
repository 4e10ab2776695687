"""Pipes between a process and the one that started it."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from typing import IO, Any

WAIT_SEC = 0.5


class Lines:
    """Reads the lines of a process in a thread.

    The end of the stream is not enough to go by: whatever the process started holds it open too.

    Args:
        stream: What the process writes to; closed at its end.
        process: The process.
    """

    def __init__(self, stream: IO[str], process: subprocess.Popen) -> None:
        self.process = process
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: IO[str]) -> None:
        try:
            with stream:
                for line in stream:
                    self._lines.put(line)
        finally:
            self._lines.put(None)

    def next(self) -> str | None:
        """The next line; empty if none comes for half a second, None at the end."""
        ended = self.process.poll() is not None
        try:
            return self._lines.get(timeout=WAIT_SEC)
        except queue.Empty:
            return None if ended else ""


def read_event(line: str) -> dict[str, Any]:
    """The JSON object a line holds; empty if it holds none."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}


def stop_with_parent() -> None:
    """Interrupts this process once its standard input ends: the process that holds it is gone."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()
