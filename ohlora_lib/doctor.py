"""Checks of the machine behind `ohlora doctor`."""

from __future__ import annotations

import importlib
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from ohlora_lib.io.disk import make_folder
from ohlora_lib.study import machine, run_folder

PACKAGES = "torch numpy pandas sklearn scipy safetensors PIL pydantic papermill nbconvert seaborn"
LEAST_RAM_GIB = 4.0
LEAST_DISK_GIB = 5.0


@dataclass(frozen=True)
class Check:
    """One thing looked at; `todo` is empty where nothing is to be done."""

    name: str
    found: str
    todo: str = ""
    needed: bool = True  # False: the package works without

    @property
    def fine(self) -> bool:
        """Whether nothing is to be done."""
        return not self.todo


def examine() -> list[Check]:
    """Looks at Python, packages, processor, memory, GPU, number format, kernel and project."""
    packages = list(_packages())  # first: GPUs are asked for through torch
    return [Check("python", platform.python_version()), *packages, *_hardware(), *_project()]


def _packages() -> Iterator[Check]:
    """One check for each package that cannot be imported, or one for all."""
    missing = []
    for name in PACKAGES.split():
        try:
            importlib.import_module(name)
        except ImportError as error:
            missing.append(Check(name, f"not usable: {error}", "run: make setup"))
    versions = ", ".join(f"{name} {v}" for name, v in machine.versions().items())
    yield from missing or [Check("packages", versions)]


def _hardware() -> Iterator[Check]:
    """Processor, memory, GPUs, what `precision: auto` takes, and JupyterLab's kernel."""
    from jupyter_client.kernelspec import KernelSpecManager

    from ohlora_lib.nets.compute import choice_sentence, pick_device, pick_precision

    yield Check("processor", f"{machine.cpu_model()}, {machine.usable_cores()} cores")
    gib = machine.ram_gib()
    small = f"the quickstart needs {LEAST_RAM_GIB:g} GiB; use smaller batches"
    known = "unknown" if gib is None else f"{gib:g} GiB"
    yield Check("memory", known, small if (gib or LEAST_RAM_GIB) < LEAST_RAM_GIB else "", False)
    names = machine.gpu_names()
    todo = "not needed for the quickstart; the published study wants a CUDA device"
    yield Check("GPU", ", ".join(names) or "none", "" if names else todo, needed=False)
    cpu = pick_device("cpu")
    yield Check("number format", choice_sentence(pick_precision("auto", cpu), cpu))
    python = KernelSpecManager().get_kernel_spec("python3").argv[0]
    same = python in {sys.executable, "python", "python3"}
    todo = "JupyterLab would run notebooks there: unset JUPYTER_PATH, or choose another kernel"
    yield Check("kernel", sys.executable if same else python, "" if same else todo, needed=False)


def _project() -> Iterator[Check]:
    """The project's folder, its outputs and the disk they are on."""
    try:
        root = run_folder.project_root()
    except ValueError as error:
        yield Check("project", "none here", str(error))
        return
    yield Check("project", str(root))
    outputs = root / "outputs"
    try:
        make_folder(outputs)
        with tempfile.TemporaryFile(dir=outputs):
            yield Check("outputs", "can be written")
    except (OSError, ValueError) as error:  # ValueError: a link that leads nowhere
        yield Check("outputs", f"cannot be written: {error}", f"correct {outputs}")
    free_gib = shutil.disk_usage(root).free / 2**30
    todo = f"free some: a study takes up to {LEAST_DISK_GIB:g} GiB"
    low = free_gib < LEAST_DISK_GIB
    yield Check("disk", f"{free_gib:.0f} GiB free", todo if low else "", needed=False)
