"""The `ohlora` command.

Each subcommand imports what it needs when it runs, so that `--help` is fast.
"""

import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

import ohlora_lib
from ohlora_lib.study.machine import counted
from ohlora_lib.terminal import as_text, complain, show_table

PUBLISHED_CONCEPT = "gender=1,quality=1,age=0,glass=0"
COLUMNS = (  # printed by `compare`; --json prints all
    *("property", "target", "start", "end", "change", "change_low", "change_high"),
    *("distance_a", "distance_b", "difference", "difference_low", "difference_high", "effect"),
)
COLUMN_HELP = "OURS=THEIRS renames a column of logs written elsewhere; repeatable."
PLAIN_HELP = "Write a StyleGAN2 of recipe v9 in a form that NVIDIA's code can load."
SEED_HELP = "Run the study with this seed, as <study>-seed<N>."
NAMES_HELP = (
    "One name per log, separated by commas; logs with the same name count as seeds of one recipe."
)
SCHEDULER_HELP = "Address of a Dask scheduler, instead of local workers."
SPLIT_HELP = "Width of a new mapping branch (as recipe v9 has; 0 adds none)."
COMPLETE_HELP = "Treat logs written elsewhere as complete, however they end."
INTERRUPTED = 130
MOST_SEED = 2**31 - 1
Study = Annotated[Path, Argument(help="A study's folder, such as params/quickstart.")]
Force = Annotated[bool, Option("--force", help="Run from the start and keep earlier runs.")]
AsJson = Annotated[bool, Option("--json", help="Print JSON.")]
WeightFile = Annotated[Path, Argument(help="A .safetensors, .pth, .pt or .pkl file.")]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
weights_app = typer.Typer(help="Inspect, convert and publish weight files.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")
labels_app = typer.Typer(help="Work with label tables.", no_args_is_help=True)
app.add_typer(labels_app, name="labels")


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"ohlora {ohlora_lib.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, Option("--version", callback=_show_version, is_eager=True)] = False,
    debug: Annotated[bool, Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Teach a StyleGAN one look, and measure whether it learned it."""


@app.command()
def run(
    study: Study,
    only: Annotated[str, Option(help="Stages to run: globs, separated by commas.")] = "*",
    force: Force = False,
    seed: Annotated[int | None, Option(min=0, max=MOST_SEED, help=SEED_HELP)] = None,
) -> None:
    """Run a study's notebooks in order, skipping stages unchanged since they finished."""
    from ohlora_lib.runner.runner import run_study

    run_study(study, only=only, force=force, seed=seed)


@app.command()
def finetune(
    params_file: Annotated[Path, Argument(help="Such as params/x/05_finetune_generator-v9.yaml.")],
    force: Force = False,
) -> None:
    """Fine-tune as notebook 5 does, without the notebook.

    Ctrl-C saves the state, and the next start resumes from it.

    On several GPUs, run one process per GPU; the processes split each batch:
    accelerate launch --multi_gpu --num_processes 2 -m ohlora_lib finetune PARAMS_FILE.
    """
    from ohlora_lib.finetune.run import finetune_file
    from ohlora_lib.widgets.monitor import Monitor

    os.environ.setdefault("OHLORA_COMMAND", f"ohlora finetune {params_file} --force")
    finished = finetune_file(params_file, Monitor, start_anew=force)
    if not finished and not os.environ.get("WORLD_SIZE"):
        raise typer.Exit(INTERRUPTED)  # under a launcher, an interrupted process exits with 0


@app.command()
def sweep(
    study: Study,
    grid: Annotated[list[str] | None, Option(help="NAME=VALUE,VALUE; repeatable.")] = None,
    seeds: Annotated[str, Option(help="Seeds for each combination, such as 0-4.")] = "",
    workers: Annotated[int, Option(min=1, help="Studies run in parallel on this machine.")] = 1,
    scheduler: Annotated[str, Option(help=SCHEDULER_HELP)] = "",
) -> None:
    """Run a study for every combination of grid values and seeds, and compare the results.

    NAME is a parameter of the fine-tuning, or of any stage as in 04_select_images.samples.
    """
    from ohlora_lib.runner.sweep import run_sweep

    run_sweep(study, grid=grid or [], seeds=seeds, workers=workers, scheduler=scheduler)


@app.command()
def compare(
    logs: Annotated[list[Path], Argument(help="train_log.csv files, or run folders.")],
    as_json: AsJson = False,
    concept: Annotated[str, Option(help="Target score of each property.")] = PUBLISHED_CONCEPT,
    names: Annotated[str, Option(help=NAMES_HELP)] = "",
    column: Annotated[list[str] | None, Option(help=COLUMN_HELP)] = None,
    complete: Annotated[bool, Option("--complete", help=COMPLETE_HELP)] = False,
) -> None:
    """Say for each property whether training logs show that the look was learned.

    Each log is judged alone and against the first. Logs with one name are seeds of one recipe.
    """
    from ohlora_lib.verdict import comparison

    given = [part.strip() for part in names.split(",")] if names else None
    columns = _pairs(column or [], "--column", "OURS=THEIRS, such as d_loss=loss_D")
    form = f"NAME=TARGET, such as {PUBLISHED_CONCEPT}"
    targets = _pairs(concept.split(","), "--concept", form, float)
    options = {"names": given, "columns": columns, "complete": complete}
    found = comparison.compare_files(logs, targets, **options)
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for part in found["runs"]:
        unit = "step" if "steps" in part else "epoch"
        rows, long = counted(part["rows"], "row"), counted(part[f"{unit}s"], unit)
        typer.echo(f"{part['name']} ({rows}, {long})")
        _show_verdict(part)
    for part in found["comparisons"]:
        typer.echo(f"{part['b']} against {part['a']}")
        _show_verdict(part)


def _show_verdict(part: dict[str, Any]) -> None:
    """Prints a verdict and its table, the held-out judge's if there is one."""
    from ohlora_lib.verdict.verdict import FARTHER

    rows = part.get("heldout", part["properties"])
    columns = [name for name in COLUMNS if name in rows[0]]
    heads = {"start": "start score", "end": "end score", "change": "change of distance"}
    if "b" in part:
        rows = [row | {"effect": FARTHER.get(row["effect"], row["effect"])} for row in rows]
        heads = {f"distance_{side}": f"distance of {part[side]}" for side in "ab"}
    shown = [heads.get(name, name.rpartition("_")[2]) for name in columns]
    show_table(shown, ([row[name] for name in columns] for row in rows))
    typer.echo(f"{part['sentence']}\n")


@app.command()
def select(
    scores: Annotated[Path, Argument(help="CSV with one row per image: <property>_score.")],
    keep: Annotated[list[str], Option(help='Condition such as "gender>=0.92"; repeatable.')],
    skip_first: Annotated[int, Option(min=0, help="Number of first images to leave out.")] = 0,
    as_json: AsJson = False,
    out: Annotated[Path | None, Option(help="Write the selected rows to this CSV.")] = None,
) -> None:
    """Say which images in a score table have the look, and what each condition costs."""
    from ohlora_lib.population import labels
    from ohlora_lib.selection import select as selection
    from ohlora_lib.study.look import parse_condition

    wanted = [parse_condition(text) for text in keep]
    table = selection.read_scores(scores, wanted)
    try:
        chosen = selection.select(table, wanted, skip_first=skip_first)
    except ValueError as error:
        raise ValueError(f"{scores}: {error}") from None
    found = chosen.summary()
    if out is not None:
        _check_output(out, scores)
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
        typer.echo(f"{found['unscored']:,} images without a score count as failures.")


@app.command()
def doctor() -> None:
    """Check this machine and say how to fix each problem."""
    from ohlora_lib.doctor import examine

    checks = examine()
    marks = ["ok" if not check.todo else "!!" if check.needed else "--" for check in checks]
    rows = [(mark, *check[:3]) for mark, check in zip(marks, checks, strict=True)]
    show_table(["", "check", "found", "what to do"], rows)
    if "!!" in marks:
        raise typer.Exit(1)


@app.command()
def film(
    run_folder: Annotated[Path, Argument(help="Run folder of a fine-tuning.")],
    out: Annotated[Path, Argument(help="Film to write, .webp or .mp4.")],
    walk: Annotated[str, Option(help="Seeds of a latent walk to film instead: 0,5,9.")] = "",
    fps: Annotated[int, Option(min=1, max=60, help="Frames per second.")] = 12,
) -> None:
    """Film fixed latents over the course of a fine-tuning run, or a walk between latents."""
    from ohlora_lib.study.records import read_json
    from ohlora_lib.widgets import explorer

    frames = explorer.training_film(run_folder)
    if walk:
        seeds = [int(word) if word.isdecimal() else -1 for word in map(str.strip, walk.split(","))]
        if len(seeds) < 2 or not all(0 <= seed <= explorer.MOST_SEED for seed in seeds):
            raise ValueError(
                f"--walk is {walk!r}; give two or more seeds from 0 to "
                f"{explorer.MOST_SEED}, such as 0,5,9"
            )
        frames = explorer.latent_walk(explorer.explorer_of(run_folder), seeds)
    finished = read_json(run_folder / "summary.json").get("status") == "finished"
    note = "" if finished else "; the run has not finished"
    typer.echo(f"{out}: {explorer.write_film(frames, out, fps=fps)} frames{note}")


@labels_app.command()
def merge(
    tables: Annotated[list[Path], Argument(help="Label tables of the same images.")],
    out: Annotated[
        Path, Option(help="CSV to write; OUT-by-person.csv gets the answers by person.")
    ],
    settled: Annotated[
        Path | None,
        Option(help="Label table that settles disagreements; its labels replace others."),
    ] = None,
) -> None:
    """Merge several people's label tables; where they disagree, the label stays empty."""
    from ohlora_lib.population import agreement
    from ohlora_lib.population.labels import save_table

    merged = agreement.merge_tables(tables, settled)
    by_person = out.with_name(f"{out.stem}-by-person.csv")
    for path in (out, by_person):
        _check_output(path, *tables, *([settled] if settled else []))
    save_table(out, merged.table)
    save_table(by_person, merged.answers)
    if count := len(merged.disagreements):
        show_table(
            list(merged.disagreements), merged.disagreements.astype(str).to_numpy().tolist()
        )
    left_open = f"{counted(count, 'disagreement')} left empty"
    typer.echo(f"{out}: {len(merged.table)} images, {left_open}.")
    for row in agreement.agreement(merged.answers).to_dict("records"):
        typer.echo(agreement.in_words(row))
    if count:
        typer.echo(f"To settle: open label_images.ipynb with settle_csv: {by_person}")
    if merged.left_out:
        typer.echo(f"Left out, because they hold no labels: {', '.join(merged.left_out)}.")


@weights_app.command()
def info(file: WeightFile) -> None:
    """Print a weight file's contents."""
    from ohlora_lib.io.conversion import describe

    show_table(["fact", "value"], describe(file).items())


@weights_app.command()
def convert(
    file: WeightFile,
    out: Annotated[Path, Argument(help="File to write; its suffix sets the format.")],
    network: Annotated[str, Option(help="Network in the file; see `weights info`.")] = "",
    split: Annotated[int, Option(min=0, max=65536, help=SPLIT_HELP)] = 0,
    seed: Annotated[int, Option(min=0, max=MOST_SEED, help="Seed for the new branch.")] = 0,
    to: Annotated[str, Option(help="rosinality: a StyleGAN2 as .pt in that layout.")] = "",
    plain: Annotated[bool, Option("--plain", help=PLAIN_HELP)] = False,
) -> None:
    """Convert weights to another format; except for --plain, tensors stay bit-identical."""
    from ohlora_lib.io.conversion import convert

    options = {"network": network, "wide_dim": split, "seed": seed, "layout": to}
    facts = convert(file, out, **options, plain_mapping=plain)
    typer.echo(f"{out}: {', '.join(f'{k} {as_text(v)}' for k, v in facts.items())}")


@weights_app.command()
def publish(
    source: Annotated[Path, Argument(help="Run folder or weight file.")],
    folder: Annotated[Path, Argument(help="Folder to write: weights, config, model card.")],
) -> None:
    """Write a folder with weights and a model card, and print the upload command."""
    from ohlora_lib.report.publish import write_folder

    for path in write_folder(source, folder):
        typer.echo(path)
    typer.echo(f"Complete the card, then: hf upload USER/NAME {shlex.quote(str(folder))}")


def _check_output(out: Path, *inputs: Path) -> None:
    """Raises ValueError if an output is a folder or one of the inputs."""
    if out.is_dir() or not out.name:
        raise ValueError(f"--out is {out}, a folder; give a file name")
    for path in inputs:
        if out.exists() and out.samefile(path):
            raise ValueError(f"--out is {out}, which is an input; give another name")


def _pairs(texts: Sequence[str], option: str, form: str, kind: type = str) -> dict[str, Any]:
    """Parses `NAME=VALUE` texts; ValueError if one is malformed or a name is repeated."""
    pairs: dict[str, Any] = {}
    for text in texts:
        name, _, value = (part.strip() for part in text.partition("="))
        try:
            if not name or not value or name in pairs:
                raise ValueError
            pairs[name] = kind(value)
        except ValueError:
            raise ValueError(f"{option} is {text!r}; it must be {form}, each name once") from None
    return pairs


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and prints any error as one line on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = ["--debug"] * debug + [word for word in given if word != "--debug"]
    sys.exit(exit_status(given, debug=debug))


def exit_status(given: list[str], *, debug: bool) -> int:
    """Runs the command and returns its exit status."""
    try:
        status = app(args=given, prog_name="ohlora", standalone_mode=False) or 0
    except Exception as error:  # the last chance to make an error readable
        complain(error, debug=debug)
        return getattr(error, "exit_code", getattr(error, "exit_status", 1))
    if status == INTERRUPTED:
        sys.stderr.write("ohlora: stopped by Ctrl-C\n")
    return status
