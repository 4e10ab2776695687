"""Picks the device, the number format and the batch size that are fastest on this machine.

Sources: PyTorch's automatic mixed precision, https://docs.pytorch.org/docs/stable/amp.html, and
`mallopt` of glibc, https://man7.org/linux/man-pages/man3/mallopt.3.html.
"""

import contextlib
import ctypes
import sys

import torch

PRECISIONS = ("auto", "float32", "bfloat16")
MAP_NUMBERS = 2**23  # elements of the widest feature map of all images in one pass on a CPU
LEAST_AT_ONCE, MOST_AT_ONCE = 4, 250  # images
FAST_FLAGS = ("avx512_bf16", "amx_bf16")  # without these, bfloat16 is slower than float32
TRIM_THRESHOLD, MMAP_MAX = -1, -4  # option numbers of glibc's mallopt


def pick_device(name: str) -> torch.device:
    """Turns `auto`, `cpu`, `cuda` or `cuda:1` into a device; `auto` prefers CUDA.

    Raises:
        ValueError: If the device is unknown or not available.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if count else "cpu"
    known = ["auto", "cpu", *(["cuda"] if count else []), *(f"cuda:{k}" for k in range(count))]
    if name not in known:
        raise ValueError(f"device is {name!r}; this machine allows {', '.join(known)}")
    torch.set_flush_denormal(True)  # denormal numbers slow a CPU down a hundredfold
    _keep_freed_memory()
    return torch.device(name)


def _keep_freed_memory() -> None:
    """Makes glibc keep freed memory: new pages for feature maps take a third of a step's time."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # not glibc, for example on Alpine
            mallopt = ctypes.CDLL("libc.so.6").mallopt
            mallopt(TRIM_THRESHOLD, 2**31 - 1)
            mallopt(MMAP_MAX, 0)  # freed mappings would return to the system at once


def images_at_once(widest_map: int, device: torch.device) -> int:
    """Returns how many images to compute at a time, given the elements in their widest map.

    On a CPU, more than about eight million elements are no faster and take memory.
    """
    if device.type != "cpu":
        return MOST_AT_ONCE
    return min(max(LEAST_AT_ONCE, MAP_NUMBERS // widest_map), MOST_AT_ONCE)


def pick_precision(name: str, device: torch.device) -> str:
    """Turns `auto` into float32 or bfloat16, whichever is faster on the device.

    On a CPU its flags decide, not a timing: a resumed training must make the same choice.
    """
    if name not in PRECISIONS:
        raise ValueError(f"precision is {name!r}; it must be one of {PRECISIONS}")
    if name != "auto":
        return name
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else bool(bfloat16_flags())
    return "bfloat16" if fast else "float32"


def bfloat16_flags() -> list[str]:
    """Returns the bfloat16 instruction sets of this processor."""
    return [flag for flag in FAST_FLAGS if torch.cpu.get_capabilities().get(flag)]


def choice_sentence(precision: str, device: torch.device | str) -> str:
    """Names the device, the number format and the CPU flags that decide `auto`."""
    if torch.device(device).type != "cpu":
        return f"Computing on {device} in {precision}."
    has = " and ".join(bfloat16_flags()) or f"neither {' nor '.join(FAST_FLAGS)}"
    return f"Computing on the CPU in {precision}; for bfloat16 this processor has {has}."


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Returns a context in which convolutions and dense layers run in this precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
