"""Looks into the files a study names before any of its stages starts.

A label table with a slip, a log cut off or weights of another kind would else be found by the
stage that reads them, perhaps hours later. What an earlier stage makes is not looked into.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ohlora_lib import labels, params
from ohlora_lib.conditions import conditions
from ohlora_lib.params import NotebookParameters
from ohlora_lib.training_logs import read_log

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
        read_log(path)
    elif name in WEIGHTS:
        from ohlora_lib.weights import check_weights  # brings torch along

        check_weights(path, WEIGHTS[name])
    elif name == "scores_csv" and isinstance(model, params.SelectImages):
        from ohlora_lib.selection import read_scores

        read_scores(path, conditions(model.concept, model.keep))
    elif name == "image_folder":
        _check_images(model, path)
    elif name == "labels_csv":
        table = labels.read_table(path, [])
        _check_names(model, table, path, root)
        labels.with_properties(table, getattr(model, "label_rules", {}), str(path))


def _check_names(model: NotebookParameters, table: pd.DataFrame, path: Path, root: Path) -> None:
    """That a label table is about the images of the folder, if they are there already."""
    from ohlora_lib.image_files import find_images

    folder = root / getattr(model, "image_folder", "")
    if getattr(model, "source", "") == "folder" and folder.is_dir():
        names = [p.relative_to(folder).as_posix() for p in find_images(folder)]
        labels.match_rows(table, pd.DataFrame({"file": names}), str(path))


def _check_images(model: NotebookParameters, folder: Path) -> None:
    """A folder of images, or CelebA's with its list, without opening an image."""
    from ohlora_lib import image_files, population

    if getattr(model, "source", "") == "celeba":
        rules = model.label_rules or labels.CELEBA_LABELS
        attributes, folder = population.find_celeba(folder)
        table = labels.read_attributes(attributes)
        labels.with_properties(table, rules, str(attributes))
    image_files.find_images(folder)
