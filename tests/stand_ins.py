"""A project of tiny notebooks named like the real ones, for tests that run many stages."""

from pathlib import Path
from typing import ClassVar

import nbformat
import yaml
from pydantic import Field

from ohlora_lib.study import parameters, records
from ohlora_lib.study.parameters import NotebookParameters

PACKAGE_ROOT = Path(records.__file__).parents[2]
LOOK = "concept: {a: 1.0}\n"


class First(NotebookParameters):
    NOTEBOOK: ClassVar[str] = "01_first"
    value: int = Field(1, ge=0)
    r1_gamma: float = 0.0


class Finetune(NotebookParameters):
    NOTEBOOK: ClassVar[str] = "05_finetune_generator"
    first_run: str
    concept: dict[str, float]
    r1_gamma: float = Field(10.0, ge=0)
    start_file: str = ""


class Evaluate(NotebookParameters):
    NOTEBOOK: ClassVar[str] = "06_evaluate_samples"
    first_run: str
    finetune_run: str
    concept: dict[str, float]


class Compare(NotebookParameters):
    NOTEBOOK: ClassVar[str] = "08_compare_runs"
    finetune_runs: list[str]
    evaluation_runs: list[str]
    names: list[str]
    concept: dict[str, float]


MODELS = (First, Finetune, Evaluate, Compare)
OPEN = """
import os, pathlib, time
from ohlora_lib.study.run_folder import start_run
config = {name: globals()[name] for name in GIVEN}
run = start_run(STEM, config)
journal = open("journal.txt", "a")
print("start", f"{study}/{run.path.name}", file=journal, flush=True)
"""
CLOSE = """
print("end", f"{study}/{run.path.name}", file=journal, flush=True)
summary = run.finish(verdict=f"{run.path.name} ended", value=1)
"""


def write_notebook(root: Path, model: type[NotebookParameters], work: str = "pass") -> None:
    """Writes a stand-in for a notebook; `work` is its code between start and end."""
    v4, kernel = nbformat.v4, {"name": "python3", "display_name": "P", "language": "python"}
    node = v4.new_notebook(metadata={"kernelspec": kernel})
    given = [name for name in model.model_fields if name != "start_anew"]
    cell = "\n".join(f"{name} = ''" for name in model.model_fields)
    opening = OPEN.replace("GIVEN", repr(given)).replace("STEM", repr(model.NOTEBOOK))
    tagged = v4.new_code_cell(cell, metadata={"tags": ["parameters"]})
    cells = [v4.new_code_cell(source) for source in (opening, work, CLOSE)]
    node.cells = [v4.new_markdown_cell("# A tiny stage"), tagged, *cells]
    nbformat.write(node, root / "notebooks" / f"{model.NOTEBOOK}.ipynb")


def write_params(root: Path, stem: str, text: str) -> None:
    """Writes a params file of the study `tiny`."""
    path = root / "params" / "tiny" / f"{stem}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"study: tiny\n{text}")


def make_project(root: Path, monkeypatch, variants: tuple[str, ...] = ("v8", "v9")) -> Path:
    """A study `tiny`: an early stage, fine-tuning and evaluation per variant, a comparison."""
    monkeypatch.setattr(parameters, "MODELS", {model.NOTEBOOK: model for model in MODELS})
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE_ROOT))
    monkeypatch.delenv("OHLORA_ROOT", raising=False)
    monkeypatch.chdir(root)
    (root / "notebooks").mkdir()
    for model in MODELS:
        write_notebook(root, model)
    early = "first_run: outputs/tiny/01_first\n"
    write_params(root, "01_first", "value: 3\n")
    for name in variants:
        write_params(root, f"05_finetune_generator-{name}", f"variant: {name}\n{early}{LOOK}")
        run = f"finetune_run: outputs/tiny/05_finetune_generator-{name}\n"
        write_params(root, f"06_evaluate_samples-{name}", f"variant: {name}\n{early}{run}{LOOK}")
    if len(variants) > 1:
        fields = {
            "finetune_runs": "05_finetune_generator",
            "evaluation_runs": "06_evaluate_samples",
        }
        lists = {k: [f"outputs/tiny/{stem}-{v}" for v in variants] for k, stem in fields.items()}
        lists |= {"names": list(variants), "seed": 5}
        write_params(root, "08_compare_runs", f"{yaml.safe_dump(lists)}{LOOK}")
    return root


def journal(root: Path, kind: str) -> list[str]:
    """Returns the stages that started or ended (`kind`), in order."""
    path = root / "journal.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split()[1] for line in lines if line.startswith(f"{kind} ")]
