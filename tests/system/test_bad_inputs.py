"""Every bad input ends in one line that names it, and nothing is written, fetched or executed."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.system.bad_inputs.cases import ROOT, look
from tests.system.bad_inputs.table import CASES

MOST_LETTERS = 600  # of a line that a person reads


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was used unasked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def folder():
    """A folder that other users can enter, which pytest's own do not allow."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_the_table_is_large_and_names_are_unique():
    names = [case.name for case in CASES]
    assert len(names) >= 40
    assert len(set(names)) == len(names)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_one_line_and_nothing_else(case, folder):
    seen = look(case, folder)
    line = seen.err.strip()
    assert seen.status not in (0, None), line
    assert seen.err.startswith("ohlora: ")
    assert seen.err.count("\n") == 1, seen.err
    assert seen.out == ""
    assert line.isprintable(), ascii(line)
    assert "unexpected" not in line
    assert len(line) <= MOST_LETTERS, len(line)
    assert [word for word in case.words if word not in line] == [], line
    assert seen.changed == []


@pytest.mark.parametrize("name", ["a name given twice", "a torch file with code", "a log cut off"])
def test_the_command_in_a_process_of_its_own_says_the_same(name, folder):
    case = next(case for case in CASES if case.name == name)
    line = look(case, folder).err
    env = {k: v for k, v in os.environ.items() if k != "OHLORA_ROOT"} | {"PYTHONPATH": str(ROOT)}
    said = []
    for flags in ([], ["--debug"]):
        command = [sys.executable, "-m", "ohlora_lib", *case.arguments, *flags]
        done = subprocess.run(
            command, cwd=folder / "project", env=env, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 1
        assert done.stdout == ""
        said.append(done.stderr)
    assert said[0] == line
    assert said[1].startswith("Traceback")
    assert said[1].endswith(line)
    assert not (folder / "project" / "trap").exists()
