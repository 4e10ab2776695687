"""Every bad input ends in one line that names it, and nothing is written, fetched or executed."""

import os
import socket
import subprocess
import sys

import pytest

from tests.system.bad_inputs import command_cases, data_cases, params_cases, weight_cases
from tests.system.bad_inputs.cases import ROOT, look

CASES = [*params_cases.CASES, *data_cases.CASES, *weight_cases.CASES, *command_cases.CASES]
MOST_LETTERS = 600  # of a line that a person reads


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was used unasked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_one_line_and_nothing_else(case, tmp_path):
    seen = look(case, tmp_path)
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


@pytest.mark.slow
def test_the_command_in_a_process_of_its_own_says_the_same(tmp_path):
    case = next(case for case in CASES if case.name == "a torch file with code")
    line = look(case, tmp_path).err
    env = {k: v for k, v in os.environ.items() if k != "OHLORA_ROOT"} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "ohlora_lib", *case.arguments]
    said = []
    for flags in ([], ["--debug"]):
        done = subprocess.run(
            [*command, *flags], cwd=tmp_path / "project", env=env, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (1, "")
        said.append(done.stderr)
    assert said[0] == line
    assert said[1].startswith("Traceback")
    assert said[1].endswith(line)
    assert not (tmp_path / "project" / "trap").exists()
