"""Runs each notebook in its own kernel and reports its progress.

The runner starts this module in a worker process and sends it jobs through a pipe. The worker
sends back progress updates and, last, the job's `Outcome`. SIGINT (Ctrl-C) or SIGTERM stops a job:
the running cell is interrupted and given time to save its state, and no further cell starts.

The module also holds the papermill engine: kernels use sockets in a private folder instead of
unencrypted TCP, which every user of a shared machine could read.
"""

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

IOPUB_TIMEOUT = 120  # seconds; nbclient's default of 4 fails notebooks on a busy machine
ENGINE = "ohlora"
START_TIMEOUT = 300  # seconds
Report = Callable[..., None]  # receives progress: the running `cell`, its last printed `text`


class PrivateClient(PapermillNotebookClient):
    """Executes the cells, and reports each one and the text it prints."""

    def __init__(self, nb_man: Any, report: Report, **options: Any) -> None:
        super().__init__(nb_man, **options)
        self.report, self.stopped = report, 0

    def create_kernel_manager(self) -> Any:
        """Runs `python3` kernels with this process's Python, whatever JUPYTER_PATH offers."""
        manager = super().create_kernel_manager()
        if manager.kernel_name == NATIVE_KERNEL_NAME:
            manager.kernel_spec_manager.kernel_dirs = []
        return manager

    @contextmanager
    def setup_kernel(self, **kwargs: Any) -> Iterator[None]:
        """Starts the kernel and shuts it down after the last cell."""
        with super().setup_kernel(**kwargs):
            yield
            # nbclient would interrupt the kernel first. A kernel still handling its last message
            # would then report a KeyboardInterrupt after a successful notebook.
            run_sync(self.km.request_shutdown)()
            run_sync(self.km.finish_shutdown)()

    def papermill_execute_cells(self) -> None:
        """Executes all cells; if the kernel dies, sets `exit_code` on the error."""
        try:
            super().papermill_execute_cells()
        except DeadKernelError as error:
            process = self._process()
            error.exit_code = process and process.poll()
            raise

    def _process(self) -> Any:
        """Returns the kernel's process, or None before it has started."""
        return getattr(getattr(self.km, "provisioner", None), "process", None)

    def execute_cell(self, cell: Any, cell_index: int, **kwargs: Any) -> Any:
        """Executes one cell, unless the notebook has been stopped."""
        if self.stopped:
            return cell
        self.report(cell=f"cell {cell_index + 1}/{len(self.nb.cells)}")
        return super().execute_cell(cell, cell_index, **kwargs)

    def process_message(self, msg: dict, cell: Any, cell_index: int) -> Any:
        """Processes a kernel message and reports its last printed line as progress."""
        output = super().process_message(msg, cell, cell_index)
        if output is not None and output.output_type == "stream":
            lines = [line.strip() for line in re.split(r"[\r\n]", output.text) if line.strip()]
            if lines:
                self.report(text=lines[-1])
        return output

    def stop(self, number: int, _: FrameType | None) -> None:
        """Interrupts the cell; kills the kernel at a second Ctrl-C or after `GRACE_SEC`."""
        again = self.stopped and number == signal.SIGINT
        self.stopped = number
        if process := self._process():
            process.send_signal(signal.SIGINT)
            timer = threading.Timer(0 if again else GRACE_SEC[number], process.kill)
            timer.daemon = True
            timer.start()

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Stops the notebook on SIGINT or SIGTERM, then raises KeyboardInterrupt or SystemExit."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread can set signal handlers
            return
        before = {number: signal.signal(number, self.stop) for number in GRACE_SEC}
        try:
            yield
        except Exception:  # for example, because the signal killed the kernel
            if not self.stopped:
                raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.stopped:
            ctrl_c = self.stopped == signal.SIGINT
            raise KeyboardInterrupt if ctrl_c else SystemExit(128 + self.stopped)


class PrivateKernelEngine(NBClientEngine):
    """papermill's engine with kernels on private sockets."""

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
        """Executes the cells; all arguments but `report` are papermill's."""
        options.pop("input_path", None)
        options = {"iopub_timeout": IOPUB_TIMEOUT, "timeout": execution_timeout, **options}
        options |= {"kernel_name": kernel_name, "startup_timeout": start_timeout, "log": logger}
        options |= {"coalesce_streams": True}  # progress bars as a terminal shows them
        with private_sockets() as config:
            client = PrivateClient(nb_man, report, config=config, **options)
            with client.stopping():
                client.execute()


@contextmanager
def private_sockets() -> Iterator[Config]:
    """Yields a configuration that puts kernel sockets in a folder only the user can enter."""
    with tempfile.TemporaryDirectory(prefix="ohlora-", ignore_cleanup_errors=True) as folder:
        # The sockets are named after the connection file.
        place = {"transport": "ipc", "connection_file": str(Path(folder, "kernel.json"))}
        yield Config({"KernelManager": place})


def run_notebook(job: dict[str, Any], report: Report) -> Outcome:
    """Executes a job's notebook and exports its page.

    A job holds the `notebook`, the `output` path, the project `root`, the `parameters` and the
    `command` that repeats the run.
    """
    from ohlora_lib.report.page import export_run  # a slow import that plain papermill never needs

    output = Path(job["output"])
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
        outcome = of_exit("its kernel", error.exit_code)
    except (RuntimeError, TimeoutError) as error:
        outcome = Outcome(Ended.FAILED, of_error("its kernel did not answer", str(error)))
    except KeyboardInterrupt:  # SIGTERM instead ends this process: it leaves no time for a page
        outcome = Outcome(Ended.INTERRUPTED)
    if working.exists():
        working.replace(output)
        report(text="writing the page")
        export_run(output)
    return outcome


def end_with_runner() -> None:
    """Sends this process SIGTERM at the end of standard input, which the runner keeps open."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Runs the jobs that arrive on the pipe whose file descriptor is the first argument."""
    threading.Thread(target=end_with_runner, daemon=True).start()
    pipe = Connection(int(sys.argv[1]))

    def report(**news: Any) -> None:
        with suppress(OSError):  # the runner has exited; the interrupted cell may still save
            pipe.send(news)

    with suppress(EOFError, OSError):
        while True:
            job = pipe.recv()
            os.environ["OHLORA_COMMAND"] = job["command"]
            try:
                outcome = run_notebook(job, report)
            except OSError as error:  # from the executed notebook or its page: a full disk, say
                outcome = Outcome(Ended.FAILED, of_disk(error, job["output"]))
            pipe.send(outcome)


papermill_engines.register(ENGINE, PrivateKernelEngine)
