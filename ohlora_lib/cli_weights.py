"""The `ohlora weights` commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ohlora_lib.cli_tables import as_text, show_table

MOST_SEED = 2**31 - 1

weights_app = typer.Typer(
    help="Look into weight files, convert them, fetch and publish them.", no_args_is_help=True
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
    from ohlora_lib.io.weight_conversion import convert

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
    from ohlora_lib.report import publish as weight_publishing

    if upload:
        weight_publishing.check_model(upload)
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
    from ohlora_lib.report import publish as weight_publishing

    info(weight_publishing.fetch(model, file, folder, revision=revision))
