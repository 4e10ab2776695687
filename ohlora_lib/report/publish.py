"""Hands weights on: a folder with weights, config and a model card; upload only when asked to.

The hub's library is optional (`pip install ohlora[hub]`); without it all but the network works.
Source: model cards, https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

import ohlora_lib
from ohlora_lib.io.disk import write_atomic
from ohlora_lib.io.weight_conversion import convert
from ohlora_lib.io.weights import describe
from ohlora_lib.study.run_files import read_config
from ohlora_lib.study.run_folder import read_summary, to_json

NETS = ("generator", "discriminator")
USE = """```python
import torch
from ohlora_lib.io.weights import load_generator

generator = load_generator("generator.safetensors")
with torch.no_grad():
    images = generator(torch.randn(4, generator.z_dim)).clamp(-1, 1)  # (4, 3, H, H)
```
"""
LIMITS = """Scores are outputs of classifiers, trained on labels of one population; they are no
facts about people, and `gender` and `age` as two classes are the study's labels, nothing more.
Do not use the samples to deceive, or the scores to judge people.
"""


def write_folder(source: Path | str, folder: Path | str) -> list[Path]:
    """Writes weights as `.safetensors`, `config.json` and `README.md`, ready to upload.

    Args:
        source: A finished run folder with `generator.safetensors`, or one weight file.
        folder: Folder to write; made if it is not there.

    Returns:
        The files written.

    Raises:
        ValueError: If the source is not finished or unreadable; one line.
    """
    source, folder = Path(source), Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: is there and not empty. Give a new folder.")
    summary, config = _record(source) if source.is_dir() else ({}, {})
    files = {name: source / f"{name}.safetensors" for name in NETS}
    files = {name: path for name, path in files.items() if path.is_file()}
    if source.is_dir() and not files:
        raise ValueError(f"{source}: has no {' or '.join(NETS)}.safetensors to publish")
    files = files or {describe(source)["kind"]: source}
    for path in files.values():
        facts = describe(path)
        if len(facts.get("networks", [])) > 1:
            raise ValueError(
                f"{path}: holds several networks, {facts['networks']}. Write one to a file first: "
                f"ohlora weights convert FILE OUT --network NAME"
            )
        if "numbers that are not finite" in facts:
            raise ValueError(f"{path}: has numbers that are not finite; it draws nothing")
    written = [folder / f"{name}.safetensors" for name in files]
    networks = {
        name: convert(path, out) for (name, path), out in zip(files.items(), written, strict=True)
    }
    facts = {"library_name": "ohlora", "networks": networks, "parameters": config}
    extra = {"config.json": to_json(facts) + "\n", "README.md": _card(source, networks, summary)}
    for name, text in extra.items():
        write_atomic(folder / name, text)
    return [*written, *(folder / name for name in extra)]


def _record(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Summary and parameters of a finished run."""
    return read_summary(run), read_config(run)


def _card(source: Path, networks: dict[str, Any], summary: dict[str, Any]) -> str:
    """The model card, Markdown with its metadata in front."""
    tags = {"library_name": "ohlora", "tags": ["stylegan", "image-generation", "unconditional"]}
    results = summary.get("results", {})
    rows = [
        f"| {name} | {facts.get('image_px', '')} | {facts['parameters']:,} |"
        for name, facts in networks.items()
    ]
    scores = [
        f"| {name} | {value:.3f} |"
        for name, value in results.items()
        if name.endswith("_score") and isinstance(value, float)
    ]
    parts = [
        f"---\n{yaml.safe_dump(tags)}---\n",
        f"# {source.stem if source.is_file() else source.name}\n",
        results.get("verdict", "") + "\n",
        "| network | image side, pixels | parameters |\n|---|---|---|\n" + "\n".join(rows) + "\n",
    ]
    if scores:
        table = "| at the last evaluation | mean |\n|---|---|\n" + "\n".join(scores)
        parts += [f"## Measured\n\n{table}\n"]
    if summary:
        parts += [f"## How it was made\n\n`{summary['command']}`, {_versions(summary)}.\n"]
    if "generator" in networks:
        parts += [f"## Use\n\n{USE}"]
    parts += [
        f"## Limits and intended use\n\n{LIMITS}",
        "Licence: fill in, together with where the training images came from.\n",
    ]
    return "\n".join(parts)


def _versions(summary: dict[str, Any]) -> str:
    versions = summary.get("versions", {})
    torch = versions.get("torch", "unknown")
    return f"with ohlora {versions.get('ohlora', ohlora_lib.__version__)} and torch {torch}"


def _hub() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ValueError(
            "the hub's library is not installed. Install it with: pip install 'ohlora[hub]'"
        ) from error
    return huggingface_hub


def check_model(model: str) -> str:
    """Raises ValueError unless a name is one of a model of the hub, USER/NAME."""
    if not re.fullmatch(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", model, re.ASCII):
        raise ValueError(f"model is {model!r}; it must be USER/NAME: letters, digits, - _ and .")
    return model


def upload(folder: Path | str, model: str, *, private: bool = False) -> str:
    """Uploads a folder as a model of the hub.

    Returns:
        Its address.

    Raises:
        ValueError: If the library is missing, or the hub refuses or cannot be reached; one line.
    """
    check_model(model)
    hub = _hub()
    api = hub.HfApi()
    try:
        api.create_repo(model, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=model, folder_path=str(folder)))
    except (OSError, ValueError) as error:
        raise ValueError(f"{model}: not uploaded ({error}). {folder} is kept.") from error


def fetch(model: str, file: str, folder: Path | str, *, revision: str = "main") -> Path:
    """Fetches one file of a model of the hub.

    Returns:
        Where it is now.

    Raises:
        ValueError: If the library is missing, or the hub refuses or cannot be reached; one line.
    """
    check_model(model)
    if file.startswith("/") or ".." in Path(file).parts or "\\" in file:
        raise ValueError(f"file is {file!r}; give the name of a file in the model")
    hub = _hub()
    try:
        return Path(hub.hf_hub_download(model, file, revision=revision, local_dir=str(folder)))
    except (OSError, ValueError) as error:
        raise ValueError(f"{model}: {file} not fetched ({error})") from error
