"""What moves at the screen: the live monitor of a fine-tuning.

In JupyterLab one figure is redrawn in place; in a batch run only the progress line is printed.
"""

from __future__ import annotations

import html
import os
import time
from collections.abc import Mapping
from typing import Any

import pandas as pd
from IPython.display import HTML, DisplayHandle, Image, display
from tqdm import tqdm

from ohlora_lib import figures
from ohlora_lib.figures import style
from ohlora_lib.finetune.run import Progress
from ohlora_lib.study.machine import duration
from ohlora_lib.verdict import findings
from ohlora_lib.verdict.logs import time_epochs

MIN_ROWS = 3  # a trend of fewer rows says nothing
WARNED_ROWS = 20  # rows of a log before which its end is not yet a trend to warn of
MOST_SHARE = 0.02  # of the training time, that drawing may take


def at_the_screen() -> bool:
    """Whether somebody watches: Jupyter's server names the session of kernels it starts."""
    return "JPY_SESSION_NAME" in os.environ


class Monitor:
    """Shows how a fine-tuning goes: a progress line, and at the screen the trends and a grid.

    Args:
        concept: Target of each property.
        resumed: Whether the training resumed from a checkpoint.
        live: Whether to draw; None asks `at_the_screen`.
    """

    def __init__(
        self, concept: Mapping[str, float], *, resumed: bool = False, live: bool | None = None
    ) -> None:
        self.concept = concept
        self.live = at_the_screen() if live is None else live
        self.rows = self.drawn = 0  # rows of the log when it was last drawn; drawings
        self.drawing_sec = 0.0
        self.newest: Progress | None = None
        self.warned: set[str] = set()  # rules of `failures.stability` that are broken
        self.checked = 0  # rows of the log when it was last looked through
        self.bar: tqdm | None = None
        self.line: DisplayHandle | None = None
        self.figure: DisplayHandle | None = None
        self.grid: DisplayHandle | None = None
        if resumed:
            print("Going on from the checkpoint of an earlier start.")  # noqa: T201

    def __call__(self, progress: Progress) -> None:
        """Shows the newest state."""
        self.newest = progress
        self._warn(progress.log, progress.batches_per_epoch)
        if self.live:
            self.line = _shown(HTML(progress_line(progress, self.concept)), self.line)
        else:
            self._print(progress)
        if self.live and len(progress.log) > max(self.rows, MIN_ROWS - 1):
            cost = self.drawing_sec / max(self.drawn, 1)  # of one drawing, so far
            if not self.drawn or self.drawing_sec + cost <= MOST_SHARE * progress.elapsed_sec:
                self._draw(progress)

    def _warn(self, log: pd.DataFrame, batches: int) -> None:
        """Says once what goes wrong, by the rules that the report judges stability by."""
        if len(log) < WARNED_ROWS or len(log) == self.checked:
            return
        self.checked = len(log)
        timed = log.assign(time_epochs=time_epochs(log, batches=batches))
        for finding in findings.stability(timed):
            if finding.rule not in self.warned:
                self.warned.add(finding.rule)
                where = f"epoch {log['epoch'].iloc[-1]}, batch {log['idx'].iloc[-1]}"
                tqdm.write(f"Warning at {where}: {finding.text}.")

    def _print(self, progress: Progress) -> None:
        if self.bar is None:
            self.bar = tqdm(total=progress.batches_total, desc="Fine-tuning", ncols=100)
            self.bar.initial = progress.batches_done - 1
        self.bar.n = progress.batches_done
        self.bar.set_postfix_str(latest_scores(progress.log, self.concept), refresh=True)

    def _draw(self, progress: Progress) -> None:
        began = time.perf_counter()
        self._show(progress)
        self.rows, self.drawn = len(progress.log), self.drawn + 1
        self.drawing_sec += time.perf_counter() - began

    def _show(self, progress: Progress) -> None:
        times = time_epochs(progress.log, batches=progress.batches_per_epoch)  # 0 estimates them
        trends = figures.progress(progress.log.assign(time_epochs=times), self.concept)
        style.find_fonts(trends.drawing)
        image = Image(data=style.drawn(trends.drawing, "png", dpi=80), alt=trends.alt)
        self.figure = _shown(image, self.figure)
        if progress.grid is not None:
            grid = Image(filename=progress.grid, alt="Newest samples of the same latents.")
            self.grid = _shown(grid, self.grid)

    def close(self, finished: bool) -> None:
        """Ends the progress line and says whether training finished."""
        if self.bar is not None:
            self.bar.close()
        if self.live and self.newest is not None and len(self.newest.log) > self.rows:
            self._draw(self.newest)  # training is over: the last state, whatever it costs
        word = "Finished." if finished else "Interrupted; the checkpoint is saved."
        print(word)  # noqa: T201


def _shown(what: Any, handle: DisplayHandle | None) -> DisplayHandle | None:
    """Shows something for the first time, or in the place where it was."""
    if handle is None:
        return display(what, display_id=True)
    handle.update(what)
    return handle


def progress_line(progress: Progress, concept: Mapping[str, float]) -> str:
    """How far, how long it will take, and the newest scores, as HTML."""
    done, total = progress.batches_done, progress.batches_total
    left = duration(progress.left_sec)
    scores = html.escape(latest_scores(progress.log, concept))
    return (
        f'<progress value="{done}" max="{total}" aria-label="Fine-tuning"></progress> '
        f"{done:,} of {total:,} batches{_epochs(progress)}, {left} left. {scores}"
    )


def _epochs(progress: Progress) -> str:
    """Where the number of batches comes from."""
    batches = progress.batches_per_epoch
    epochs = (progress.batches_total - 1) // batches
    return f" ({epochs:,} epochs of {batches:,}, and one that closes the last)"


def latest_scores(log: pd.DataFrame, concept: Mapping[str, float]) -> str:
    """The newest mean scores in a few letters."""
    if log.empty:
        return ""
    last = log.iloc[-1]
    return " ".join(f"{prop} {last[f'mean_{prop}_score']:.2f}" for prop in concept)
