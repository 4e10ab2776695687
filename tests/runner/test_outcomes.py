"""How a stage ended, word for word."""

import errno

import pytest

from ohlora_lib.io.disk import WriteError
from ohlora_lib.runner import outcomes

SMALLER = "Use a smaller batch or fewer samples"
DIED = {
    (-9, False): "its kernel died (killed; most often the memory ran out: use a smaller batch or "
    "fewer samples)",
    (-9, True): f"its kernel was killed by the system because memory ran out. {SMALLER}",
    (-15, False): "its kernel was ended by SIGTERM. Start again: a training resumes from its last "
    "checkpoint",
    (-11, True): "its kernel died (SIGSEGV)",
    (None, False): "its kernel died",
}


@pytest.mark.parametrize("how", DIED)
def test_a_dead_kernel_is_said_as_what_it_was(how):
    code, ran_out = how
    ended = outcomes.of_event({"event": "died", "exit_code": code}, memory_ran_out=ran_out)
    assert (ended.status, ended.reason) == ("killed", DIED[how])


def test_a_process_that_gave_up_has_failed():
    assert outcomes.of_exit("its process", 3).status == "failed"
    assert outcomes.of_exit("its process", 3).reason == "its process ended (exit status 3)"
    assert outcomes.of_event({"event": "done"}) is None


ERRORS = {
    ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 79.10 GiB"): (
        f"the GPU's memory ran out (CUDA out of memory). {SMALLER}"
    ),
    ("RuntimeError", "DefaultCPUAllocator: can't allocate memory: you tried 9 bytes."): (
        "memory ran out (DefaultCPUAllocator: can't allocate memory: you tried 9 bytes). "
        + SMALLER
    ),
    ("AcceleratorError", "CUDA error: out of memory\nCUDA kernel errors"): (
        f"the GPU's memory ran out (CUDA error: out of memory). {SMALLER}"
    ),
    ("_ArrayMemoryError", "Unable to allocate 8.00 EiB"): (
        f"memory ran out (Unable to allocate 8.00 EiB). {SMALLER}"
    ),
    ("OSError", "[Errno 28] No space left on device: 'a.csv'"): (
        "the disk is full ([Errno 28] No space left on device: 'a.csv'). Free room and start "
        "again: a training resumes from its last checkpoint"
    ),
    ("ValueError", "\n  too\nbad"): "ValueError: too",
    ("timed out", "A cell timed out while it was being executed, after 5 seconds.\nx"): (
        "timed out: A cell timed out while it was being executed, after 5 seconds."
    ),
    ("KeyboardInterrupt", ""): "KeyboardInterrupt",
}


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_of_a_cell_is_one_line(error):
    assert outcomes.of_error(*error) == ERRORS[error]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "Free room on its disk"),
        (errno.EROFS, "Make its folder writable again"),
        (errno.ESTALE, "Mount its disk again"),
        (errno.ENODATA, "Look at its disk"),
    ],
)
def test_a_failed_write_names_file_reason_and_remedy(number, remedy):
    text = str(WriteError(number, "reason", "/a/b.csv"))
    assert text.startswith(f"/a/b.csv: cannot be written (reason). {remedy}")
    assert outcomes.of_error("WriteError", text) == text
    assert outcomes.of_disk(WriteError(number, "reason", "/a/b.csv"), "/c") == text
    named, unnamed = OSError(errno.ENOSPC, "full", "/a/b.csv"), OSError(errno.ENOSPC, "full")
    assert outcomes.of_disk(named, "/c").startswith("/a/b.csv: cannot be written (full). Free")
    assert outcomes.of_disk(unnamed, "/c").startswith("/c: cannot be written (full). Free room")
    assert outcomes.of_disk(FileNotFoundError("folder /d is gone."), "/c") == (
        "folder /d is gone. Bring its disk back and start again: a training resumes from its last "
        "checkpoint"
    )


def test_a_traceback_is_told_by_its_error():
    """An error of several lines ends with a caret; what follows a traceback is not the reason."""
    text = (
        "Traceback (most recent call last):\n  File 'a.py', line 1, in <module>\n    f()\n"
        "SelectorSyntaxError: Malformed selector\n  line 1:\nimg:not([alt])\n    ^\n"
        "Exception ignored in: <function __del__>\nTraceback (most recent call last):\n"
        "  File 'b.py', line 2\nTimeoutError: late\n"
    )
    assert outcomes.of_traceback(text) == "SelectorSyntaxError: Malformed selector"
    assert outcomes.of_traceback("one\ntwo\n\n") == "two"
    assert outcomes.of_traceback("") == ""
