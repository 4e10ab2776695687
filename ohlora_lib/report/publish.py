"""Publishes weights as a folder with weights, their configuration and a model card.

Source: model cards, https://huggingface.co/docs/hub/model-cards.
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from ohlora_lib.io.conversion import convert, describe
from ohlora_lib.io.disk import write_atomic
from ohlora_lib.study.records import read_config, read_summary, to_json

NETS = ("generator", "discriminator")
TEMPLATES = Path(__file__).parent / "templates"


def write_folder(source: Path, folder: Path) -> list[Path]:
    """Writes weights as `.safetensors`, `config.json` and `README.md`, ready to upload.

    The source is a finished run folder or one weight file. Returns the files written; ValueError
    if the source is not finished or unreadable, or the folder is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: exists and is not empty. Give a new folder.")
    summary, config, paths = dict[str, Any](), dict[str, Any](), [source]
    if source.is_dir():
        summary, config = read_summary(source), read_config(source)
        paths = [path for name in NETS if (path := source / f"{name}.safetensors").is_file()]
        if not paths:
            raise ValueError(f"{source}: has no {' or '.join(NETS)}.safetensors to publish")
    files = {_kind(path): path for path in paths}
    written = {name: folder / f"{name}.safetensors" for name in files}
    networks = {name: convert(files[name], out) for name, out in written.items()}
    facts = {"library_name": "ohlora", "networks": networks, "parameters": config}
    write_atomic(folder / "config.json", to_json(facts) + "\n")
    title = source.name if source.is_dir() else source.stem
    templates = Environment(loader=FileSystemLoader(TEMPLATES), trim_blocks=True)
    card = templates.get_template("card.md.j2").render(
        title=title, networks=networks, run=summary, results=summary.get("results", {}),
        parameters=config,
    )  # fmt: skip
    write_atomic(folder / "README.md", card + "\n")
    return [*written.values(), folder / "config.json", folder / "README.md"]


def _kind(path: Path) -> str:
    """The kind of network in a weight file; ValueError if it cannot be published."""
    facts = describe(path)
    if len(facts.get("networks", [])) > 1:
        raise ValueError(
            f"{path}: holds several networks, {facts['networks']}. Write one to a file first: "
            f"ohlora weights convert FILE OUT --network NAME"
        )
    if "numbers that are not finite" in facts:
        raise ValueError(f"{path}: has numbers that are not finite, so it cannot be used")
    return facts["kind"]
