"""Bad inputs as data: what a user did, the command, and what the one line must say."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from ohlora_lib import cli

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Bad:
    """One mistake.

    Attributes:
        name: What was done, for people.
        arguments: Of `ohlora`, called in the project.
        words: Parts of the line: the file or flag, the value, what to do.
        prepare: Makes the bad files in an empty project.
        environment: Variables to set.
    """

    name: str
    arguments: tuple[str, ...]
    words: tuple[str, ...]
    prepare: Callable[[Path], object] = lambda root: None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """What came of it."""

    status: int
    out: str
    err: str
    changed: list[str]  # files that were made, changed or removed


def new_project(root: Path) -> None:
    """An empty project with the real notebooks."""
    (root / "params" / "tiny").mkdir(parents=True)
    (root / "outputs" / "tiny").mkdir(parents=True)
    (root / "notebooks").symlink_to(ROOT / "notebooks")


def tree(root: Path) -> dict[str, tuple]:
    """Every path of a folder: kind, size and time of change of files."""
    facts = {}
    for folder, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(folder, name)
            stat = path.lstat()
            plain = not path.is_dir() or path.is_symlink()
            facts[str(path.relative_to(root))] = (stat.st_size, stat.st_mtime_ns) if plain else ()
    return facts


def look(case: Bad, folder: Path) -> Seen:
    """Makes the mistake in a project in an empty folder, and says what the user sees."""
    root = folder.resolve() / "project"
    new_project(root)
    with chdir(root):
        case.prepare(root)
    before, out, err = tree(root.parent), io.StringIO(), io.StringIO()
    with ExitStack() as stack:
        stack.enter_context(chdir(root))
        stack.enter_context(mock.patch.dict(os.environ, case.environment))
        if "OHLORA_ROOT" not in case.environment:
            os.environ.pop("OHLORA_ROOT", None)
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(err))
        status = 0
        try:
            cli.main(case.arguments)
        except SystemExit as ended:
            status = ended.code
    after = tree(root.parent)
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return Seen(status, out.getvalue(), err.getvalue().replace(str(root), "PROJECT"), changed)
