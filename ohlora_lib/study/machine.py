"""This machine: its facts for records and for `ohlora doctor`, and words fit for its terminal."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import ohlora_lib

PACKAGES = ("torch", "numpy", "pandas")  # whose versions decide a result
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b.")  # what steers a terminal
T = TypeVar("T")


def track(items: Iterable[T], label: str, *, total: int | None = None) -> Iterator[T]:
    """Yields the items and shows on standard error how far it is; plain text everywhere."""
    from tqdm import tqdm  # here, so that the core imports without it

    yield from tqdm(items, desc=label, total=total, mininterval=1.0, ncols=88)


def printable(text: str) -> str:
    """A line without what steers a terminal or turns the direction of what follows."""
    return "".join(c for c in ESCAPES.sub("", text) if c.isprintable())


def duration(seconds: float) -> str:
    """How long something took, in its two largest units: `1 h 5 min`, `6 min 30 s`, `8 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def without_places(text: str, root: Path) -> str:
    """Text whose paths do not tell where the project, the packages and the home folder are.

    A notebook's cell, which Python knows as a temporary file, is called a cell.
    """
    temporary = re.escape(tempfile.gettempdir())
    text = re.sub(rf"{temporary}/ipykernel_\d+/\d+\.py", "cell", text)
    package, installed = Path(__file__).resolve().parents[2], Path(sysconfig.get_path("purelib"))
    places = {Path.home(): "~/"} | dict.fromkeys((package, installed, root, root.resolve()), "")
    for place in sorted(places, key=lambda place: -len(str(place))):
        if len(place.parts) > 1:
            path = rf"(?<![\w.~/-]){re.escape(str(place))}(/|(?![\w.-]))"
            short = places[place]
            text = re.sub(path, lambda m, s=short: s if m[1] else s.rstrip("/") or ".", text)
    return text


def cpu_model() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.is_file() else ""
    name = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return name[1] if name else platform.processor() or platform.machine()


def usable_cores() -> int:
    """Number of cores this process may use."""
    known = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1


def ram_gib() -> float | None:
    """Installed memory, GiB, where the system tells."""
    with suppress(AttributeError, ValueError, OSError):
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    return None


def memory_kills() -> int | None:
    """How many processes the system ended for want of memory so far, where it tells.

    Counted for this process's control group, as a scheduler or a container sets one, else for the
    whole machine.
    """
    own = Path("/proc/self/cgroup")
    group = own.read_text(encoding="utf-8").rpartition("0::")[2].strip() if own.is_file() else ""
    for path in (Path(f"/sys/fs/cgroup{group}", "memory.events"), Path("/proc/vmstat")):
        with suppress(OSError):
            kills = re.search(r"^oom_kill (\d+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            if kills:
                return int(kills[1])
    return None


def gpu_names() -> list[str]:
    """Names of the CUDA devices; asks torch only if the process has imported it already."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    there = range(cuda.device_count()) if cuda and cuda.is_available() else ()
    return [cuda.get_device_name(i) for i in there]


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
    own = {"python": platform.python_version(), "ohlora_lib": ohlora_lib.__version__}
    return own | {name: metadata.version(name) for name in PACKAGES}


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of the working tree and whether it has changes; None where there is no git."""
    git, given = ("git", "--no-optional-locks", "-C", folder), {"timeout": 10, "check": True}
    try:
        commit, changes = (
            subprocess.run([*git, *words], capture_output=True, **given).stdout.decode().strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": bool(changes)}
