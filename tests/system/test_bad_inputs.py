"""Every bad input ends in one line that names it, and nothing is written, fetched or executed."""

import os
import socket
import subprocess
import sys

import pytest

from tests.system.bad_inputs.cases import ROOT, look, said
from tests.system.bad_inputs.mistakes import MISTAKES

MOST_LETTERS = 600  # of a line that a person reads


def check(seen, words):
    line = seen.err.strip()
    assert seen.status not in (0, None), line
    assert seen.err.startswith("ohlora: ")
    assert seen.err.count("\n") == 1, seen.err
    assert seen.out == ""
    assert line.isprintable(), ascii(line)
    assert "unexpected" not in line
    assert len(line) <= MOST_LETTERS, len(line)
    assert [word for word in words if word not in line] == [], line
    assert seen.changed == []


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
    check(look(case, tmp_path), case.words)


def test_a_project_root_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("OHLORA_ROOT", "/nowhere")
    check(look(said("", "run params/other"), tmp_path), ["OHLORA_ROOT", "/nowhere lies in no"])


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
