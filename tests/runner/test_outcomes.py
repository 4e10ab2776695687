"""The exact messages for how a stage ended."""

import errno

import pytest

from ohlora_lib.io.disk import WriteError
from ohlora_lib.runner import outcomes

SMALLER = "use a smaller batch or fewer samples"
GO_ON = "a training run resumes from its last checkpoint"
DIED = {
    -9: f"killed: its kernel died (killed, most often for lack of memory: {SMALLER})",
    -15: f"killed: its kernel was ended by SIGTERM. Start again: {GO_ON}",
    -11: "killed: its kernel died (SIGSEGV)",
    None: "killed: its kernel died",
    3: "failed: its kernel ended (exit status 3)",
}


@pytest.mark.parametrize("exit_code", DIED)
def test_the_message_names_the_cause_of_a_kernels_death(exit_code):
    ended = outcomes.of_exit("its kernel", exit_code)
    assert f"{ended.ended}: {ended.reason}" == DIED[exit_code]


ERRORS = {
    ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 79.10 GiB"): (
        f"the GPU ran out of memory (CUDA out of memory); {SMALLER}"
    ),
    ("AcceleratorError", "CUDA error: out of memory\nCUDA kernel errors"): (
        f"the GPU ran out of memory (CUDA error: out of memory); {SMALLER}"
    ),
    ("_ArrayMemoryError", "Unable to allocate 8.00 EiB"): (
        f"memory ran out (Unable to allocate 8.00 EiB); {SMALLER}"
    ),
    ("OSError", "[Errno 28] No space left on device: 'a.csv'"): (
        "the disk is full ([Errno 28] No space left on device: 'a.csv'). Free some space and "
        f"start again: {GO_ON}"
    ),
    ("WriteError", "/a/b.csv: cannot"): "/a/b.csv: cannot",
    ("ValueError", "\n  too\nbad"): "ValueError: too",
    ("KeyboardInterrupt", ""): "KeyboardInterrupt",
}


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_of_a_cell_is_one_line(error):
    assert outcomes.of_error(*error) == ERRORS[error]


def test_a_failed_write_names_file_reason_and_remedy():
    named, unnamed = OSError(errno.ENOSPC, "full", "/a/b.csv"), OSError(errno.ESTALE, "gone")
    full = "/a/b.csv: cannot be written (full). Free room on its disk and start again: "
    assert outcomes.of_disk(named, "/c").startswith(full)
    assert outcomes.of_disk(WriteError(errno.ENOSPC, "full", "/a/b.csv"), "/c").startswith(full)
    assert outcomes.of_disk(unnamed, "/c").startswith("/c: cannot be written (gone). Mount its")
    lost = outcomes.of_disk(FileNotFoundError("folder /d is gone."), "/c")
    assert lost == f"folder /d is gone. Mount its disk and start again: {GO_ON}"
