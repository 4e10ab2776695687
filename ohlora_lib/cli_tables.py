"""Tables that the command prints."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer

from ohlora_lib.study.machine import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDE = 160  # columns of a table that no terminal shows
COLUMNS = (  # of a comparison; --json has all
    *("property", "target", "start", "end", "change", "change_low", "change_high"),
    *("distance_a", "distance_b", "difference", "difference_low", "difference_high", "effect"),
)


def as_text(value: Any) -> str:
    """A value for a table cell."""
    if isinstance(value, float):  # four decimals, or two digits of less than that
        return f"{value:.2g}" if 0 < abs(value) < 5e-4 else f"{round(value, 4):.6g}"
    return ", ".join(map(as_text, value)) if isinstance(value, list | tuple) else str(value)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints a table."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE)
    for column in columns:
        table.add_column(column, overflow="fold")  # whole, if need be over several lines
    for row in rows:
        table.add_row(*[Text(printable(as_text(value))) for value in row])
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def show_comparison(found: dict[str, Any]) -> None:
    """Prints what each log shows, and each later one against the first."""
    for part in found["runs"]:
        long = f"{part['steps']:,.0f} steps" if "steps" in part else f"{part['epochs']:g} epochs"
        typer.echo(f"{part['name']} ({part['rows']} rows, {long})")
        show_properties(part)
    for part in found["comparisons"]:
        typer.echo(f"{part['b']} against {part['a']}")
        show_properties(part)


def show_properties(part: dict[str, Any]) -> None:
    """Prints a verdict and the table it comes from: the held-out judge's where there is one."""
    rows = part.get("heldout", part["properties"])
    columns = [name for name in COLUMNS if name in rows[0]]
    short = {"distance_a": part.get("a", ""), "distance_b": part.get("b", "")}
    heads = [short.get(name, name.rpartition("_")[2]) for name in columns]
    show_table(heads, [[row[name] for name in columns] for row in rows])
    typer.echo(f"{part['sentence']}\n")
