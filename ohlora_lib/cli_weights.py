"""The `ohlora weights` commands."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ohlora_lib.cli_tables import as_text, show_table

MOST_SEED = 2**31 - 1

weights_app = typer.Typer(
    help="Look into weight files, convert and publish them.", no_args_is_help=True
)


@weights_app.command()
def info(file: Annotated[Path, typer.Argument(help="A .safetensors or .pth file.")]) -> None:
    """Print what a weight file holds."""
    from ohlora_lib.io import weights

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
        int,
        typer.Option(
            min=0, max=65536, help="Split the mapping: width of the new branch, as v9's 2048."
        ),
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Draws the new branch.")] = 0,
) -> None:
    """Write weights in another form; the tensors stay bit for bit the same."""
    from ohlora_lib.io.weights import convert

    facts = convert(file, out, network=network, wide_dim=split, seed=seed)
    typer.echo(f"{out}: {', '.join(f'{k} {as_text(v)}' for k, v in facts.items())}")


@weights_app.command()
def publish(
    source: Annotated[Path, typer.Argument(help="Run folder, or a .safetensors or .pth file.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write: weights, config, model card.")],
) -> None:
    """Write a folder with weights and a model card, and print how to upload it."""
    from ohlora_lib.report.publish import write_folder

    for path in write_folder(source, folder):
        typer.echo(path)
    typer.echo(f"Complete the card, then: hf upload USER/NAME {shlex.quote(str(folder))}")
