"""Notebooks take exactly the parameters in their cell, and show errors in one line."""

import json
import subprocess
import sys

import pytest

from ohlora_lib.study import cells
from tests.study.test_parameters import ROOT, source_of

NOTEBOOK = "05_finetune_generator"
CELL = source_of(ROOT / "notebooks" / f"{NOTEBOOK}.ipynb")
TAKE = (
    "from ohlora_lib.study import parameters\n"
    "config = parameters.FinetuneGenerator.from_cell(globals())"
)
SHOW = "print(config.learning_rate, config.epochs, *config.table().index[:2])"
RATE, TYPO = "learning_rate: float = 0.0001", "learning_rte: float = 0.01"
ELSEWHERE, MISSPELLED = CELL.replace(RATE, RATE + "5"), CELL.replace(RATE, TYPO)
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
    """Runs each list of cells in its own session; returns each cell's output and error type."""
    done = subprocess.run(
        [sys.executable, "-c", SESSIONS],
        input=json.dumps(sessions), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


INJECTED = "# Parameters\nepochs = 5\n"
AGAIN = (
    "epochs was set again after the injected parameters. Tag the parameters cell 'parameters' "
    "and set it only there."
)
GOOD = {  # cells; resulting learning rate and epochs, first rows of the table
    "as it is": ([CELL], "0.0001 72 study variant"),
    "corrected": ([MISSPELLED, TAKE, "%who", ELSEWHERE], "0.00015 72 study variant"),
    "injected": ([CELL, INJECTED], "0.0001 5 study variant"),
}
BAD = {  # cells; error message
    "an extra parameter, without a type": (
        [CELL + "\nlerning_rate = 0.01"],
        "the parameters cell [1]: unknown parameter 'lerning_rate'. Did you mean 'learning_rate'?",
    ),
    "left over, its line misspelled": (
        [ELSEWHERE, "%who", MISSPELLED, "1 + 1"],
        "the parameters cell [3]: unknown parameter 'learning_rte'. Did you mean 'learning_rate'?",
    ),
    "left over, its line deleted": (
        [CELL, TAKE, WITHOUT],
        "the parameters cell [3] does not set epochs. Give each parameter a line there, then "
        "run it again.",
    ),
    "left over by a cell that does not parse": (
        [ELSEWHERE, CELL + "\n)"],
        "the parameters cell [2] raised an error. Correct it and run it again.",
    ),
    "never run": (["study = 'mine'"], "the parameters cell has not run. Run it first."),
    "injected, misspelled": (
        [CELL, "# Parameters\nepoch = 5\n"],
        "the injected parameters: unknown parameter 'epoch'. Did you mean 'epochs'?",
    ),
    "injected before the cell, which has no tag": ([INJECTED, CELL], AGAIN),
    "injected, then set in another cell": ([CELL, INJECTED, "import os\nepochs = 6"], AGAIN),
}


GROUPED = """
# This run
source: str = "files"  # where from
# Only for source: files or train
a: str = ""  # weights
b: dict = {
    "x": 1,
}  # more weights
# Only for source: train; networks
c: int = 1  # width
# Only for source: train or files, size: small; schedule
e: int = 1  # steps
# Only for an independent judge
d: int = 1  # depth
"""


def test_parameters_of_another_choice_are_not_shown():
    small = {"size": "small"}
    assert cells.unused(GROUPED, {"source": "files", **small}) == {"c"}
    assert cells.unused(GROUPED, {"source": "train", **small}) == set()
    assert cells.unused(GROUPED, {"source": "shipped", **small}) == {"a", "b", "c", "e"}
    assert cells.unused(GROUPED, {"source": "train", "size": "large"}) == {"e"}
    assert cells.comments(GROUPED)["b"] == "more weights"


@pytest.fixture(scope="module")
def shown():
    """Output and error type of the last two cells of each session, which take and print."""
    histories = {**GOOD, **BAD}
    sessions = run_cells(*([*cells, TAKE, SHOW] for cells, _ in histories.values()))
    return {case: session[-2:] for case, session in zip(histories, sessions, strict=True)}


@pytest.mark.parametrize("case", GOOD)
def test_the_current_parameters_cell_counts(shown, case):
    assert shown[case] == [["", "NoneType"], [f"{GOOD[case][1]}\n", "NoneType"]]


@pytest.mark.parametrize("case", BAD)
def test_other_histories_are_rejected(shown, case):
    assert shown[case][0] == [f"{NOTEBOOK}: {BAD[case][1]}\n", "ValueError"]


@pytest.mark.slow
def test_errors_for_the_user_are_one_line_and_bugs_keep_their_traceback():
    line = "device is 'tpu'; this machine allows auto, cpu"
    complaint, state, debugger, *bugs = run_cells([
        CELL,
        TAKE,
        "import ohlora_lib.nets.compute as p\np.pick_device('tpu')",
        "import sys; print(sys.last_type.__name__, sys.last_value, "
        "get_ipython().InteractiveTB.tb.tb_next is not None)",
        "%tb",
        "import ohlora_lib.study.look as c\nc.conditions(None, {'a': 1})",
        "from ohlora_lib.study import records\nrecords.Path('a').relative_to('b')",
        "raise ValueError('mine')",
        "exec('def f(): int(\"x\")', records.__dict__)\nrecords.f()",
    ])[0][2:]  # fmt: skip
    assert complaint == [f"{line}\n", "ValueError"]
    assert state[0] == f"ValueError {line} True\n"  # what %debug inspects
    assert "in pick_device(name)" in debugger[0]
    assert ["Traceback (most recent call last)" in said for said, _ in bugs] == [True] * 4
