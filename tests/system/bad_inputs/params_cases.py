"""Mistakes in params files and in the folders and files they name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.system.bad_inputs.cases import Bad

RUN = ("run", "params/tiny")
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n"
    for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)
CNN = "03_train_property_cnn"
SELECT = "04_select_images"


def written(name: str, content: bytes | str) -> Callable[[Path], object]:
    """A file in the project."""
    data = content.encode() if isinstance(content, str) else content

    def prepare(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)

    return prepare


def stage(
    name: str, text: bytes | str, *words: str, stem: str = "02_train_base",
    also: Callable[[Path], object] | None = None, study: str = "tiny",
) -> Bad:  # fmt: skip
    """A params file of study tiny that is wrong."""
    file = f"params/{study}/{stem}.yaml"
    if isinstance(text, str) and "study:" not in text:
        text = f"study: {study}\n{text}"

    def prepare(root: Path) -> None:
        written(file, text)(root)
        if also:
            also(root)

    return Bad(name, ("run", f"params/{study}"), (file, *words), prepare)


def finished(folder: Path, **more: object) -> None:
    """A run folder that says it has finished."""
    folder.mkdir(parents=True)
    facts = {"status": "finished", "results": {}, "inputs": {}, "artefacts": []}
    (folder / "summary.json").write_text(json.dumps(facts | more))


def linked_out(root: Path) -> None:
    """An input run that is a link out of the project's outputs."""
    finished(root.parent / "elsewhere")
    (root / "outputs" / "tiny" / "01_make_population").symlink_to(root.parent / "elsewhere")


def beside(make: str, target: str = "") -> Bad | Callable[[Path], object]:
    """Something else than a file where a params file is expected."""

    def prepare(root: Path) -> None:
        path = root / "params" / "tiny" / "02_train_base.yaml"
        if make == "folder":
            path.mkdir()
        elif make == "link":
            path.symlink_to(target)
        else:
            path.write_text("study: tiny\n")
            path.chmod(0)

    return prepare


FILE = "params/tiny/02_train_base.yaml"
YAML = [
    stage("a tab in YAML", "grow_kimg:\n\t8: 1.0\n", "line 3", "spaces, not tabs"),
    stage("a name given twice", "seed: 1\nbatch: 4\nseed: 2\n", "'seed'", "line 4", "Keep one"),
    stage("1e-4, which YAML reads as text", "learning_rate: 1e-4", "'1e-4'", "write 1.0e-4"),
    stage("a word for a number", "batch: many", "batch is 'many'", "integer"),
    stage("a number in quotes", "batch: '32'", "batch is '32'", "integer"),
    stage("yes for a number", "seed: yes", "seed is True", "integer"),
    stage("no value", "seed:", "seed is None", "integer"),
    stage("an unknown name", "totl_kimg: 3.0", "'totl_kimg'", "spelling"),
    stage("a name that is a number", "1: 2", "1", "name: value"),
    stage("a huge seed", "seed: 99999999999", "99999999999", "less than 2147483648"),
    stage("a number of 5000 digits", f"seed: {'9' * 5000}", "digits", "Write a shorter number"),
    stage("a negative size", "z_dim: -3", "-3", "greater than or equal to 1"),
    stage("not a number", "total_kimg: .nan", "nan", "finite number"),
    stage("infinity", "total_kimg: .inf", "inf", "finite number"),
    stage("not a number inside", "concept: {gender: .nan}\nkeep: {gender: 0.9}", "concept.gender",
          "finite number", stem=SELECT),
    stage("an empty file", b"", "name: value"),
    stage("comments only", b"# later\n", "name: value"),
    stage("a list", b"- seed: 1\n", "name: value"),
    stage("a YAML bomb", BOMB, "alias", "Write the value out"),
    stage("code by a YAML tag", "seed: !!python/object/apply:os.system ['touch trap']",
          "python/object/apply", "plain values"),
    stage("brackets without end", f"seed: {'[' * 20000}", "nested", "plain values"),
    stage("a params file of 2 MB", "# " + "x" * 2_000_000, "bytes", "at most"),
    stage("two documents", "seed: 1\n---\nseed: 2\n", "single document"),
    stage("not UTF-8", "study: tiny\nvariant: é\n".encode("latin-1"), "UTF-8"),
    stage("UTF-16", "study: tiny\n".encode("utf-16"), "UTF-8"),
    stage("a NUL byte", b"study: ti\0ny\n", "not readable YAML", "#x0000"),
    stage("a NUL in a text", 'study: tiny\nprecision: "auto\\0"', "'auto\\x00'"),
    stage("a text without end", f"population_run: {'a/' * 2000}", "population_run",
          "at most 1024"),
    Bad("a folder for a params file", RUN, (FILE, "directory", "file"), beside("folder")),
    Bad("a link to nowhere", RUN, (FILE, "No such file", "Correct"), beside("link", "gone.yaml")),
    Bad("a link to itself", RUN, (FILE, "symbolic links", "Correct"),
        beside("link", "02_train_base.yaml")),
    Bad("a params file without the right to read", RUN, (FILE, "Permission denied", "Correct"),
        beside("rights"), unprivileged=True),
]  # fmt: skip

NAMES = [
    stage("another study's name", "study: other", "'other'", "'tiny'", "Make them the same"),
    stage("a study up the tree", "study: ../tiny", "'../tiny'", "letters, digits"),
    stage("a study by absolute path", "study: /tmp/tiny", "'/tmp/tiny'", "letters, digits"),
    stage("a study of 80 letters", f"study: {'a' * 80}", "aaaa", "1 to 64 letters"),
    stage("an emoji as study", "study: '\U0001f600'", "\U0001f600", "letters, digits"),
    stage("a NUL in a name", 'study: "ti\\0ny"', "'ti\\x00ny'", "letters, digits"),
    stage("a line break in a name", 'variant: "v9\\n"', "'v9\\n'", "letters, digits"),
    stage("a name Windows reserves", "seed: 1", "'nul'", "reserved", "another name",
          study="nul"),
    stage("a variant with a slash", "variant: a/b", "'a/b'", "letters, digits"),
    stage("a variant its file lacks", "variant: b", "'b'", "02_train_base-b.yaml"),
    stage("a file of no notebook", "seed: 1", "no notebook", "02_train_base",
          stem="09_dream"),
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
    stage("an input run with a damaged summary", f"{LEARN}outputs/tiny/01_make_population",
          "summary.json: damaged", "Make it", stem=CNN,
          also=written("outputs/tiny/01_make_population/summary.json", '{"status": "fini')),
    stage("an input run with a strange summary", f"{LEARN}outputs/tiny/01_make_population",
          "summary.json: damaged", "'artefacts'", "Make it", stem=CNN,
          also=lambda root: finished(root / "outputs/tiny/01_make_population", artefacts=[3])),
    stage("an input run outside the project", f"{LEARN}../elsewhere", "'../elsewhere'",
          "outside", "outputs/", stem=CNN, also=lambda root: finished(root.parent / "elsewhere")),
    stage("an input run by absolute path", f"{LEARN}/tmp", "'/tmp'", "outside", "outputs/",
          stem=CNN),
    stage("an input run that is a link out", f"{LEARN}outputs/tiny/01_make_population",
          "outside", "outputs/", stem=CNN, also=linked_out),
    stage("a run folder that is a link out", "seed: 1", "02_train_base", "outside", "link",
          also=lambda root: (root / "outputs/tiny/02_train_base").symlink_to(root / "params")),
    Bad("a file where outputs go", RUN, ("outputs/tiny", "cannot be written", "Correct"),
        lambda root: [written(FILE, "study: tiny\n")(root), (root / "outputs/tiny").rmdir(),
                      written("outputs/tiny", "in the way")(root)]),
    stage("a property that is not in the concept", "base_run: a\ncnn_run: b\n"
          "concept: {gender: 1.0}\nkeep: {hat: 0.9}", "'hat'", "concept", stem=SELECT),
    stage("a share over 1", "shares: {age: 1.5}", "age is 1.5", "from 0 to 1",
          stem="01_make_population"),
    stage("a label rule that is none", "label_rules: {age: Young<0}", "'Young<0'",
          "'gender>=0.92'", stem="01_make_population"),
    stage("an unknown source", "source: borrowed", "'borrowed'", "shipped"),
    stage("a device that is none", "device: gpu", "'gpu'", "cuda"),
]  # fmt: skip

CASES = [*YAML, *NAMES, *RUNS]
