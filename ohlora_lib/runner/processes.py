"""Several processes that work together: joining them, and starting them from a notebook.

They are started by `accelerate launch`, which gives each its place in its environment, or from
here with `Launch`, which does the same in another process: forking a notebook's kernel would
break once it has touched a GPU.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from ohlora_lib.nets.compute import pick_device
from ohlora_lib.runner.pipes import Lines, read_event
from ohlora_lib.study import machine
from ohlora_lib.training.ranks import ALONE, Ranks
from ohlora_lib.training.stopping import stop_on_interrupt

EVENT = "\x1e"  # begins a line that is for the program that started us; all else is text to show
LONGEST_WAIT = timedelta(minutes=30)  # for the others, until a process gives up
ERROR = "ohlora: "  # begins a line that says what went wrong


def join() -> Ranks:
    """Joins the processes this one was started with; alone if it was started by itself.

    Raises:
        ValueError: If the launcher left out, or wrote wrong, the place of this process.
    """
    if (machine.number_of("WORLD_SIZE") or 1) == 1:
        return ALONE
    for variable in ("RANK", "MASTER_PORT"):  # which torch reads
        _place(variable)
    if torch.cuda.is_available():
        torch.cuda.set_device(_place("LOCAL_RANK") % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=LONGEST_WAIT)
    return Ranks(dist.get_rank(), dist.get_world_size())


def _place(variable: str, *, least: int = 0) -> int:
    """A number that the launcher of several processes gives each of them."""
    number = machine.number_of(variable, least=least)
    if number is None:
        raise ValueError(
            f"WORLD_SIZE is set, but {variable} is not. Start the processes with "
            f"`accelerate launch`, or unset WORLD_SIZE to train in one."
        )
    return number


def leave(ranks: Ranks) -> None:
    """Ends the work with the others; all call it."""
    if ranks.size > 1:
        dist.barrier()  # one that left early would cut off what another still receives
        dist.destroy_process_group()


def own_device(name: str, ranks: Ranks) -> torch.device:
    """The device of this process: one GPU each, or the CPU.

    Raises:
        ValueError: If there are fewer GPUs than processes on this machine, or one is named.
    """
    if ranks.size == 1 or name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return pick_device(name)
    if ":" in name:
        raise ValueError(
            f"device is {name!r}, but {ranks.size} processes take a GPU each; use auto or cuda"
        )
    here, gpus = _place("LOCAL_WORLD_SIZE", least=1), torch.cuda.device_count()
    if name == "cuda" and not gpus:
        return pick_device(name)  # says that there is none
    if here > gpus:
        raise ValueError(f"{here} processes on a machine with {gpus} GPUs; start at most {gpus}")
    return pick_device(f"cuda:{_place('LOCAL_RANK')}")


def tell(**event: Any) -> None:
    """Tells the program that started us."""
    print(f"{EVENT}{json.dumps(event)}", flush=True)  # noqa: T201


def stop_with_parent() -> None:
    """Interrupts this process once its standard input ends: the parent asks, or is gone."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()


class Launch:
    """Runs an `ohlora` command in several processes on this machine, and shows what they print.

    Args:
        words: The command, such as `finetune FILE`.
        processes: How many.

    Raises:
        ValueError: If accelerate is not installed.
    """

    def __init__(self, words: Sequence[str], processes: int) -> None:
        if importlib.util.find_spec("accelerate") is None:
            raise ValueError(
                f"processes is {processes}, and more than 1 needs accelerate, which is not here. "
                f"Install it: pip install 'ohlora[distributed]'"
            )
        threads = max(machine.usable_cores() // processes, 1)
        options = {
            **{"num_processes": processes, "num_machines": 1, "main_process_port": 0},
            **{"mixed_precision": "no", "dynamo_backend": "no"},
            "num_cpu_threads_per_process": threads,
        }
        given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", *given]
        self.processes = processes
        self.command = [*accelerate, "-m", "ohlora_lib", *words]

    def run(self, on_event: Callable[[dict[str, Any]], None]) -> None:
        """Starts the processes and follows them to their end; an interrupt is passed on.

        Args:
            on_event: Called with what the processes `tell`.

        Raises:
            ValueError: What a process says was wrong, one line.
            RuntimeError: If they ended otherwise than well, and nobody asked them to stop.
        """
        process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # an interrupt reaches them by the end of their input alone
        )
        errors: list[str] = []
        try:
            with stop_on_interrupt(pass_on=False, then=partial(_stop, process)) as asked:
                lines = Lines(process.stdout, process)
                while (line := lines.next()) is not None:
                    text, _, event = line.partition(EVENT)
                    if text:
                        print(text, end="" if text.endswith("\n") else "\n", flush=True)  # noqa: T201
                        errors += [text.removeprefix(ERROR).strip()] * text.startswith(ERROR)
                    if told := read_event(event):
                        on_event(told)
                status = process.wait()
        finally:
            process.stdin.close()
            process.wait()
        if signal.SIGTERM in asked:
            signal.raise_signal(signal.SIGTERM)
        if status and not asked:
            if errors:
                raise ValueError(errors[0])
            raise RuntimeError(
                f"{self.processes} processes ended with status {status}; what they said is above"
            )


def _stop(process: subprocess.Popen, asked: int) -> None:
    """Asks processes to save and end, by the end of their input; the second time ends them."""
    process.stdin.close()
    if asked > 1:
        process.terminate()
