"""A study of one tiny fine-tuning in which trouble can be made, for the `ohlora` command.

`python -m tests.system.faults.tiny_study ROOT run params/tiny` is `ohlora run params/tiny` in it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import ClassVar

import nbformat

from ohlora_lib import cli
from ohlora_lib.study import parameters
from ohlora_lib.study.parameters import NotebookParameters

SOURCES = Path(__file__).parents[3]
STAGE = "05_finetune_generator"
CELLS = (
    "from ohlora_lib.study.run import start_run\n"
    "config = {'study': study, 'variant': variant, 'seed': seed, 'learning_rate': learning_rate}\n"
    f"run = start_run({STAGE!r}, config)",
    "exec(trouble)",
    "from tests.system.faults import small_runs\nsmall_runs.finetune(run, print)",
)


class Train(NotebookParameters):
    NOTEBOOK: ClassVar[str] = STAGE
    learning_rate: float = 1e-3
    trouble: str = ""  # code that is run before the training


def make(root: Path) -> Path:
    """Makes the project; gives the run folder of its stage."""
    v4 = nbformat.v4
    kernel = {"name": "python3", "display_name": "P", "language": "python"}
    node = v4.new_notebook(metadata={"kernelspec": kernel})
    names = "study = 'tiny'\nvariant = ''\nseed = 0\nlearning_rate = 1e-3\ntrouble = ''"
    tagged = v4.new_code_cell(names, metadata={"tags": ["parameters"]})
    node.cells = [tagged, *map(v4.new_code_cell, CELLS)]
    (root / "notebooks").mkdir(parents=True, exist_ok=True)
    nbformat.write(node, root / "notebooks" / f"{STAGE}.ipynb")
    (root / "params" / "tiny").mkdir(parents=True, exist_ok=True)
    set_parameters(root)
    return root / "outputs" / "tiny" / STAGE


def set_parameters(root: Path, learning_rate: float = 1e-3, trouble: str = "") -> None:
    """Writes the params file."""
    text = f"study: tiny\nlearning_rate: {learning_rate}\ntrouble: {trouble!r}\n"
    (root / "params" / "tiny" / f"{STAGE}.yaml").write_text(text)


def surroundings() -> dict[str, str]:
    """Environment in which the command and its kernels find these sources."""
    return {**os.environ, "PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"}


def command(root: Path, *more: str) -> list[str]:
    """The command line of `ohlora run params/tiny` in the project."""
    return [
        sys.executable,
        "-m",
        "tests.system.faults.tiny_study",
        str(root),
        "run",
        "params/tiny",
        *more,
    ]


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    parameters.MODELS.clear()
    parameters.MODELS[STAGE] = Train
    cli.main(sys.argv[2:])
