"""Shows a study's progress: a live line in a terminal, plain lines elsewhere."""

import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ohlora_lib.study.machine import duration, printable

QUIET_SEC = 8.0  # longest gap between plain lines


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
        else:
            self.say(f"{label}  {why}")

    def update(self, *, cell: str = "", text: str = "") -> None:
        """Stores the stage's progress: its running cell and its last printed line."""
        self._cell, self._text = cell or self._cell, printable(text)

    def tick(self) -> None:
        """Shows the progress; call it at least once a second."""
        elapsed = duration(time.monotonic() - self._started)
        line = "  ".join(filter(None, (self._label, elapsed, self._cell, self._text)))
        if self._live.is_started:
            text = Text(line, no_wrap=True, overflow="ellipsis", style="cyan")
            self._live.update(text, refresh=True)
        elif time.monotonic() - self._spoke >= QUIET_SEC:
            self.say(line)

    def end(self, outcome: str) -> None:
        """Ends a stage with a permanent line."""
        self._live.stop()
        self.say(f"{self._label}  {outcome}  {duration(time.monotonic() - self._started)}")
