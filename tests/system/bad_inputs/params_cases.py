"""Mistakes in params files and in the folders and files they name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.system.bad_inputs.cases import Bad

RUN = ("run", "params/tiny")
CNN = "03_train_property_cnn"


def written(name: str, content: bytes | str) -> Callable[[Path], object]:
    """A file in the project."""
    data = content.encode() if isinstance(content, str) else content

    def prepare(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)

    return prepare


def stage(
    name: str, text: bytes | str, *words: str, stem: str = "02_train_base",
    also: Callable[[Path], object] | None = None,
) -> Bad:  # fmt: skip
    """A params file of study tiny that is wrong."""
    file = f"params/tiny/{stem}.yaml"
    if isinstance(text, str) and "study:" not in text:
        text = f"study: tiny\n{text}"

    def prepare(root: Path) -> None:
        written(file, text)(root)
        if also:
            also(root)

    return Bad(name, RUN, (file, *words), prepare)


def finished(folder: Path) -> None:
    """A run folder that says it has finished."""
    folder.mkdir(parents=True)
    facts = {"status": "finished", "results": {}, "inputs": {}, "artefacts": []}
    (folder / "summary.json").write_text(json.dumps(facts))


def linked_out(root: Path) -> None:
    """An input run that is a link out of the project's outputs."""
    finished(root.parent / "elsewhere")
    (root / "outputs" / "tiny" / "01_make_population").symlink_to(root.parent / "elsewhere")


FILE = "params/tiny/02_train_base.yaml"
YAML = [
    stage("a tab in YAML", "grow_kimg:\n\t8: 1.0\n", "line 3", "with spaces"),
    stage("a name given twice", "seed: 1\nbatch: 4\nseed: 2\n", "'seed'", "line 4", "keep one"),
    stage("an unknown name", "totl_kimg: 3.0", "'totl_kimg'", "Did you mean 'total_kimg'"),
    stage("code by a YAML tag", "seed: !!python/object/apply:os.system ['touch trap']",
          "python/object/apply", "Write plain"),
    stage("not UTF-8", "study: tiny\nvariant: é\n".encode("latin-1"), "UTF-8"),
    Bad("a link to nowhere", RUN, (FILE, "No such file", "Correct"),
        lambda root: (root / FILE).symlink_to("gone.yaml")),
]  # fmt: skip

NAMES = [
    stage("another study's name", "study: other", "'other'", "'tiny'", "Make them the same"),
    stage("a study up the tree", "study: ../tiny", "'../tiny'", "letters, digits"),
    Bad("a params file called .yml", RUN, ("params/tiny/03.yml", ".yaml", "Rename"),
        lambda root: [written(FILE, "study: tiny\n")(root),
                      written("params/tiny/03.yml", "study: tiny\n")(root)]),
]  # fmt: skip

LEARN = "properties: [hat]\npopulation_run: "
RUNS = [
    stage("an input run that is not there", f"{LEARN}outputs/tiny/01_make_population",
          "population_run", "does not exist", "ohlora run params/tiny --only", stem=CNN),
    stage("an input run half-done", f"{LEARN}outputs/tiny/01_make_population", "has not finished",
          "ohlora run params/tiny --only", stem=CNN,
          also=lambda root: (root / "outputs/tiny/01_make_population").mkdir()),
    stage("an input run outside the project", f"{LEARN}../elsewhere", "'../elsewhere'",
          "outside", "outputs/", stem=CNN, also=lambda root: finished(root.parent / "elsewhere")),
    stage("an input run that is a link out", f"{LEARN}outputs/tiny/01_make_population",
          "outside", "outputs/", stem=CNN, also=linked_out),
    stage("a run folder that is a link out", "seed: 1", "02_train_base", "outside", "link",
          also=lambda root: (root / "outputs/tiny/02_train_base").symlink_to(root / "params")),
    Bad("a file where outputs go", RUN, ("outputs/tiny", "cannot be written", "Correct"),
        lambda root: [written(FILE, "study: tiny\n")(root), (root / "outputs/tiny").rmdir(),
                      written("outputs/tiny", "in the way")(root)]),
]  # fmt: skip

CASES = [*YAML, *NAMES, *RUNS]
