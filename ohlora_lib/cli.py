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
WIDE = 160  # columns of a table that no terminal shows
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
weights_app = typer.Typer(
    help="Look into weight files, convert them, fetch and publish them.", no_args_is_help=True
)
app.add_typer(weights_app, name="weights")
labels_app = typer.Typer(help="Work with label tables.", no_args_is_help=True)
app.add_typer(labels_app, name="labels")


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
def sweep(
    study: Annotated[Path, typer.Argument(help="A study's folder, such as params/quickstart.")],
    grid: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE,VALUE of a parameter; several: all combinations."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of each point, such as 0-4.")] = "",
    workers: Annotated[int, typer.Option(min=1, help="Stages at a time on this machine.")] = 1,
    scheduler: Annotated[
        str, typer.Option(help="Address of a Dask scheduler, whose workers run them instead.")
    ] = "",
    only: Annotated[str | None, typer.Option(help="Glob of the stages to run.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Run from the start, even if nothing changed.")
    ] = False,
) -> None:
    """Run a study for each point of a grid and each seed, and compare them.

    NAME is the fine-tuning's parameter; 04_select_images.samples that of another stage.
    """
    from ohlora_lib.sweep import run_sweep

    options = {"workers": workers, "scheduler": scheduler, "only": only, "force": force}
    run_sweep(study, grid=grid or [], seeds=seeds, **options)


@app.command()
def compare(
    logs: Annotated[list[Path], typer.Argument(help="train_log.csv files, or run folders.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    concept: Annotated[
        str, typer.Option(help="Target score of each property.")
    ] = PUBLISHED_CONCEPT,
    names: Annotated[
        str | None,
        typer.Option(help="Their names, by comma; v8,v8,v9,v9 are two seeds of v8 and of v9."),
    ] = None,
) -> None:
    """Say what training logs show: per property, whether the look was learned.

    Each log is judged by itself and against the first. Logs of one name are seeds of one run.
    """
    from ohlora_lib import comparison

    given = [part.strip() for part in names.split(",")] if names else None
    found = comparison.compare_files(logs, read_concept(concept), names=given)
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        show_comparison(found)


@app.command()
def select(
    scores: Annotated[Path, typer.Argument(help="CSV with a row an image: <property>_score.")],
    keep: Annotated[
        list[str], typer.Option(help='Condition, such as "gender>=0.92"; once for each.')
    ],
    skip_first: Annotated[
        int, typer.Option(min=0, help="First images left out, labelled for training.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write the rows that are kept to this CSV.")
    ] = None,
) -> None:
    """Say which images of a table of scores have a look, and what each condition costs."""
    from ohlora_lib import conditions, labels, selection

    wanted = [conditions.parse_condition(text) for text in keep]
    table = selection.read_scores(scores, wanted)
    try:
        chosen = selection.select(table, wanted, skip_first=skip_first)
    except ValueError as error:
        raise ValueError(f"{scores}: {error}") from None
    found = chosen.summary(skip_first)
    if out is not None:
        check_output(out, scores)
        labels.save_table(out, table[chosen.kept])
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    heads = ["condition", "passes", "fails", "fails only this one"]
    names = ["condition", "passes", "fails", "lost_only_here"]
    show_table(heads, [[row[name] for name in names] for row in found["conditions"]])
    typer.echo(
        f"{found['kept']:,} of {found['candidates']:,} images ({found['share']:.1%}) have the look"
        f"{f'; the first {skip_first:,} were left out' if skip_first else ''}."
    )
    if found["unscored"]:
        typer.echo(f"{found['unscored']:,} of them lack a score, which counts as a failure.")


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


@weights_app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="A .safetensors or .pth file.")],
    out: Annotated[Path, typer.Argument(help="File to write; its suffix says in which form.")],
    network: Annotated[
        str, typer.Option(help="Which network, where a .pth holds several: see `weights info`.")
    ] = "",
    split: Annotated[
        int, typer.Option(min=0, help="Split the mapping: width of the new branch, as v9's 2048.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Draws the new branch.")] = 0,
) -> None:
    """Write weights in another form; the tensors stay bit for bit the same."""
    from ohlora_lib.weight_conversion import convert

    facts = convert(file, out, network=network, wide_dim=split, seed=seed)
    typer.echo(f"{out}: {', '.join(f'{k} {as_text(v)}' for k, v in facts.items())}")


@weights_app.command()
def publish(
    source: Annotated[Path, typer.Argument(help="Run folder, or a .safetensors or .pth file.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write: weights, config, model card.")],
    upload: Annotated[
        str, typer.Option(help="Then upload it as this model of the hub, USER/NAME.")
    ] = "",
    private: Annotated[bool, typer.Option("--private", help="Upload it as private.")] = False,
) -> None:
    """Write a folder with weights and a model card; upload it only if asked to."""
    from ohlora_lib import weight_publishing

    for path in weight_publishing.write_folder(source, folder):
        typer.echo(path)
    if upload:
        typer.echo(weight_publishing.upload(folder, upload, private=private))


@weights_app.command()
def fetch(
    model: Annotated[str, typer.Argument(help="A model of the hub, USER/NAME.")],
    file: Annotated[str, typer.Argument(help="Name of a weight file in it.")],
    folder: Annotated[Path, typer.Argument(help="Folder to put it in.")],
    revision: Annotated[str, typer.Option(help="Branch, tag or commit.")] = "main",
) -> None:
    """Fetch a weight file from the hub, and say what it holds."""
    from ohlora_lib import weight_publishing

    info(weight_publishing.fetch(model, file, folder, revision=revision))


@app.command()
def film(
    run_folder: Annotated[Path, typer.Argument(help="Run folder of a finished fine-tuning.")],
    out: Annotated[Path, typer.Argument(help="Film to write, .webp or .mp4.")],
    walk: Annotated[
        str,
        typer.Option(help="Seeds, such as 0,5,9: walk through them, before and after."),
    ] = "",
    fps: Annotated[int, typer.Option(min=1, max=60, help="Frames a second.")] = 12,
) -> None:
    """Film the same latents through a training, or a walk through latents."""
    from ohlora_lib import films

    frames = films.training_film(run_folder)
    if walk:
        try:
            seeds = [int(seed) for seed in walk.split(",")]
        except ValueError:
            raise ValueError(f"--walk is {walk!r}; it must be seeds, such as 0,5,9") from None
        frames = films.latent_walk(films.explorer_of(run_folder), seeds)
    typer.echo(f"{out}: {films.write_film(frames, out, fps=fps)} frames")


@labels_app.command()
def merge(
    tables: Annotated[list[Path], typer.Argument(help="Label tables of the same images.")],
    out: Annotated[Path, typer.Option(help="CSV to write.")],
) -> None:
    """Join label tables of several people; where they disagree, there is no label."""
    from ohlora_lib.labelling import merge_tables
    from ohlora_lib.labels import save_table

    merged = merge_tables(tables)
    check_output(out, *tables)
    save_table(out, merged.table)
    if len(merged.disagreements):
        heads = [Path(str(name)).name for name in merged.disagreements]
        show_table(heads, merged.disagreements.astype(str).to_numpy().tolist())
    typer.echo(
        f"{out}: {len(merged.table)} images, {len(merged.disagreements)} disagreements left open."
    )
    if merged.left_out:
        typer.echo(f"Columns that are no labels, left out: {', '.join(merged.left_out)}.")


def check_output(out: Path, *inputs: Path) -> None:
    """Refuses to write over an input, or where there is no file to write.

    Raises:
        ValueError: Names the file.
    """
    if out.is_dir() or not out.name:
        raise ValueError(f"--out is {out}, a folder; give the name of a file")
    for path in inputs:
        if out.exists() and out.samefile(path):
            raise ValueError(f"--out is {out}, which is an input; give another name")


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
        table.add_row(*[Text(as_text(value)) for value in row])
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


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
