"""Prints what a user sees of each bad input, in Markdown: `python -m tests.system.bad_inputs`."""

import sys
import tempfile
from pathlib import Path

from tests.system.bad_inputs.cases import look
from tests.system.bad_inputs.table import CASES

sys.stdout.write("| what was done | what the user sees | exit |\n|---|---|---|\n")
for case in CASES:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        seen = look(case, Path(folder))
    line = seen.err.strip().removeprefix("ohlora: ").replace("|", "\\|")
    sys.stdout.write(f"| {case.name} | {line} | {seen.status} |\n")
