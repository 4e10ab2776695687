"""Every bad input ends in one line that names it, and nothing is written, fetched or executed."""

import os
import socket
import subprocess
import sys

import pytest

from tests.system.bad_inputs.cases import ROOT, look
from tests.system.bad_inputs.mistakes import MISTAKES

MOST_LETTERS = 600  # of a line that a person reads


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was used unasked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("OHLORA_ROOT", raising=False)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: case.name.replace(" ", "-"))
def test_one_line_and_nothing_else(case, tmp_path):
    seen = look(case, tmp_path)
    line = seen.err.removesuffix("\n")
    assert seen.status not in (0, None), line
    assert line.startswith("ohlora: ")
    assert line.isprintable(), ascii(line)  # so it is one line
    assert "unexpected" not in line
    assert len(line) <= MOST_LETTERS, len(line)
    assert [word for word in case.words if word not in line] == [], line
    assert (seen.out, seen.changed) == ("", [])


@pytest.mark.slow
def test_the_command_in_a_process_of_its_own_says_the_same(tmp_path, monkeypatch):
    monkeypatch.delenv("OHLORA_ROOT", raising=False)
    case = next(case for case in MISTAKES if case.name == "a torch file with code")
    line = look(case, tmp_path).err
    command = [sys.executable, "-m", "ohlora_lib", *case.command.split()]
    options = {"cwd": tmp_path / "project", "env": os.environ | {"PYTHONPATH": str(ROOT)}}
    for flags in ([], ["--debug"]):
        done = subprocess.run([*command, *flags], capture_output=True, text=True, **options)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.endswith(line)
        assert done.stderr.startswith("Traceback" if flags else "ohlora: ")
    assert not (tmp_path / "project" / "trap").exists()
