"""The cells of a notebook: which parameters they set, and how the errors they raise are shown."""

from __future__ import annotations

import ast
import difflib
import dis
import os
import re
import sys
from collections.abc import Collection, Iterable
from typing import Any

STARTED = "OHLORA_STAGE"  # environment of a kernel: the run folder it was started for
INJECTED = "# Parameters"  # first line of the cell that papermill adds


def _assigned(source: str) -> dict[str, ast.AnnAssign | ast.Assign]:
    """The lines of a cell that assign names, by name; none if it is no Python."""
    try:
        lines = ast.parse(source).body
    except (SyntaxError, ValueError):
        return {}
    return {
        node.id: line
        for line in lines
        if isinstance(line, ast.Assign | ast.AnnAssign) and line.value is not None
        for target in (line.targets if isinstance(line, ast.Assign) else [line.target])
        for node in ast.walk(target)
        if isinstance(node, ast.Name)
    }


def comments(source: str) -> dict[str, str]:
    """What the comment at the end of each parameter's line says, by name."""
    lines = source.splitlines()
    ends = {name: lines[line.end_lineno - 1] for name, line in _assigned(source).items()}
    return {name: end.partition("  # ")[2] for name, end in ends.items()}


def check_known(names: Iterable[str], fields: Collection[str], where: str) -> None:
    """Raises ValueError if a name is no parameter; proposes the one it resembles."""
    for name in names:
        if name not in fields:
            close = difflib.get_close_matches(str(name), fields, 1)
            remedy = f"Did you mean {close[0]!r}?" if close else "Correct the name or remove it."
            raise ValueError(f"{where}: unknown parameter {name!r}. {remedy}")


def _check_names(source: str, fields: Collection[str], where: str) -> None:
    """Raises ValueError if the names a cell sets are not exactly the parameters."""
    names = _assigned(source)
    check_known(names, fields, where)
    if missing := [name for name in fields if name not in names]:
        raise ValueError(f"{where} does not set {', '.join(missing)}. Give each parameter its "
                         "line there, then run it again.")  # fmt: skip


def check_history(session: Any, fields: Collection[str], notebook: str) -> str:
    """Finds the parameters cell as last run in a kernel; ValueError if it does not set them all.

    A kernel keeps the value of a line that was deleted or misspelled since; this refuses it.

    Args:
        session: The notebook's IPython session, whose history begins with the kernel.
        fields: Names of the parameters.
        notebook: Stem of the notebook, for messages.
    """
    cells = session.history_manager.input_hist_parsed
    annotated = re.compile(rf"^({'|'.join(fields)})[ \t]*:", re.MULTILINE)
    number = max((n for n, cell in enumerate(cells) if annotated.search(cell)), default=0)
    if not number:
        raise ValueError(f"{notebook}: the parameters cell has not run. Run it first.")
    where = f"{notebook}: the parameters cell [{number}]"
    if number in getattr(session.history_manager, "exceptions", ()):
        raise ValueError(f"{where} ended in an error. Correct it and run it again.")
    _check_names(cells[number], fields, where)
    for cell in cells[number + 1 :]:
        if cell.startswith(INJECTED):
            check_known(_assigned(cell), fields, f"{notebook}: the injected parameters")
    return cells[number]


def check_notebook(cells: Iterable[dict], fields: Collection[str], where: str) -> None:
    """Checks that a runner's parameters will reach a notebook.

    They do where one cell has the tag `parameters` and no other sets a parameter after it.

    Args:
        cells: The notebook's.
        fields: Names of its parameters.
        where: Its path, for messages.

    Raises:
        ValueError: If they would not; one line.
    """
    code = [("".join(c["source"]), _tags(c)) for c in cells if c["cell_type"] == "code"]
    tagged = [source for source, tags in code if "parameters" in tags]
    if not tagged:
        raise ValueError(f"{where} has no cell tagged 'parameters'; add the tag")
    taken = [n for n, (source, _) in enumerate(code) if ".from_cell(" in source]
    if not taken:  # it reads its parameters in its own way
        return
    _check_names(tagged[0], fields, f"{where}: the cell tagged 'parameters'")
    for source, tags in code[: taken[0]]:
        twice = _assigned(source).keys() & set(fields)
        if twice and not {"parameters", "injected-parameters"} & set(tags):
            raise ValueError(f"{where}: a cell without the tag 'parameters' sets {min(twice)} "
                             "too. Remove that line.")  # fmt: skip


def _tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


def plain_values(cells: Iterable[dict]) -> dict[str, Any]:
    """Values by name of the cell with the tag `parameters`; empty where one is computed."""
    source = next("".join(cell["source"]) for cell in cells if "parameters" in _tags(cell))
    try:
        return {k: ast.literal_eval(line.value) for k, line in _assigned(source).items()}
    except ValueError:
        return {}


def check_started(study: str, stage: str) -> None:
    """Raises ValueError if a runner started this kernel for another run folder."""
    asked, opened = os.environ.get(STARTED), f"{study}/{stage}"
    if asked not in {None, opened}:
        raise ValueError(
            f"the notebook opens outputs/{opened}, but was started for outputs/{asked}: a cell "
            f"sets study or variant after the runner's parameters. Remove that line."
        )


def show_complaints(session: Any) -> None:
    """Lets a notebook show the package's complaints as one line; other errors as before."""
    session.set_custom_exc((ValueError, OSError, ArithmeticError), _show)


def _show(session: Any, kind: type, error: Any, trace: Any, tb_offset: Any = None) -> None:
    if not _is_complaint(error, trace):
        session.showtraceback((kind, error, trace), None, tb_offset, running_compiled_code=True)
        return
    sys.last_type, sys.last_value, sys.last_traceback = kind, error, trace  # for %debug and %tb
    session.InteractiveTB.tb = trace  # where %debug looks first
    session._showtraceback(kind, error, [" ".join(str(error).split())])


def _is_complaint(error: BaseException, trace: Any) -> bool:
    """Whether a `raise` of the package says what the user can mend, rather than that it broke."""
    while trace.tb_next is not None:
        trace = trace.tb_next
    code, module = trace.tb_frame.f_code.co_code, trace.tb_frame.f_globals.get("__name__", "")
    raised = code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    ours = module.startswith("ohlora_lib.") and raised
    return ours and (isinstance(error, ValueError | OSError) or hasattr(error, "exit_status"))
