"""The cells of a notebook: which parameters they set, and how the errors they raise are shown."""

from __future__ import annotations

import ast
import difflib
import dis
import os
import re
import sys
from collections.abc import Collection, Iterable, Mapping
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


def check_history(session: Any, namespace: Mapping[str, Any], fields: Collection[str]) -> str:
    """Finds the parameters cell as last run in a kernel, which must set every parameter.

    A kernel keeps the value of a line that was deleted or misspelled since; this refuses it. It
    also refuses to run where papermill's parameters did not reach, since a cell set them again.

    Args:
        session: The notebook's IPython session, whose history begins with the kernel.
        namespace: Its variables.
        fields: Names of the parameters.

    Raises:
        ValueError: One line that names the cell, the parameter and the remedy.
    """
    cells = session.history_manager.input_hist_parsed
    annotated = re.compile(rf"^({'|'.join(fields)})[ \t]*:", re.MULTILINE)
    number = max((n for n, cell in enumerate(cells) if annotated.search(cell)), default=0)
    if not number:
        raise ValueError("the parameters cell has not run. Run it first.")
    where = f"the parameters cell [{number}]"
    if number in getattr(session.history_manager, "exceptions", ()):
        raise ValueError(f"{where} ended in an error. Correct it and run it again.")
    names = _assigned(cells[number])
    check_known(names, fields, where)
    if missing := [name for name in fields if name not in names]:
        raise ValueError(f"{where} does not set {', '.join(missing)}. Give each parameter its "
                         "line there, then run it again.")  # fmt: skip
    given = _assigned(next((cell for cell in cells[::-1] if cell.startswith(INJECTED)), ""))
    check_known(given, fields, "the injected parameters")
    for name, line in given.items():
        if namespace[name] != ast.literal_eval(line.value):
            raise ValueError(f"{name} was set again after the injected parameters. Tag the "
                             "parameters cell 'parameters', and set it in no other.")  # fmt: skip
    return cells[number]


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
