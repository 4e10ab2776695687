"""Checks of the machine behind `ohlora doctor`."""

from __future__ import annotations

import importlib
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
    """Looks at Python, packages, processor, memory, GPU, disk and project."""
    return [
        check_python(),
        *check_packages(),
        Check("processor", f"{machine.cpu_model()}, {machine.usable_cores()} cores"),
        check_ram(),
        check_gpu(),
        check_bfloat16(),
        check_kernel(),
        *check_project(),
    ]


def check_python() -> Check:
    """Python's version."""
    old = sys.version_info < (3, 11)
    todo = "install Python 3.11 or newer and set up .venv anew" if old else ""
    return Check("python", platform.python_version(), todo)


def check_packages() -> Iterator[Check]:
    """One check for each package that cannot be imported, or one for all."""
    missing = []
    for name in PACKAGES.split():
        try:
            importlib.import_module(name)
        except ImportError as error:
            missing.append(Check(name, f"not usable: {error}", "run: make setup"))
    yield from missing or [Check("packages", ", ".join(_versions()))]


def _versions() -> Iterator[str]:
    versions = machine.versions()
    yield from (f"{name} {versions[name]}" for name in versions if name != "python")


def check_ram() -> Check:
    """Installed memory."""
    gib = machine.ram_gib()
    if gib is None:
        return Check("memory", "unknown")
    small = gib < LEAST_RAM_GIB
    todo = f"the quickstart needs {LEAST_RAM_GIB:g} GiB; use smaller batches" if small else ""
    return Check("memory", f"{gib:g} GiB", todo, needed=False)


def check_gpu() -> Check:
    """CUDA devices."""
    names = machine.gpu_names()
    if names:
        return Check("GPU", ", ".join(names))
    todo = "not needed for the quickstart; the published study wants a CUDA device"
    return Check("GPU", "none", todo, needed=False)


def check_bfloat16() -> Check:
    """Which number format `auto` takes on this processor."""
    from ohlora_lib.nets.compute import choice_sentence, pick_device, pick_precision

    device = pick_device("cpu")
    return Check("number format", choice_sentence(pick_precision("auto", device), device))


def check_kernel() -> Check:
    """Which Python JupyterLab's kernel `python3` is; studies run in this one anyway."""
    from jupyter_client.kernelspec import KernelSpecManager

    python = KernelSpecManager().get_kernel_spec("python3").argv[0]
    same = python in {sys.executable, "python", "python3"}
    todo = "JupyterLab would run notebooks there: unset JUPYTER_PATH, or choose another kernel"
    return Check("kernel", sys.executable if same else python, "" if same else todo, needed=False)


def check_project() -> Iterator[Check]:
    """The project's folder, its outputs and the disk they are on."""
    try:
        root = run_folder.project_root()
    except ValueError as error:
        yield Check("project", "none here", str(error))
        return
    yield Check("project", str(root))
    yield check_outputs(root / "outputs")
    free_gib = shutil.disk_usage(root).free / 2**30
    todo = f"free some: a study takes up to {LEAST_DISK_GIB:g} GiB"
    yield Check(
        "disk", f"{free_gib:.0f} GiB free", todo if free_gib < LEAST_DISK_GIB else "", needed=False
    )


def check_outputs(outputs: Path) -> Check:
    """Whether run folders can be written."""
    try:
        make_folder(outputs)
        with tempfile.TemporaryFile(dir=outputs):
            return Check("outputs", "can be written")
    except OSError as error:
        return Check("outputs", f"cannot be written: {error.strerror}", f"correct {outputs}")
    except ValueError as error:  # a link that leads nowhere
        return Check("outputs", "cannot be written", str(error))
