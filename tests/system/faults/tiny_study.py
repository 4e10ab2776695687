"""A study of one tiny fine-tuning run that can be made to fail, for tests of the `ohlora` command.

`python -m tests.system.faults.tiny_study ROOT run params/tiny` runs that `ohlora` command in ROOT.
"""

import os
import sys
from pathlib import Path
from typing import ClassVar

from ohlora_lib import cli
from ohlora_lib.study import parameters
from ohlora_lib.study.parameters import NotebookParameters
from tests.stand_ins import PACKAGE_ROOT, write_notebook, write_params

STAGE = "05_finetune_generator"
WORK = "exec(trouble)\nfrom tests.system.faults import small_runs\nsmall_runs.finetune(run, print)"


class Train(NotebookParameters):
    NOTEBOOK: ClassVar[str] = STAGE
    learning_rate: float = 1e-3
    trouble: str = ""  # code to run before the training


def make(root: Path) -> Path:
    """Makes the project; returns the run folder of its stage."""
    (root / "notebooks").mkdir(parents=True)
    write_notebook(root, Train, WORK)
    set_parameters(root)
    return root / "outputs" / "tiny" / STAGE


def set_parameters(root: Path, learning_rate: float = 1e-3, trouble: str = "") -> None:
    """Writes the params file."""
    write_params(root, STAGE, f"learning_rate: {learning_rate}\ntrouble: {trouble!r}\n")


def surroundings() -> dict[str, str]:
    """Environment in which the command and its kernels import this source tree."""
    return {**os.environ, "PYTHONPATH": str(PACKAGE_ROOT), "OMP_NUM_THREADS": "1"}


def command(root: Path, *more: str) -> list[str]:
    """The command line of `ohlora run params/tiny` in the project."""
    return [sys.executable, "-m", "tests.system.faults.tiny_study", str(root), "run",
            "params/tiny", *more]  # fmt: skip


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    parameters.MODELS.clear()
    parameters.MODELS[STAGE] = Train
    cli.main(sys.argv[2:])
