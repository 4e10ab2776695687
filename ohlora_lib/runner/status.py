"""Shows a study's progress: a live line in a terminal, plain lines elsewhere."""

import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ohlora_lib.study.machine import duration, printable

QUIET_SEC = 8.0  # longest gap between plain lines


class Status:
    """Prints one line per stage.

    Args:
        console: Where to write; standard output if None.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._live: Live | None = None
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
            self._live = Live(console=self.console, transient=True, auto_refresh=False)
            self._live.start()
        else:
            self.say(f"{label}  {why}")

    def update(self, *, cell: str = "", text: str = "") -> None:
        """Stores the stage's progress: its running cell and its last printed line."""
        self._cell, self._text = cell or self._cell, printable(text)

    def tick(self) -> None:
        """Shows the progress; call it at least once a second."""
        if self._live is not None:
            line = Text(self._line(), no_wrap=True, overflow="ellipsis", style="cyan")
            self._live.update(line, refresh=True)
        elif time.monotonic() - self._spoke >= QUIET_SEC:
            self.say(self._line())

    def end(self, outcome: str) -> None:
        """Ends a stage with a permanent line."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        self.say(f"{self._label}  {outcome}  {duration(time.monotonic() - self._started)}")

    def _line(self) -> str:
        elapsed = duration(time.monotonic() - self._started)
        return "  ".join(x for x in (self._label, elapsed, self._cell, self._text) if x)
