"""Runs notebooks, each in a kernel of its own, and reports how they go.

The runner starts this module in a process, sends it jobs through a pipe and gets back news of
each, the last of which is its `Outcome`. A stop is a signal, Ctrl-C's or SIGTERM: the running cell
is interrupted, has some time to save its state, and no cell starts after it.

Also papermill's engine: kernels talk over sockets in a private folder, not over plain TCP, which
every user of a shared machine could read.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

from jupyter_client.kernelspec import NATIVE_KERNEL_NAME
from nbclient.exceptions import DeadKernelError
from nbclient.util import run_sync
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.execute import execute_notebook
from papermill.log import logger
from traitlets.config import Config

from ohlora_lib.runner.outcomes import GRACE_SEC, Ended, Outcome, of_disk, of_error, of_exit
from ohlora_lib.study import machine
from ohlora_lib.study.run_folder import STARTED

IOPUB_TIMEOUT = 120  # seconds; nbclient's 4 kills a notebook on a busy machine
ENGINE = "ohlora"
START_TIMEOUT = 300  # seconds
LINE_REWRITTEN = re.compile(r"[^\n]*\r(?=[^\n\r])")
Report = Callable[..., None]  # takes news: which `cell` runs, the last `text` it printed


class PrivateClient(PapermillNotebookClient):
    """Executes the cells, reports each, and merges printed text as it comes."""

    def __init__(self, nb_man: Any, report: Report, **options: Any) -> None:
        super().__init__(nb_man, **options)
        self.report, self.stopped = report, 0

    def create_kernel_manager(self) -> Any:
        """Makes `python3` the Python of this process, whatever kernels JUPYTER_PATH leads to."""
        manager = super().create_kernel_manager()
        if manager.kernel_name == NATIVE_KERNEL_NAME:
            manager.kernel_spec_manager.kernel_dirs = []
        elif (python := manager.format_kernel_cmd()[0]) != sys.executable:
            self.log.warning(f"Kernel {manager.kernel_name!r} is {python}, not {sys.executable}.")
        return manager

    @contextmanager
    def setup_kernel(self, **kwargs: Any) -> Iterator[None]:
        """Starts the kernel, and shuts it down when all cells have run."""
        with super().setup_kernel(**kwargs):
            yield
            # nbclient would interrupt it first: if it still handles its last message, it reports
            # a KeyboardInterrupt after a notebook that succeeded.
            run_sync(self.km.request_shutdown)()
            run_sync(self.km.finish_shutdown)()

    def papermill_execute_cells(self) -> None:
        """Executes all cells; if the kernel dies, the error has its `exit_code`."""
        try:
            super().papermill_execute_cells()
        except DeadKernelError as error:
            process = self._process()
            error.exit_code = process and process.poll()
            raise

    def _process(self) -> Any:
        """The kernel's process; None before it has started."""
        return getattr(getattr(self.km, "provisioner", None), "process", None)

    def execute_cell(self, cell: Any, cell_index: int, **kwargs: Any) -> Any:
        """Executes one cell, or none after a stop."""
        if self.stopped:
            return cell
        self.report(cell=f"cell {cell_index + 1}/{len(self.nb.cells)}")
        return super().execute_cell(cell, cell_index, **kwargs)

    def process_message(self, msg: dict, cell: Any, cell_index: int) -> Any:
        """Takes one message of the kernel; the last line of printed text is the progress."""
        output = super().process_message(msg, cell, cell_index)
        if output is not None and output.output_type == "stream":
            lines = [line.strip() for line in re.split(r"[\r\n]", output.text) if line.strip()]
            if lines:
                self.report(text=lines[-1])
            merge_last_streams(cell.outputs)
        return output

    def stop(self, number: int, _: FrameType | None) -> None:
        """Interrupts the running cell; kills the kernel after some time, or at a second Ctrl-C."""
        again = self.stopped and number == signal.SIGINT
        self.stopped = number
        if process := self._process():
            process.send_signal(signal.SIGINT)
            timer = threading.Timer(0 if again else GRACE_SEC[number], process.kill)
            timer.daemon = True
            timer.start()

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Lets Ctrl-C and SIGTERM stop the notebook, and then raises what they raise elsewhere."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread hears signals
            return
        before = {number: signal.signal(number, self.stop) for number in GRACE_SEC}
        try:
            yield
        except Exception:  # such as the kernel's death of the signal
            if not self.stopped:
                raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.stopped:
            ctrl_c = self.stopped == signal.SIGINT
            raise KeyboardInterrupt if ctrl_c else SystemExit(128 + self.stopped)


def merge_last_streams(outputs: list) -> None:
    """Joins the last two outputs if both are text printed to the same stream, as a terminal."""
    if len(outputs) < 2 or any(output.output_type != "stream" for output in outputs[-2:]):
        return
    first, second = outputs[-2:]
    if first.name == second.name:
        text = (first.text + second.text).replace("\r\n", "\n")
        first.text = LINE_REWRITTEN.sub("", text)
        del outputs[-1]


class PrivateKernelEngine(NBClientEngine):
    """papermill's own engine, with the kernel on private sockets."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        *,
        start_timeout: int = 60,
        execution_timeout: int | None = None,
        report: Report = lambda **_: None,
        **options: Any,
    ) -> None:
        """Executes the cells; the arguments are papermill's, but for `report`."""
        options.pop("input_path", None)
        options = {"iopub_timeout": IOPUB_TIMEOUT, "timeout": execution_timeout, **options}
        options |= {"kernel_name": kernel_name, "startup_timeout": start_timeout, "log": logger}
        with private_sockets() as config:
            client = PrivateClient(nb_man, report, config=config, **options)
            with client.stopping():
                client.execute()


@contextmanager
def private_sockets() -> Iterator[Config]:
    """Gives a configuration by which kernels talk through a folder only their user can enter."""
    with tempfile.TemporaryDirectory(prefix="ohlora-", ignore_cleanup_errors=True) as folder:
        # The name of the file gives the sockets theirs.
        place = {"transport": "ipc", "connection_file": str(Path(folder, "kernel.json"))}
        yield Config({"KernelManager": place})


def run_notebook(job: dict[str, Any], report: Report) -> Outcome:
    """Executes a job's notebook and writes its page.

    A job names the `notebook`, its `output`, the project's `root`, the `parameters`, and the
    `command` to redo it.
    """
    from ohlora_lib.report.page import export_run  # takes seconds; plain papermill has no page

    output, kills = Path(job["output"]), machine.memory_kills()
    working = output.with_name(f".{output.stem}.running.ipynb")
    outcome = Outcome(Ended.DONE)
    try:
        execute_notebook(
            job["notebook"], working, job["parameters"], engine_name=ENGINE, report=report,
            kernel_name=NATIVE_KERNEL_NAME, language="python", progress_bar=False,
            start_timeout=START_TIMEOUT, cwd=job["root"],
        )  # fmt: skip
    except PapermillExecutionError as error:
        reason = of_error(error.ename, error.evalue)
        outcome = Outcome(Ended.FAILED, f"cell [{error.exec_count}]: {reason}")
    except DeadKernelError as error:
        outcome = of_exit("its kernel", error.exit_code, kills)
    except (RuntimeError, TimeoutError) as error:
        outcome = Outcome(Ended.FAILED, of_error("its kernel did not answer", str(error)))
    except KeyboardInterrupt:  # after a SIGTERM there is no time for a page: this process ends
        outcome = Outcome(Ended.INTERRUPTED)
    if working.exists():
        working.replace(output)
        report(text="writing the page")
        export_run(output)
    return outcome


def end_with_runner() -> None:
    """Sends this process a SIGTERM once its standard input ends, which the runner holds open."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Runs the jobs that come through the pipe whose number is the argument."""
    threading.Thread(target=end_with_runner, daemon=True).start()
    pipe = Connection(int(sys.argv[1]))

    def report(**news: Any) -> None:
        with suppress(OSError):  # the runner is gone: the cell is interrupted, and may save
            pipe.send(news)

    with suppress(EOFError, OSError):
        while True:
            job = pipe.recv()
            os.environ["OHLORA_COMMAND"] = job["command"]
            os.environ[STARTED] = "/".join(Path(job["output"]).parts[-3:-1])
            try:
                outcome = run_notebook(job, report)
            except OSError as error:  # of the executed notebook or its page: the disk is full, say
                outcome = Outcome(Ended.FAILED, of_disk(error, job["output"]))
            pipe.send(outcome)


papermill_engines.register(ENGINE, PrivateKernelEngine)
