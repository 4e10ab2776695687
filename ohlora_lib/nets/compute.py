"""Devices and number formats: which one a network runs in, and what is fastest on this machine.

Sources: PyTorch's automatic mixed precision, https://docs.pytorch.org/docs/stable/amp.html, and
`mallopt` of glibc, https://man7.org/linux/man-pages/man3/mallopt.3.html.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys

import torch

from ohlora_lib.nets import cores

PRECISIONS = ("auto", "float32", "bfloat16")
MAP_NUMBERS = 2**23  # in the widest feature map of the images a CPU computes at a time
LEAST_AT_ONCE, MOST_AT_ONCE = 4, 250  # images
FAST_FLAGS = ("avx512_bf16", "amx_bf16")  # without them bfloat16 is slower than float32
TRIM_THRESHOLD, MMAP_MAX = -1, -4  # names of glibc's options


def pick_device(name: str) -> torch.device:
    """Turns `auto`, `cpu`, `cuda` or `cuda:1` into a device; `auto` takes CUDA where there is one.

    Raises:
        ValueError: If the device is unknown or absent.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if count else "cpu"
    known = ["auto", "cpu", *(["cuda"] if count else []), *(f"cuda:{k}" for k in range(count))]
    if name not in known:
        raise ValueError(f"device is {name!r}; this machine knows {', '.join(known)}")
    torch.set_flush_denormal(True)  # denormal numbers slow a CPU down a hundredfold
    _keep_freed_memory()
    cores.share()
    return torch.device(name)


def _keep_freed_memory() -> None:
    """Makes glibc keep freed memory: fetching feature maps' pages anew takes a third of a step."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library, as on Alpine
            mallopt = ctypes.CDLL("libc.so.6").mallopt
            mallopt(TRIM_THRESHOLD, 2**31 - 1)
            mallopt(MMAP_MAX, 0)  # what is mapped by itself goes back as soon as it is freed


def images_at_once(widest_map: int, device: torch.device) -> int:
    """How many images, each of so many numbers in the widest feature map, to compute at a time.

    On a CPU, more than some eight million numbers are no faster, and take memory.
    """
    if device.type != "cpu":
        return MOST_AT_ONCE
    return min(max(LEAST_AT_ONCE, MAP_NUMBERS // widest_map), MOST_AT_ONCE)


def pick_precision(name: str, device: torch.device) -> str:
    """Turns `auto` into float32 or bfloat16, whichever is faster on a device.

    A CPU is asked for its flags, not timed: a resumed training must find the same choice.
    """
    if name not in PRECISIONS:
        raise ValueError(f"precision is {name!r}; it must be one of {PRECISIONS}")
    if name != "auto":
        return name
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else bool(bfloat16_flags())
    return "bfloat16" if fast else "float32"


def bfloat16_flags() -> list[str]:
    """Instructions for bfloat16 that this processor has."""
    return [flag for flag in FAST_FLAGS if torch.cpu.get_capabilities().get(flag)]


def choice_sentence(precision: str, device: torch.device | str) -> str:
    """Names the device and the number format, and what `auto` chooses by."""
    if torch.device(device).type != "cpu":
        return f"Computing on {device} in {precision}."
    has = " and ".join(bfloat16_flags()) or f"neither {' nor '.join(FAST_FLAGS)}"
    return f"Computing on the CPU in {precision}; for bfloat16 this processor has {has}."


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context in which convolutions and dense layers run in the precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
