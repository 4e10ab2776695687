"""Any text and any bytes give a valid object or one line, never another exception; and what is
written reads back the same."""

import string

import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ohlora_lib.population.labelling import merge_tables
from ohlora_lib.population.labels import (
    match_rows,
    read_attributes,
    read_labels,
    read_table,
    save_table,
)
from ohlora_lib.population.labels import with_properties as labelled
from ohlora_lib.study import parameters, run_folder
from ohlora_lib.verdict import logs
from tests.log_samples import make_log

quick = settings(
    max_examples=80,
    deadline=None,  # the first example imports
    derandomize=True,  # the same in every run; tests/system.faults/fuzz.py looks further
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ODD = [
    "",
    "0",
    "1",
    "-1",
    "1.0",
    "1e5",
    "nan",
    "inf",
    "-inf",
    "NA",
    "0x1",
    "1_0",
    "9" * 400,
    "yes",
]
ODD += ['"', '"a', "'", ",", ";", "\t", "\0", "\r", "\n", "é", "\ufeff", "\u2028", "=1+1", " 1"]
HEADS = ["file", "img_no", "hat", "age", "path", "epoch", "idx", "d_loss", "g_loss"]
HEADS += ["real_fake_auroc", "mean_hat_score", "", "Unnamed: 0", "a.1"]
cells = st.sampled_from(ODD) | st.text(max_size=4)
numbers = st.sampled_from(["0", "1", "2", "0.5", "", "nan"])


@st.composite
def tables(draw, heads=HEADS):
    """Something between a good table and none."""
    columns = draw(
        st.lists(st.sampled_from(heads), min_size=1, max_size=8, unique=draw(st.booleans()))
    )
    cell = draw(st.sampled_from([numbers, numbers | cells]))
    width = st.just(len(columns)) if draw(st.booleans()) else st.integers(0, 9)
    rows = [[draw(cell) for _ in range(draw(width))] for _ in range(draw(st.integers(0, 5)))]
    end = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    return end.join(",".join(row) for row in [columns, *rows]).encode("utf-8", "surrogatepass")


anything = st.binary(max_size=200) | st.text(max_size=100).map(
    lambda text: text.encode("utf-8", "surrogatepass")
)


def outcome(read, path, *rest):
    """What is read, or None after one line that names the file."""
    try:
        return read(path, *rest)
    except ValueError as error:
        said = error
    assert type(said) is ValueError
    assert len(str(said).splitlines()) == 1
    assert path.name in str(said)
    return None


@quick
@given(content=tables() | anything)
def test_label_tables_read_or_say_why(tmp_path, content):
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    table = outcome(read_labels, path, ["hat"])
    if table is not None:
        assert set(table["hat"]) <= {0, 1}
        assert not table.empty
    table = outcome(read_table, path, [])
    if table is not None:
        outcome(lambda path: labelled(table, {}, str(path)), path)
        outcome(lambda path: labelled(table, {"cap": "hat>=1"}, str(path)), path)
        files = pd.DataFrame({"file": ["0.png", "1.png", "sub/a.png"]})
        outcome(lambda path: match_rows(table, files, str(path)), path)
        outcome(lambda path: merge_tables([path, path]), path)


@quick
@given(
    content=anything
    | st.builds(
        lambda count, body: f"{count}\n".encode() + body,
        st.integers(-1, 4),
        tables(["Male", "Young", "file"]).map(lambda text: text.replace(b",", b" ")),
    )
)
def test_attribute_lists_read_or_say_why(tmp_path, content):
    for name in ("list_attr_celeba.txt", "list_attr_celeba.csv"):
        (tmp_path / name).write_bytes(content)
        outcome(read_attributes, tmp_path / name)


names = st.text(string.printable + "äß😀", min_size=1, max_size=12).filter(
    lambda name: name == name.strip() and not set(name) & set("\n\x0b\x0c")
)


@quick
@given(rows=st.dictionaries(names, st.tuples(*[st.integers(0, 1)] * 2), min_size=1, max_size=8))
def test_label_tables_come_back_the_same(tmp_path, rows):
    path = tmp_path / "labels.csv"
    given = pd.DataFrame(
        [(k, name, *labels) for k, (name, labels) in enumerate(rows.items())],
        columns=["img_no", "file", "hat", "age"],
    )
    save_table(path, given)
    back = read_labels(path, ["hat", "age"])
    assert back["file"].tolist() == given["file"].tolist()
    assert back.drop(columns="file").equals(given.drop(columns="file"))


@quick
@given(content=tables() | tables(HEADS[5:]) | anything)
def test_logs_read_or_say_why(tmp_path, content):
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    log = outcome(logs.read_log, path)
    if log is not None:
        assert (log["time_epochs"].diff().dropna() > 0).all()


@pytest.fixture(scope="module")
def lines():
    return make_log().drop(columns="time_epochs").to_csv().splitlines(keepends=True)


@quick
@given(data=st.data())
def test_a_log_with_one_odd_cell_reads_or_says_why(tmp_path, lines, data):
    row = data.draw(st.integers(0, len(lines) - 1))
    cells_of = lines[row].split(",")
    cells_of[data.draw(st.integers(0, len(cells_of) - 1))] = data.draw(cells)
    path = tmp_path / "log.csv"
    changed = [*lines[:row], ",".join(cells_of), *lines[row + 1 :]]
    path.write_bytes("".join(changed).encode("utf-8", "surrogatepass"))
    outcome(logs.read_log, path)


@quick
@given(seed=st.integers(0, 10**6), rows=st.integers(2, 40), epochs=st.integers(1, 5))
def test_logs_come_back_the_same(tmp_path, seed, rows, epochs):
    path = tmp_path / "log.csv"
    log = make_log(seed, rows=max(rows, 2 * epochs), epochs=epochs)
    log.drop(columns="time_epochs").to_csv(path)
    pd.testing.assert_frame_equal(logs.read_log(path), log, rtol=1e-12)


# Where training ran in this process, denormals are off, and a strategy of them fails.
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_subnormal=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)
fields = st.sampled_from([*parameters.MODELS["02_train_base"].model_fields, "x", "concept"])
snippets = st.sampled_from(
    [
        "a: &a [1]",
        "b: *a",
        "!!python/name:os.system",
        "- 1",
        "seed: 1",
        "? [1]\n: 2",
        "{",
        "}",
        "\t",
    ]
    + [
        "---",
        "...",
        "<<: {seed: 1}",
        "seed: 2026-13-45",
        "seed: 1:99",
        "%YAML 9.9",
        "'",
        "|",
        "? ",
    ]
)


@quick
@given(
    text=st.dictionaries(fields, values, max_size=4).map(yaml.safe_dump)
    | st.lists(snippets | st.text(max_size=10), max_size=5).map("\n".join)
)
def test_params_read_or_say_why(tmp_path, text):
    path = tmp_path / "02_train_base.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    model = outcome(parameters.load, path)
    if model is not None:
        assert model.stage == "02_train_base"


@quick
@given(content=anything)
def test_params_of_any_bytes_read_or_say_why(tmp_path, content):
    path = tmp_path / "02_train_base.yaml"
    path.write_bytes(content)
    outcome(parameters.load, path)


small = st.floats(0, 1, allow_subnormal=False)
good = st.fixed_dictionaries({
    "study": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True).filter(
        lambda name: name.lower() not in {"con", "prn", "aux", "nul"}
    ),
    "seed": st.integers(0, 2**31 - 1),
    "learning_rate": small,
    "total_kimg": st.floats(1e-300, 1e6),
    "population_run": st.text(max_size=20).filter(str.isprintable),
    "grow_kimg": st.dictionaries(st.text("0123456789", min_size=1, max_size=4), small),
})  # fmt: skip


@quick
@given(facts=good)
def test_params_come_back_the_same(tmp_path, facts):
    path = tmp_path / "02_train_base.yaml"
    model = parameters.TrainBase.checked(facts, "here")
    path.write_text(run_folder.to_json(model.config()), encoding="utf-8")  # as a run keeps them
    assert parameters.load(path) == model
    path.write_text(yaml.safe_dump(model.config(), allow_unicode=True), encoding="utf-8")
    assert parameters.load(path) == model
