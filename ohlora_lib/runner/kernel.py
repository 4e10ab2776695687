"""Runs one notebook in a kernel of its own and reports how it goes.

`python -m ohlora_lib.runner.kernel` is the process that the runner starts for each stage: it
reads a job, one JSON line, from standard input, and writes events, a JSON object a line, to the
pipe whose number is its argument. A further line `interrupt` stops the running cell as Ctrl-C
would; a line `terminate`, the end of the input or a SIGTERM end all: the kernel gets a SIGTERM
too, and some seconds to save its state.

Also papermill's engine: kernels talk over sockets in a private folder, not over plain TCP, which
every user of a shared machine could read.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Any

from jupyter_client.kernelspec import NATIVE_KERNEL_NAME
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbclient.util import run_sync
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.execute import execute_notebook
from papermill.log import logger
from papermill.utils import merge_kwargs, remove_args
from traitlets.config import Config

from ohlora_lib.runner import outcomes
from ohlora_lib.study import cells

IOPUB_TIMEOUT = 120  # seconds; nbclient's 4 kills a notebook on a busy machine
ENGINE = "ohlora"
START_TIMEOUT = 300  # seconds
TERMINATED = 128 + signal.SIGTERM  # exit status
GRACE_SEC = 7  # that a kernel has to save its state after a SIGTERM
LINE_REWRITTEN = re.compile(r"[^\n]*\r(?=[^\n\r])")


def settle(text: str) -> str:
    """What a terminal shows of a text: carriage returns have taken effect."""
    return LINE_REWRITTEN.sub("", text.replace("\r\n", "\n"))


class Reporter:
    """Writes events for the runner; without a file it says nothing."""

    def __init__(self, file: IO[str] | None = None) -> None:
        self.file = file
        self.last_line = ""

    def event(self, kind: str, **facts: Any) -> None:
        """Writes one event."""
        if self.file is not None:
            self.file.write(json.dumps({"event": kind, **facts}) + "\n")
            self.file.flush()

    def text(self, text: str) -> None:
        """Takes printed text; its last full or rewritten line is the progress."""
        lines = [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]
        if lines and lines[-1] != self.last_line:
            self.last_line = lines[-1]
            self.event("progress", text=self.last_line)


class PrivateClient(PapermillNotebookClient):
    """Executes the cells, reports each, and merges printed text as it comes."""

    reporter = Reporter()
    interrupted = terminated = False
    exit_code: int | None = None

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
        """Executes all cells; keeps the kernel's exit status if it dies."""
        try:
            super().papermill_execute_cells()
        except DeadKernelError:
            process = self.kernel_process()
            self.exit_code = None if process is None else process.poll()
            raise

    def kernel_process(self) -> Any:
        """The kernel's process, once there is one."""
        return getattr(getattr(self.km, "provisioner", None), "process", None)

    def execute_cell(self, cell: Any, cell_index: int, **kwargs: Any) -> Any:
        """Executes one cell, or none once an interrupt was asked for."""
        if self.interrupted:
            return cell
        self.reporter.event("cell", number=cell_index + 1, cells=len(self.nb.cells))
        return super().execute_cell(cell, cell_index, **kwargs)

    def process_message(self, msg: dict, cell: Any, cell_index: int) -> Any:
        """Takes one message of the kernel."""
        output = super().process_message(msg, cell, cell_index)
        if output is not None and output.output_type == "stream":
            self.reporter.text(output.text)
            merge_last_streams(cell.outputs)
        return output

    def interrupt(self) -> None:
        """Stops the running cell; the cells after it do not start."""
        self.interrupted = True
        if self.km is not None:
            asyncio.run(self.km._async_interrupt_kernel())

    def terminate(self) -> None:
        """Ends the kernel: it is asked to, and after some seconds made to."""
        process = self.kernel_process()
        if process is None:
            raise SystemExit(TERMINATED)
        self.terminated = True
        process.send_signal(signal.SIGTERM)
        timer = threading.Timer(GRACE_SEC, process.kill)
        timer.daemon = True
        timer.start()


def merge_last_streams(outputs: list) -> None:
    """Joins the last two outputs if both are text printed to the same stream."""
    if len(outputs) < 2 or any(output.output_type != "stream" for output in outputs[-2:]):
        return
    first, second = outputs[-2:]
    if first.name == second.name:
        first.text = settle(first.text + second.text)
        del outputs[-1]


class PrivateKernelEngine(NBClientEngine):
    """papermill's own engine, with the kernel on private sockets."""

    reporter = Reporter()
    client: PrivateClient | None = None

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        log_output: bool = False,
        stdout_file: Any = None,
        stderr_file: Any = None,
        start_timeout: int = 60,
        execution_timeout: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Executes the cells; the arguments are papermill's."""
        options = remove_args(["input_path", "timeout", "startup_timeout"], **kwargs)
        options.setdefault("iopub_timeout", IOPUB_TIMEOUT)
        with private_sockets() as config:
            cls.client = PrivateClient(
                nb_man,
                **merge_kwargs(
                    options,
                    timeout=execution_timeout or kwargs.get("timeout"),
                    startup_timeout=start_timeout,
                    kernel_name=kernel_name,
                    log=logger,
                    log_output=log_output,
                    stdout_file=stdout_file,
                    stderr_file=stderr_file,
                    config=config,
                ),
            )
            cls.client.reporter = cls.reporter
            with terminating(cls.client):
                cls.client.execute()


@contextmanager
def terminating(client: PrivateClient) -> Iterator[None]:
    """Passes a SIGTERM on to the kernel; once that has saved and ended, this process ends too."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears signals
        return
    before = signal.signal(signal.SIGTERM, lambda *_: client.terminate())
    try:
        yield
    except DeadKernelError:
        if client.terminated:
            raise SystemExit(TERMINATED) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def private_sockets() -> Iterator[Config]:
    """Gives a configuration by which kernels talk through a folder only their user can enter."""
    if os.name == "nt":  # no such sockets there
        yield Config()
        return
    before = os.environ.get("JUPYTER_RUNTIME_DIR")
    with tempfile.TemporaryDirectory(prefix="ohlora-", ignore_cleanup_errors=True) as folder:
        os.environ["JUPYTER_RUNTIME_DIR"] = folder
        try:
            # Its name gives the sockets theirs; without one they would lie in the working folder,
            # where every other kernel's would be in the way.
            place = {"transport": "ipc", "connection_file": str(Path(folder, "kernel.json"))}
            yield Config({"KernelManager": place})
        finally:
            del os.environ["JUPYTER_RUNTIME_DIR"]
            if before is not None:
                os.environ["JUPYTER_RUNTIME_DIR"] = before


def run_notebook(job: dict[str, Any], reporter: Reporter) -> None:
    """Executes the job's notebook and reports how it ended.

    Kinds are done, failed, died, interrupted and terminated.
    """
    PrivateKernelEngine.reporter = reporter
    output = Path(job["output"])
    working = output.with_name(f".{output.stem}.running.ipynb")
    try:
        execute_notebook(
            job["notebook"],
            working,
            job["parameters"],
            engine_name=ENGINE,
            kernel_name=NATIVE_KERNEL_NAME,
            language="python",
            progress_bar=False,
            start_timeout=START_TIMEOUT,
            cwd=job["root"],
        )
        ended: dict[str, Any] = {"kind": "done"}
    except PapermillExecutionError as error:
        what = outcomes.of_error(error.ename, error.evalue)
        ended = {"kind": "failed", "cell": error.exec_count, "error": what}
    except DeadKernelError:
        ended = {"kind": "died", "exit_code": client_value("exit_code")}
    except CellTimeoutError as error:
        ended = {
            "kind": "failed",
            "cell": None,
            "error": outcomes.of_error("Time-out", str(error)),
        }
    except RuntimeError as error:  # the kernel did not start
        ended = failed("its kernel did not start", error)
    except SystemExit:
        ended = {"kind": "terminated"}
    if client_value("interrupted"):
        ended = {"kind": "interrupted"}
    if working.exists():
        working.replace(output)
        if ended["kind"] != "terminated":  # which leaves no time
            reporter.event("progress", text="writing the page")
            export_page(output)
    reporter.event(**ended)


def failed(what: str, error: Exception) -> dict[str, Any]:
    """The event of a failure that is no cell's."""
    return {"kind": "failed", "cell": None, "error": outcomes.of_error(what, str(error))}


def export_page(notebook: Path) -> None:
    """Exports an executed notebook; imported late, while the stage has long been at work."""
    from ohlora_lib.report.page import export_run

    export_run(notebook)


def client_value(name: str) -> Any:
    """An attribute of the client of the running notebook, if one was started."""
    client = PrivateKernelEngine.client
    return None if client is None else getattr(client, name)


def obey(commands: IO[bytes]) -> None:
    """Obeys the runner: interrupts on its word, ends with it."""
    for line in commands:
        if line.strip() == b"terminate":
            break
        if line.strip() == b"interrupt" and PrivateKernelEngine.client is not None:
            PrivateKernelEngine.client.interrupt()
    os.kill(os.getpid(), signal.SIGTERM)


def end(number: int, _: FrameType | None) -> None:
    """Ends this process, and the kernel on the way out."""
    raise SystemExit(128 + number)


def main() -> None:
    """Runs the job given on standard input."""
    events = open(int(sys.argv[1]), "w", encoding="utf-8")  # noqa: SIM115 - as long as the process
    os.set_inheritable(events.fileno(), False)
    commands = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 - as long as the process
    import ohlora_lib.report.page  # noqa: F401 - takes seconds: done while there is no job yet

    line = commands.readline()
    if not line:
        return  # the runner has no job left
    job = json.loads(line)
    os.environ["OHLORA_COMMAND"] = job["command"]
    os.environ[cells.STARTED] = "/".join(Path(job["output"]).parts[-3:-1])
    signal.signal(signal.SIGINT, lambda *_: None)  # the runner decides what Ctrl-C means
    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=obey, args=(commands,), daemon=True).start()
    reporter = Reporter(events)
    try:
        run_notebook(job, reporter)
    except OSError as error:  # of the executed notebook or its page: the disk is full, say
        reporter.event("failed", cell=None, error=outcomes.of_disk(error, job["output"]))


papermill_engines.register(ENGINE, PrivateKernelEngine)

if __name__ == "__main__":
    main()
