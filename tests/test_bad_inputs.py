"""Every bad input ends in one line that names it, and nothing is written, fetched or executed."""

import socket
import tempfile
from pathlib import Path

import pytest

from tests.bad_inputs.cases import look
from tests.bad_inputs.table import CASES

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
