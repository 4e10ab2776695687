"""Looks into the files a study names before any of its stages starts.

A label table with a slip, a log cut off or weights of another kind would else be found by the
stage that reads them, perhaps hours later. What an earlier stage makes is not looked into.
"""

from __future__ import annotations

from pathlib import Path

from ohlora_lib.io.pictures import find_images
from ohlora_lib.population import labels
from ohlora_lib.study import parameters
from ohlora_lib.study.look import conditions
from ohlora_lib.study.parameters import NotebookParameters
from ohlora_lib.verdict.logs import read_log

LOGS = ("log_csv", "log_csvs", "earlier_csv")
WEIGHTS = {"generator_file": "generator", "discriminator_file": "discriminator"}


def check_file(model: NotebookParameters, name: str, path: Path, root: Path) -> None:
    """Reads one file that a parameter names, as its stage will.

    Args:
        model: All parameters of the stage.
        name: The parameter.
        path: The file or folder, which is there.
        root: The project.

    Raises:
        ValueError: As the stage would raise.
    """
    if name in LOGS:
        read_log(path, **model.pick("columns complete"))
    elif name in WEIGHTS:
        from ohlora_lib.io.weights import check_weights  # brings torch along

        check_weights(path, WEIGHTS[name])
    elif name == "scores_csv" and isinstance(model, parameters.SelectImages):
        from ohlora_lib.selection.select import read_scores

        read_scores(path, conditions(model.concept, model.keep))
    elif name == "image_folder":
        _check_images(model, path)
    elif name == "labels_csv":
        table, folder = labels.read_table(path), root / getattr(model, "image_folder", "")
        if getattr(model, "source", "") == "folder" and folder.is_dir():
            labels.match_rows(table, _names_in(folder), str(path))
        labels.with_properties(table, getattr(model, "label_rules", {}), str(path))


def _names_in(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in find_images(folder)]


def _check_images(model: NotebookParameters, folder: Path) -> None:
    """A folder of images, or CelebA's with its list, without opening an image."""
    if getattr(model, "source", "") != "celeba":
        find_images(folder)
        return
    from ohlora_lib.population import sources  # brings torch along

    attributes, pictures = sources.find_celeba(folder)
    table = labels.read_attributes(attributes)
    labels.match_rows(table, _names_in(pictures), str(attributes))
    labels.with_properties(table, model.label_rules or labels.CELEBA_LABELS, str(attributes))
