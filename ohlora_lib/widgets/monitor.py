"""Live monitor of a fine-tuning run.

It prints a progress line; JupyterLab also shows figures redrawn in place.
"""

import os
import time
from collections.abc import Mapping

import pandas as pd
from IPython.display import HTML, Image, display
from tqdm import tqdm

from ohlora_lib import figures
from ohlora_lib.figures import style
from ohlora_lib.finetune.loop import FineTuner
from ohlora_lib.finetune.run import FinetuneRun
from ohlora_lib.study.machine import progress_line
from ohlora_lib.verdict import findings
from ohlora_lib.verdict.logs import place_of, time_epochs

MIN_ROWS = 3  # fewer rows show no trend
WARNED_ROWS = 20  # fewest rows of a log before warnings
MOST_SHARE = 0.02  # of the training time, allowed for drawing


class Monitor:
    """Shows the progress of a fine-tuning run: a line and, if live, trends and a grid.

    `concept` maps each property to its target. If `live` is None, the monitor is live in kernels
    started by a Jupyter server, which sets `JPY_SESSION_NAME`.
    """

    def __init__(
        self, concept: Mapping[str, float], *, resumed: bool = False, live: bool | None = None
    ) -> None:
        self.concept = concept
        self.live = "JPY_SESSION_NAME" in os.environ if live is None else live
        self.log, self.grid = pd.DataFrame(), None  # newest log and grid
        self.drawn: list[float] = []  # seconds per drawing
        self.drawn_rows = 0  # rows of the log last drawn
        self.warned: set[str] = set()  # broken rules of `findings.stability`
        self.bar: tqdm | None = None
        names = ("trends", "grid") if self.live else ()
        self.places = {name: display(HTML(""), display_id=True) for name in names}
        if resumed:
            print("Resuming from the checkpoint of an earlier start.")  # noqa: T201

    def __call__(self, training: FinetuneRun) -> None:
        """Shows the current state."""
        tuner, log = training.tuner, pd.DataFrame(training.tuner.rows)
        times = time_epochs(log, batches=tuner.batches_per_epoch)
        self.log, self.grid = log.assign(time_epochs=times), training.grid
        if len(log) >= WARNED_ROWS:
            self._warn()
        self._print(tuner)
        if self.live and len(log) >= max(MIN_ROWS, self.drawn_rows + 1):
            spent, cost = sum(self.drawn), sum(self.drawn) / max(len(self.drawn), 1)
            if not self.drawn or spent + cost <= MOST_SHARE * tuner.elapsed_sec:
                self._draw()

    def close(self, finished: bool) -> None:
        """Closes the progress line and prints whether training finished."""
        if self.bar is not None:
            self.bar.close()
        if self.live and len(self.log) > self.drawn_rows:
            self._draw()  # training is over: draw the last state at any cost
        print("Finished." if finished else "Interrupted; the checkpoint is saved.")  # noqa: T201

    def _warn(self) -> None:
        """Warns once per problem, by the report's stability rules."""
        for finding in findings.stability(self.log):
            if finding.rule not in self.warned:
                self.warned.add(finding.rule)
                tqdm.write(f"Warning at {place_of(self.log, -1)}: {finding.text}.")

    def _print(self, tuner: FineTuner) -> None:
        done, total = tuner.batches_done, tuner.total_batches
        if self.bar is None:
            self.bar = progress_line(total=total, initial=done - 1, desc="Fine-tuning")
        self.bar.n = done
        scores = {prop: f"{tuner.rows[-1][f'mean_{prop}_score']:.2f}" for prop in self.concept}
        self.bar.set_postfix(scores)

    def _draw(self) -> None:
        began = time.perf_counter()
        figure = figures.progress(self.log, self.concept)
        trends = Image(style.drawn(figure.drawing, "png", dpi=80), alt=figure.alt)
        self.places["trends"].update(trends)
        if self.grid is not None:
            alt = "Newest samples from the fixed latents."
            self.places["grid"].update(Image(filename=self.grid, alt=alt))
        self.drawn_rows = len(self.log)
        self.drawn.append(time.perf_counter() - began)
