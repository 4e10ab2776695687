"""Shows a study's progress: a live line in a terminal, plain lines elsewhere."""

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ohlora_lib.study.machine import counted, duration, printable

QUIET_SEC = 8.0  # longest gap between plain lines
ENDED = re.compile(r"\[\d+/\d+\] \S+  (done|unchanged, skipped)\b")  # a stage's last line


class Status:
    """Prints one line per stage, on standard output unless a console is given."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._live = Live(console=self.console, transient=True, auto_refresh=False)
        self._label = self._cell = self._text = ""
        self._started = self._spoke = time.monotonic()

    def say(self, text: str) -> None:
        """Prints a permanent line."""
        self.console.print(Text(printable(text)))
        self._spoke = time.monotonic()

    def start(self, label: str, why: str) -> None:
        """Starts a stage's line."""
        self._label, self._cell, self._text = label, "", ""
        self._started = time.monotonic()
        if self.console.is_terminal:
            self._live.start()
        elif why:
            self.say(f"{label}  {why}")

    @contextmanager
    def live(self, label: str) -> Iterator[None]:
        """Shows a line inside the block, on a terminal only."""
        if self.console.is_terminal:
            self.start(label, "")
        try:
            yield
        finally:
            self._live.stop()

    def update(self, *, cell: str = "", text: str = "") -> None:
        """Stores the stage's progress: its running cell and its last printed lines."""
        self._cell = cell or self._cell
        self._text = "\n".join(map(printable, text.splitlines()))

    def tick(self) -> None:
        """Shows the progress; call it at least once a second."""
        elapsed = duration(time.monotonic() - self._started)
        head = "  ".join(filter(None, (self._label, elapsed, self._cell)))
        line = f"{head}  {self._text}".rstrip()
        if self._live.is_started:
            if len(line) > self.console.width:
                line = f"{head}\n{self._text}"
            text = Text(line, no_wrap=True, overflow="ellipsis", style="cyan")
            self._live.update(text, refresh=True)
        elif time.monotonic() - self._spoke >= QUIET_SEC:
            self.say(line)

    def end(self, outcome: str) -> None:
        """Ends a stage with a permanent line."""
        self._live.stop()
        self.say(f"{self._label}  {outcome}  {duration(time.monotonic() - self._started)}")


class SweepProgress:
    """Shows how many stages of a sweep are left and, on a terminal, what its studies are doing.

    Reads this from the studies' logs, which workers on other machines write too.
    """

    def __init__(self, status: Status, left: int) -> None:
        self.status, self.left = status, left
        self._ended: Counter[str] = Counter()  # stages that have ended, by study

    def show(self, logs: Mapping[str, Path]) -> None:
        """Prints a line per stage that has ended since the last call; `logs` are by study."""
        running = []
        for study, log in logs.items():
            lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
            ended = [line for line in lines if ENDED.match(line)]
            for line in ended[self._ended[study] :]:
                self._ended[study] += 1
                self.left -= 1
                self.status.say(f"{study}  {line}, {counted(self.left, 'stage')} left")
            if lines and lines[-1].startswith("[") and lines[-1] not in ended:
                running.append(f"{study}  {lines[-1]}")
        if self.status.console.is_terminal:
            left = f"{counted(self.left, 'stage')} left"
            self.status.update(cell=left, text="\n".join(running))
            self.status.tick()
