"""A wait for another process ends with it, whoever else holds what it wrote to."""

import os
import signal
import subprocess
import sys

import pytest

from ohlora_lib.runner.pipes import Lines, read_event

CODE = """
import subprocess, sys
print('Welcome to the cluster', flush=True)
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
print(f'{{"event": "done", "pid": {child.pid}}}', flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="ends a process by its signal")
def test_the_lines_of_a_process_end_with_it():
    """Its child lives on and holds the pipe open: waiting for the end of file would hang."""
    process = subprocess.Popen([sys.executable, "-c", CODE], stdout=subprocess.PIPE, text=True)
    lines = Lines(process.stdout, process)
    found = list(iter(lines.next, None))
    events = [event for line in found if (event := read_event(line))]
    os.kill(events[0].pop("pid"), signal.SIGKILL)
    assert events == [{"event": "done"}]
    assert "Welcome to the cluster\n" in found


def test_what_is_no_event_is_passed_over():
    assert [read_event(line) for line in ("hi\n", "3\n", "[" * 10**5, '"a"', "")] == [{}] * 5
    assert read_event('{"event": "cell"}\n') == {"event": "cell"}
