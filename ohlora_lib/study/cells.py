"""Notebook cells: the parameters they set, and how errors raised in them are displayed."""

import ast
import difflib
import dis
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from typing import Any

INJECTED = "# Parameters"  # first line of the cell that papermill adds
ONLY = "# Only for "  # heads a group, as in "# Only for source: files or train, recipe: v9"
CONDITION = re.compile(r"(\w+): ([\w ]+)")


def _assigned(source: str) -> dict[str, ast.AnnAssign | ast.Assign]:
    """Maps each name a cell assigns to its assignment; empty if the cell does not parse."""
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
    """Maps each parameter to the comment at the end of its line."""
    lines = source.splitlines()
    ends = {name: lines[line.end_lineno - 1] for name, line in _assigned(source).items()}
    return {name: end.partition("  # ")[2] for name, end in ends.items()}


def unused(source: str, values: Mapping[str, Any]) -> set[str]:
    """Parameters whose group comment (`ONLY`) has a condition that `values` do not meet."""
    lines, found = source.splitlines(), set()
    for name, line in _assigned(source).items():
        groups = [text for text in lines[: line.lineno] if text.startswith("# ")]
        only = groups[-1] if groups and groups[-1].startswith(ONLY) else ""
        for field, wanted in CONDITION.findall(only):
            if values.get(field) not in wanted.split(" or "):
                found.add(name)
    return found


def did_you_mean(name: str, known: Iterable[str], otherwise: str, *, prefix: str = "") -> str:
    """Suggests the known name closest to a mistyped one, or returns another remedy."""
    close = difflib.get_close_matches(name, known, 1)
    return f"Did you mean {prefix + close[0]!r}?" if close else otherwise


def check_known(names: Iterable[str], fields: Collection[str], where: str) -> None:
    """Raises ValueError if a name is not a parameter; suggests the closest match."""
    for name in names:
        if name not in fields:
            remedy = did_you_mean(str(name), fields, "Correct the name or remove it.")
            raise ValueError(f"{where}: unknown parameter {name!r}. {remedy}")


def check_history(session: Any, namespace: Mapping[str, Any], fields: Collection[str]) -> str:
    """Returns the source of the parameters cell as last run; it must set every parameter.

    A kernel keeps the value of a line that has since been deleted or misspelled; such a value is
    rejected. So is a parameter that papermill injected and another cell then set again. The
    ValueError names the cell, the parameter and the remedy in one line.
    """
    history = session.history_manager
    cells = history.input_hist_parsed
    annotated = re.compile(rf"^({'|'.join(fields)})[ \t]*:", re.MULTILINE)
    number = max((n for n, cell in enumerate(cells) if annotated.search(cell)), default=0)
    where, names = f"the parameters cell [{number}]", _assigned(cells[number])
    if not number:
        raise ValueError("the parameters cell has not run. Run it first.")
    if number in getattr(history, "exceptions", ()):
        raise ValueError(f"{where} raised an error. Correct it and run it again.")
    check_known(names, fields, where)
    if missing := [name for name in fields if name not in names]:
        raise ValueError(f"{where} does not set {', '.join(missing)}. Give each parameter a "
                         "line there, then run it again.")  # fmt: skip
    given = _assigned(next((cell for cell in cells[::-1] if cell.startswith(INJECTED)), ""))
    check_known(given, fields, "the injected parameters")
    for name, line in given.items():
        if namespace[name] != ast.literal_eval(line.value):
            raise ValueError(f"{name} was set again after the injected parameters. Tag the "
                             "parameters cell 'parameters' and set it only there.")  # fmt: skip
    return cells[number]


def show_complaints(session: Any) -> None:
    """Makes a notebook show the package's own errors as one line, and others as before."""

    def show(session: Any, kind: type, error: Any, trace: Any, tb_offset: Any = None) -> None:
        if not _is_complaint(error, trace):
            whole = (kind, error, trace)
            session.showtraceback(whole, None, tb_offset, running_compiled_code=True)
            return
        sys.last_type, sys.last_value, sys.last_traceback = kind, error, trace  # for %debug, %tb
        session.InteractiveTB.tb = trace  # where %debug looks first
        session._showtraceback(kind, error, [" ".join(str(error).split())])

    session.set_custom_exc((ValueError, OSError, ArithmeticError), show)


def _is_complaint(error: BaseException, trace: Any) -> bool:
    """Whether the package raised this for the user to correct, rather than because of a bug."""
    while trace.tb_next is not None:
        trace = trace.tb_next
    code, module = trace.tb_frame.f_code.co_code, trace.tb_frame.f_globals.get("__name__", "")
    if not module.startswith("ohlora_lib.") or code[trace.tb_lasti] != dis.opmap["RAISE_VARARGS"]:
        return False
    return isinstance(error, ValueError | OSError) or hasattr(error, "exit_status")
