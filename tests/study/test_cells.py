"""Notebooks take exactly the parameters that are in their cell, and say errors in one line."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = "05_finetune_generator"
NODE = nbformat.read(ROOT / "notebooks" / f"{NOTEBOOK}.ipynb", as_version=4)
(CELL,) = [c.source for c in NODE.cells if "parameters" in c.metadata.get("tags", [])]
TAKE = (
    "from ohlora_lib.study import parameters\n"
    "config = parameters.FinetuneGenerator.from_cell(globals())"
)
SHOW = "print(config.learning_rate, config.epochs)"
RATE, TYPO = "learning_rate: float = 0.0001", "learning_rte: float = 0.01"
ELSEWHERE = CELL.replace(RATE, "learning_rate: float = 0.005")
WITHOUT = "\n".join(line for line in CELL.splitlines() if not line.startswith("epochs"))
SESSIONS = """
import contextlib, io, json, sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
quiet = {"HistoryManager": {"enabled": False}, "InteractiveShell": {"colors": "nocolor"}}
for cells in json.load(sys.stdin):
    InteractiveShell.clear_instance()
    shell, shown = InteractiveShell.instance(config=Config(quiet)), []
    for cell in cells:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            result = shell.run_cell(cell, store_history=True)
        shown.append([said.getvalue(), type(result.error_in_exec).__name__])
    print(json.dumps(shown))
"""


def run_cells(*sessions):
    """What each cell printed and the kind of its error, each list of cells in its own session."""
    done = subprocess.run(
        [sys.executable, "-c", SESSIONS],
        input=json.dumps(sessions), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def said(number):
    return f"{NOTEBOOK}: the parameters cell [{number}]"


AGAIN = (
    f"{NOTEBOOK}: epochs was set again after the injected parameters. Tag the parameters cell "
    "'parameters', and set it in no other."
)
HISTORIES = {
    "as it is": ([CELL], "0.0001 72"),
    "misspelled": (
        [CELL.replace(RATE, TYPO)],
        f"{said(1)}: unknown parameter 'learning_rte'. Did you mean 'learning_rate'?",
    ),
    "one too many, without a type": (
        [CELL + "\nlerning_rate = 0.01"],
        f"{said(1)}: unknown parameter 'lerning_rate'. Did you mean 'learning_rate'?",
    ),
    "deleted": (
        [WITHOUT],
        f"{said(1)} does not set epochs. Give each parameter its line there, then run it again.",
    ),
    "left over from before": (
        [ELSEWHERE, "%who", CELL.replace(RATE, TYPO), "1 + 1"],
        f"{said(3)}: unknown parameter 'learning_rte'. Did you mean 'learning_rate'?",
    ),
    "left over, its line deleted": (
        [CELL, TAKE, WITHOUT],
        f"{said(3)} does not set epochs. Give each parameter its line there, then run it again.",
    ),
    "left over by a cell that is no Python": (
        [ELSEWHERE, CELL + "\n)"],
        f"{said(2)} ended in an error. Correct it and run it again.",
    ),
    "mended": ([CELL.replace(RATE, TYPO), TAKE, "%who", ELSEWHERE], "0.005 72"),
    "in odd order": ([TAKE, "epochs = 3", CELL, "%who\nx: int = 3"], "0.0001 72"),
    "never run": (
        ["study = 'mine'"], f"{NOTEBOOK}: the parameters cell has not run. Run it first."
    ),
    "injected": ([CELL, "# Parameters\nepochs = 5\n"], "0.0001 5"),
    "injected, misspelled": (
        [CELL, "# Parameters\nepoch = 5\n"],
        f"{NOTEBOOK}: the injected parameters: unknown parameter 'epoch'. Did you mean 'epochs'?",
    ),
    "injected before, for want of the tag": (["# Parameters\nepochs = 5\n", CELL], AGAIN),
    "injected, then set by another cell": (
        [CELL, "# Parameters\nepochs = 5\n", "import os\nepochs = 6"], AGAIN
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def shown():
    """What the sessions of `HISTORIES` showed at last."""
    sessions = [[*cells, TAKE, SHOW] for cells, _ in HISTORIES.values()]
    return dict(zip(HISTORIES, run_cells(*sessions), strict=True))


@pytest.mark.parametrize("case", HISTORIES)
def test_only_what_the_parameters_cell_now_says_counts(shown, case):
    *_, taken, values = shown[case]
    expected = HISTORIES[case][1]
    refused = expected.startswith(NOTEBOOK)
    assert taken == ([f"{expected}\n", "ValueError"] if refused else ["", "NoneType"])
    if not refused:
        assert values[0] == f"{expected}\n"


@pytest.mark.slow
def test_complaints_are_one_line_and_bugs_keep_their_traceback():
    calls = {
        "complaint": "import ohlora_lib.nets.compute as p\np.pick_device('tpu')",
        "debugger": "%tb",
        "bug": "import ohlora_lib.study.look as c\nc.conditions(None, {'a': 1})",
        "C": "from ohlora_lib.study import run_folder\nrun_folder.Path('a').relative_to('b')",
        "own": "raise ValueError('mine')",
        "number": "from ohlora_lib.runner import cells\n"
        "exec('def f(): int(\"x\")', cells.__dict__)\ncells.f()",
        "state": "import sys; print(sys.last_type.__name__, sys.last_value, "
        "get_ipython().InteractiveTB.tb.tb_next is not None)",
    }
    order = ["complaint", "state", "debugger", "bug", "C", "own", "number"]
    (shown,) = run_cells([CELL, TAKE, *(calls[name] for name in order)])
    by_name = dict(zip(order, shown[2:], strict=True))
    line = "device is 'tpu'; this machine knows auto, cpu"
    assert by_name["complaint"] == [f"{line}\n", "ValueError"]
    assert by_name["state"][0] == f"ValueError {line} True\n"  # what %debug works on
    assert "in pick_device(name)" in by_name["debugger"][0]
    for name in ("bug", "C", "own", "number"):
        assert "Traceback (most recent call last)" in by_name[name][0], name
