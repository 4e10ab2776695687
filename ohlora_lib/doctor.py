"""The machine checks behind `ohlora doctor`."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from typing import NamedTuple

from ohlora_lib.io.disk import make_folder
from ohlora_lib.study import machine
from ohlora_lib.study.records import project_root

PACKAGES = "torch numpy pandas sklearn scipy safetensors PIL pydantic papermill nbconvert seaborn"
LEAST_RAM_GIB = 4.0
LEAST_DISK_GIB = 5.0


class Check(NamedTuple):
    """One thing checked; `todo` is empty if nothing needs doing."""

    name: str
    found: str
    todo: str = ""
    needed: bool = True  # False: the package works without


def examine() -> list[Check]:
    """Checks packages first; if none is missing, hardware, kernel and project too."""
    if missing := [name for name in PACKAGES.split() if not find_spec(name)]:
        return [Check(name, "not installed", "run: make setup") for name in missing]
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions().items())
    return [Check("packages", versions), *_hardware(), *_project()]


def _hardware() -> Iterator[Check]:
    """The device, the number format that `precision: auto` chooses, and JupyterLab's kernel."""
    from jupyter_client.kernelspec import KernelSpecManager

    from ohlora_lib.nets.compute import choice_sentence, pick_device, pick_precision

    facts, cpu = machine.hardware(), pick_device("cpu")
    gib, gpus = facts["ram_gib"], ", ".join(facts["gpus"])
    yield Check("processor", f"{facts['cpu']}, {facts['cores']} cores")
    todo = f"the quickstart needs {LEAST_RAM_GIB:g} GiB; use smaller batches"
    low = gib is not None and gib < LEAST_RAM_GIB
    yield Check("memory", f"{gib} GiB" if gib else "unknown", todo * low, needed=False)
    todo = "not needed for the quickstart; the published study wants a CUDA device"
    yield Check("GPU", gpus or "none", todo * (not gpus), needed=False)
    yield Check("number format", choice_sentence(pick_precision("auto", cpu), cpu))
    python = KernelSpecManager().get_kernel_spec("python3").argv[0]
    other = python not in {sys.executable, "python", "python3"}
    todo = "JupyterLab would run notebooks there: unset JUPYTER_PATH, or choose another kernel"
    yield Check("kernel", python if other else sys.executable, todo * other, needed=False)


def _project() -> Iterator[Check]:
    """The project's folder, its outputs and the disk they are on."""
    try:
        root = project_root()
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
    yield Check("disk", f"{free_gib:.0f} GiB free", todo * low, needed=False)
