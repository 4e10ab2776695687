"""Number formats: which one a network runs in, and what is fastest on this machine.

Sources: PyTorch's automatic mixed precision, https://docs.pytorch.org/docs/stable/amp.html.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import json
import os
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from ohlora_lib.nets import cores
from ohlora_lib.study.machine import cpu_model
from ohlora_lib.study.run_folder import write_atomic

PRECISIONS = ("auto", "float32", "bfloat16")
MAP_NUMBERS = 2**23  # in the widest feature map of the images a CPU computes at a time
LEAST_AT_ONCE, MOST_AT_ONCE = 4, 250  # images
LEAST_SPEEDUP = 1.3  # of bfloat16, to be worth its rounding


def pick_device(name: str) -> torch.device:
    """Turns `auto`, `cpu`, `cuda` or `cuda:1` into a device; `auto` takes CUDA where there is one.

    Raises:
        ValueError: If the device is unknown or absent.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.partition(":")[0] not in {"cpu", "cuda"}:
        raise ValueError(f"device is {name!r}; it must be auto, cpu or cuda")
    if name != "cpu" and not torch.cuda.is_available():
        raise ValueError(f"device is {name!r}, but this machine has no CUDA; use auto or cpu")
    if name.startswith("cuda:") and int(name[5:]) >= torch.cuda.device_count():
        last = f"cuda:{torch.cuda.device_count() - 1}"
        raise ValueError(f"device is {name!r}, but the last GPU of this machine is {last}; use it")
    torch.set_flush_denormal(True)  # denormal numbers slow a CPU down a hundredfold
    keep_freed_memory()
    cores.share()
    return torch.device(name)


def keep_freed_memory() -> None:
    """Lets the process keep memory it has freed, for itself, instead of asking for it anew.

    Feature maps come and go every step; fetching their pages each time can take a third of it.
    Until it ends, the process may thus hold what its largest moment took. Only where the C
    library is glibc. Source: https://man7.org/linux/man-pages/man3/mallopt.3.html.
    """
    trim_threshold, mmap_max = -1, -4
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library, as on Alpine
            mallopt = ctypes.CDLL("libc.so.6").mallopt
            mallopt(trim_threshold, 2**31 - 1)
            mallopt(mmap_max, 0)  # what is mapped by itself goes back as soon as it is freed


def images_at_once(widest_map: int, device: torch.device) -> int:
    """How many images a network computes at a time without gradients.

    On a CPU, so many that the widest feature map has some eight million numbers: more images at
    a time are no faster there, and take memory.

    Args:
        widest_map: Numbers in the network's widest feature map of one image.
        device: Where it computes.
    """
    if device.type != "cpu":
        return MOST_AT_ONCE
    return min(max(LEAST_AT_ONCE, MAP_NUMBERS // widest_map), MOST_AT_ONCE)


def pick_precision(name: str, device: torch.device) -> str:
    """Turns `auto` into float32 or bfloat16: on a CPU by measuring both, once a machine."""
    if name not in PRECISIONS:
        raise ValueError(f"precision is {name!r}; it must be one of {PRECISIONS}")
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if known_speedup() > LEAST_SPEEDUP else "float32"


def choice_sentence(precision: str, device: torch.device | str) -> str:
    """Why a precision is what `auto` chooses or would not choose here, in a sentence."""
    if torch.device(device).type != "cpu":
        return f"Computing on {device} in {precision}."
    return (
        f"Computing on the CPU in {precision}; a convolution in bfloat16 takes 1/"
        f"{known_speedup():.1f} of its time in float32 here."
    )


def known_speedup() -> float:
    """`bfloat16_speedup`, measured once for this processor and torch and then remembered.

    A choice that changed from start to start would change the numbers of a resumed training.
    """
    place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ohlora"
    what = f"{cpu_model()}, torch {torch.__version__}"
    path = place / f"bfloat16-{hashlib.sha256(what.encode()).hexdigest()[:12]}.json"
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["speedup"])
    except (OSError, ValueError, KeyError, TypeError):
        speedup = round(bfloat16_speedup(), 2)
    with contextlib.suppress(OSError):  # no such place: measured again by the next process
        write_atomic(path, json.dumps({"machine": what, "speedup": speedup}) + "\n")
    return speedup


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context in which convolutions and dense layers run in the precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@functools.cache
def bfloat16_speedup(rounds: int = 5) -> float:
    """How many times less CPU time a convolution takes in bfloat16 than in float32.

    Taken on one thread in CPU time, so that other work on the machine does not sway the choice.
    """
    seconds, threads = {}, torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for dtype in (torch.float32, torch.bfloat16):
            x = torch.ones(16, 64, 32, 32, dtype=dtype).to(memory_format=torch.channels_last)
            weight = torch.ones(64, 64, 3, 3, dtype=dtype).to(memory_format=torch.channels_last)
            times = []
            for _ in range(rounds + 1):
                start = time.process_time()
                F.conv2d(x, weight, padding=1)
                times.append(time.process_time() - start)
            seconds[dtype] = min(times[1:])
    finally:
        torch.set_num_threads(threads)
    return seconds[torch.float32] / max(seconds[torch.bfloat16], 1e-9)
