"""The `ohlora` command.

What a subcommand needs is imported when it is run, so that help is quick.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import ohlora_lib

if TYPE_CHECKING:
    from collections.abc import Sequence

PUBLISHED_CONCEPT = "gender=1,quality=1,age=0,glass=0"
INTERRUPTED = 130
COLUMNS = (  # of a comparison; --json has all
    *("property", "target", "start", "end", "change", "change_low", "change_high"),
    *("distance_a", "distance_b", "difference", "difference_low", "difference_high", "effect"),
)

app = typer.Typer(
    help="Teach a StyleGAN one look, and prove it did.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
weights_app = typer.Typer(help="Look into weight files.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")


def show_version(asked: bool) -> None:
    """Prints the version and ends."""
    if asked:
        typer.echo(f"ohlora {ohlora_lib.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print it.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where errors come from.")] = False,
) -> None:
    """Teach a StyleGAN one look, and prove it did."""


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="A study's folder, such as params/quickstart.")],
    only: Annotated[str | None, typer.Option(help="Glob of the stages to run.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Run from the start, even if nothing changed.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Run as study NAME-seedN with this seed.")
    ] = None,
) -> None:
    """Run a study's notebooks in order; what has not changed since it finished is skipped."""
    from ohlora_lib.runner import run_study

    run_study(study, only=only, force=force, seed=seed)


@app.command()
def compare(
    logs: Annotated[list[Path], typer.Argument(help="train_log.csv files, or run folders.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    concept: Annotated[
        str, typer.Option(help="Target score of each property.")
    ] = PUBLISHED_CONCEPT,
) -> None:
    """Say what training logs show: per property, whether the look was learned."""
    from ohlora_lib import trends

    found = trends.compare_files(logs, read_concept(concept))
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        show_comparison(found)


@app.command()
def doctor() -> None:
    """Check what this machine has, and say what to do about what it lacks."""
    from ohlora_lib.doctor import examine

    checks = examine()
    show_table(
        ["", "check", "found", "what to do"],
        [
            ("ok" if c.fine else "!!" if c.needed else "--", c.name, c.found, c.todo)
            for c in checks
        ],
    )
    if any(check.needed and not check.fine for check in checks):
        raise typer.Exit(1)


@weights_app.command()
def info(file: Annotated[Path, typer.Argument(help="A .safetensors or .pth file.")]) -> None:
    """Print what a weight file holds."""
    from ohlora_lib import weights

    facts = weights.describe(file)
    show_table(["fact", "value"], [(name, as_text(value)) for name, value in facts.items()])


def read_concept(text: str) -> dict[str, float]:
    """Reads `gender=1,age=0`.

    Raises:
        ValueError: If it is not of that form, or a target is not from 0 to 1.
    """
    concept = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            concept[name.strip()] = float(value)
        except ValueError:
            concept[""] = -1.0
        if not name.strip() or not 0 <= concept.get(name.strip(), -1.0) <= 1:
            raise ValueError(
                f"--concept has {part!r}; it must be NAME=TARGET with a target from 0 to 1, "
                f"such as {PUBLISHED_CONCEPT}"
            )
    return concept


def as_text(value: Any) -> str:
    """A value for a table cell."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return ", ".join(map(as_text, value)) if isinstance(value, list | tuple) else str(value)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints a table."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=SIMPLE)
    for row in rows:
        table.add_row(*[Text(as_text(value)) for value in row])
    Console().print(table)


def show_comparison(found: dict[str, Any]) -> None:
    """Prints what each log shows, and each later one against the first."""
    for part in found["runs"]:
        typer.echo(f"{part['name']} ({part['rows']} rows, {part['epochs']:g} epochs)")
        show_properties(part)
    for part in found["comparisons"]:
        typer.echo(f"{part['b']} against {part['a']}")
        show_properties(part)


def show_properties(part: dict[str, Any]) -> None:
    """Prints a verdict and the table it comes from."""
    rows = part["properties"]
    columns = [name for name in COLUMNS if name in rows[0]]
    short = {"distance_a": part.get("a", ""), "distance_b": part.get("b", "")}
    heads = [short.get(name, name.rpartition("_")[2]) for name in columns]
    show_table(heads, [[row[name] for name in columns] for row in rows])
    typer.echo(f"{part['sentence']}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; every error is one line on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = ["--debug"] * debug + [word for word in given if word != "--debug"]
    sys.exit(exit_status(given, debug=debug))


def exit_status(given: list[str], *, debug: bool) -> int:
    """Runs the command and turns how it ended into an exit status."""
    try:
        status = app(args=given, prog_name="ohlora", standalone_mode=False) or 0
    except Exception as error:  # the last place where an error can be made readable
        if hasattr(error, "exit_code"):  # a wrong command line
            complain(error, error.format_message(), debug=debug)
            return error.exit_code
        status = getattr(error, "exit_status", 1)
        expected = isinstance(error, ValueError | OSError) or hasattr(error, "exit_status")
        kind = "" if expected else f"unexpected {type(error).__name__}: "
        hint = "" if expected else " (--debug shows where it comes from)"
        complain(error, f"{kind}{error}{hint}", debug=debug)
        return status
    if status == INTERRUPTED:
        complain(None, "stopped by Ctrl-C", debug=False)
    return status


def complain(error: Exception | None, message: str, *, debug: bool) -> None:
    """Writes one line to standard error, after the traceback if asked for."""
    if debug:
        traceback.print_exception(error)
    if message:  # empty where help was printed instead
        typer.echo(f"ohlora: {' '.join(message.split())}", err=True)
