"""Machine facts for records and `ohlora doctor`; makes text safe for the terminal."""

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
from typing import TYPE_CHECKING, Any, TypeVar

import ohlora_lib

if TYPE_CHECKING:
    from tqdm import tqdm

PACKAGES = ("torch", "numpy", "pandas")  # their versions can change a result
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b.")  # terminal control sequences
T = TypeVar("T")


def progress_line(items: Iterable[T] | None = None, **options: Any) -> "tqdm[T]":
    """Returns a tqdm that writes plain text to standard error; the options are tqdm's.

    Only JupyterLab shows a bar: at 80 columns, the remaining time and the scores need its room.
    """
    from tqdm import tqdm  # imported here: the core works without it

    bar = " |{bar:20}| {n_fmt}/{total_fmt}" if "JPY_SESSION_NAME" in os.environ else ""
    form = "{desc} {percentage:.0f}%" + bar + ", {remaining} left{postfix}"
    return tqdm(items, bar_format=form, ncols=None if sys.stderr.isatty() else 200, **options)


def track(items: Iterable[T], label: str, *, total: int | None = None) -> Iterator[T]:
    """Yields the items and shows progress."""
    yield from progress_line(items, desc=label, total=total, mininterval=1.0)


def printable(text: str) -> str:
    """Removes terminal control sequences and characters that change the text direction."""
    return "".join(c for c in ESCAPES.sub("", text) if c.isprintable())


def duration(seconds: float) -> str:
    """Formats a duration in its two largest units: `1 h 5 min`, `6 min 30 s`, `8 s`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def counted(count: float, noun: str) -> str:
    """Formats a count with its noun: `1 stage`, `2 stages`."""
    return f"{count:,.10g} {noun}{'' if count == 1 else 's'}"


def without_places(text: str, root: Path) -> str:
    """Shortens paths so that they do not reveal the project, package and home folders.

    The temporary file that Python reports for a notebook cell becomes "cell".
    """
    text = re.sub(rf"{re.escape(tempfile.gettempdir())}/ipykernel_\d+/\d+\.py", "cell", text)
    package, installed = Path(__file__).resolve().parents[2], Path(sysconfig.get_path("purelib"))
    places = {Path.home(): "~/"} | dict.fromkeys((package, installed, root, root.resolve()), "")
    for place, short in sorted(places.items(), key=lambda item: -len(str(item[0]))):
        if len(place.parts) > 1:
            path = rf"(?<![\w.~/-]){re.escape(str(place))}"
            text = re.sub(f"{path}/", short, text)
            text = re.sub(rf"{path}(?![\w.-])", short.rstrip("/") or ".", text)
    return text


def usable_cores() -> int:
    """Number of CPU cores this process may use."""
    known = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1


def hardware() -> dict[str, Any]:
    """Processor, cores, memory (GiB, None if unknown), GPUs and operating system.

    Lists CUDA GPUs, and only if the process has already imported torch.
    """
    info, gib = Path("/proc/cpuinfo"), None
    text = info.read_text(encoding="utf-8") if info.is_file() else ""
    name = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    with suppress(AttributeError, ValueError, OSError):  # not reported by this system
        gib = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    count = cuda.device_count() if cuda and cuda.is_available() else 0
    return {
        "cpu": name[1] if name else platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "ram_gib": gib,
        "gpus": [cuda.get_device_name(i) for i in range(count)],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Versions of everything that can change a result."""
    own = {"python": platform.python_version(), "ohlora_lib": ohlora_lib.__version__}
    return own | {name: metadata.version(name) for name in PACKAGES}


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of the working tree and whether it has changes; None without git or a commit."""
    words = ["git", "--no-optional-locks", "-C", folder, "status", "--porcelain=v2", "--branch"]
    try:
        done = subprocess.run(words, capture_output=True, timeout=10, check=True, text=True)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    commit = re.search(r"^# branch\.oid ([0-9a-f]+)$", done.stdout, re.MULTILINE)
    dirty = any(not line.startswith("#") for line in done.stdout.splitlines())
    return {"commit": commit[1], "dirty": dirty} if commit else None
