"""Every bad input gives an error of one line; nothing is written, fetched or executed."""

import os
import socket
from pathlib import Path

import pytest

from ohlora_lib import cli
from tests.stand_ins import PACKAGE_ROOT
from tests.system.bad_inputs.mistakes import MISTAKES

MOST_LETTERS = 600  # in one error line


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project with the real notebooks, and no network."""

    def refuse(*_, **__):
        raise AssertionError("the command used the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("OHLORA_ROOT", raising=False)
    root = tmp_path / "project"
    for name in ("params/tiny", "outputs/tiny"):
        (root / name).mkdir(parents=True)
    (root / "notebooks").symlink_to(PACKAGE_ROOT / "notebooks")
    monkeypatch.chdir(root)
    return root


def tree(root):
    """Every path below a folder, with the size and modification time of files."""
    facts = {}
    for folder, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(folder, name)
            plain = not path.is_dir() or path.is_symlink()
            facts[str(path)] = (path.lstat().st_size, path.lstat().st_mtime_ns) if plain else ()
    return facts


@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: case.name.replace(" ", "-"))
def test_one_line_and_nothing_else(project, capsys, case):
    for name, content in case.files.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    before = tree(project.parent)
    with pytest.raises(SystemExit) as ended:
        cli.main(case.command.split())
    out, err = capsys.readouterr()
    line = err.replace(str(project), "PROJECT").removesuffix("\n")
    assert ended.value.code not in (0, None), line
    assert line.startswith("ohlora: ")
    assert line.isprintable(), ascii(line)  # also rules out line breaks
    assert "unexpected" not in line
    assert len(line) <= MOST_LETTERS, len(line)
    assert [word for word in case.words if word not in line] == [], line
    assert out == ""
    assert tree(project.parent) == before
