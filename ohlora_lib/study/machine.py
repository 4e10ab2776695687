"""Facts of this machine and of the versions in use, for records and for `ohlora doctor`."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import ohlora_lib

PACKAGES = ("torch", "numpy", "pandas")


def command_output(*command: str, seconds: float = 10) -> str | None:
    """What a command prints, or None if it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def cpu_model() -> str:
    """Name of the processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        name = command_output("sysctl", "-n", "machdep.cpu.brand_string")
        if name:
            return name
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def number_of(variable: str, *, least: int = 1, listed: bool = False) -> int | None:
    """Reads a whole number from an environment variable; None if that is unset or empty.

    Args:
        variable: Its name.
        least: Smallest number allowed.
        listed: Whether it may hold several, by comma, as OpenMP has one for each level of
            nesting; the first one counts.

    Raises:
        ValueError: If it holds no such number; names the variable.
    """
    text = os.environ.get(variable, "").strip()
    number = text.split(",")[0].strip() if listed else text
    if text and (not re.fullmatch("[0-9]{1,9}", number) or int(number) < least):
        raise ValueError(
            f"the environment variable {variable} is {text!r}; it must be a whole number of at "
            f"least {least}. Correct or unset it."
        )
    return int(number) if text else None


def ram_gib() -> float | None:
    """Installed memory, GiB, where the system tells."""
    try:
        pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    return round(pages * page_bytes / 2**30, 1)


def memory_kills() -> int | None:
    """How many processes the system ended for want of memory so far, where it tells.

    Counted for this process's control group, as a scheduler or a container sets one, else for the
    whole machine.
    """
    own = Path("/proc/self/cgroup")
    group = own.read_text(encoding="utf-8").rpartition("0::")[2].strip() if own.is_file() else ""
    for path in (Path(f"/sys/fs/cgroup{group}", "memory.events"), Path("/proc/vmstat")):
        with contextlib.suppress(OSError, ValueError):
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return None


def gpu_names() -> list[str]:
    """Names of the CUDA devices; asks torch only if the process has imported it already."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def hardware() -> dict[str, Any]:
    """Processor, cores, memory, GPUs and system."""
    return {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "ram_gib": ram_gib(),
        "gpus": gpu_names(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    found = {"python": platform.python_version(), "ohlora_lib": ohlora_lib.__version__}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of the working tree and whether it has changes; None where there is no git."""
    git = ("git", "--no-optional-locks", "-C", str(folder))
    commit = command_output(*git, "rev-parse", "HEAD")
    changes = command_output(*git, "status", "--porcelain")
    if commit is None or changes is None:
        return None
    return {"commit": commit, "dirty": bool(changes)}
