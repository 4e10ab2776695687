"""Nothing that comes from others is executed, trusted, shown raw, or leads out of its folder."""

import ast
import base64
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat import v4, write
from PIL import Image

from ohlora_lib import cli
from ohlora_lib.io.weights import save_weights
from ohlora_lib.nets import PropertyCNN
from ohlora_lib.report import show
from ohlora_lib.report.page import export_notebook
from ohlora_lib.report.publish import upload
from ohlora_lib.study import parameters, run_folder

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "ohlora_lib").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"
NEVER = {  # what runs text or data, wherever it comes from
    *(
        "eval",
        "exec",
        "compile",
        "__import__",
        "os.system",
        "os.popen",
        "pd.eval",
        "pd.read_pickle",
    ),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads", "shelve.open"),
    *("joblib.load", "dill.load", "cloudpickle.load", "yaml.unsafe_load", "yaml.full_load"),
    *("socket.socket", "socket.create_connection", "asyncio.open_connection"),
    *("torch.jit.load", "torch.hub.load", "runpy.run_path", "subprocess.getoutput"),
}
ONLY = {  # calls that are safe with this argument only
    "torch.load": ("weights_only", "True"),
    "np.load": ("allow_pickle", "False"),
    "yaml.load": ("Loader", "PlainLoader"),
    "Image.open": ("formats", "known"),
    "Picture.open": ("formats", "known"),
}
NETWORK = {"urllib", "http", "requests", "httpx", "ftplib", "smtplib", "aiohttp"}
TRUST = {"nbformat.sign", "NotebookNotary", "nbconvert.preprocessors"}


def code_of(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    cells = json.loads(text)["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


def offences(code):
    """Calls and imports that could run, trust or fetch what others wrote."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            needed, value = ONLY.get(name, ("", None))
            asked = name.endswith(".query") and not isinstance(node.args[0], ast.Constant)
            if name in NEVER or asked or given.get("shell", "False") != "False":
                found.append(name)
            if given.get(needed) != value or given.get("allow_pickle") == "True":
                found.append(name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            module = getattr(node, "module", None) or ""
            heads = [name.partition(".")[0] for name in (names if not module else [module])]
            found += [h for h in heads if h in NETWORK and module != "urllib.parse"]
            found += [n for n in [module, *names] if n in TRUST]
    return found


@pytest.mark.parametrize("path", [*MODULES, *NOTEBOOKS], ids=lambda path: path.stem)
def test_code_runs_and_trusts_nothing_that_is_data(path):
    assert offences(code_of(path)) == []


@pytest.mark.parametrize(
    "code",
    [
        "eval(text)",
        "import os\nos.system('ls')",
        "pickle.load(file)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
        "subprocess.run(line, shell=True)",
        "table.query(text)",
        "Image.open(path)",
        "import requests",
        "from urllib.request import urlopen",
        "from nbformat.sign import NotebookNotary",
    ],
)
def test_the_rule_sees_what_it_forbids(code):
    assert offences(code)


def test_only_publishing_knows_the_hub():
    users = [path.stem for path in MODULES if "huggingface_hub" in path.read_text("utf-8")]
    assert users == ["weight_publishing"]


def test_uploading_is_refused_without_a_name_before_the_hub_is_asked(tmp_path):
    with pytest.raises(ValueError, match="USER/NAME"):
        upload(tmp_path, "https://example.org/a")


def test_words_out_of_data_reach_no_page_raw(tmp_path, monkeypatch):
    table = pd.DataFrame({HOSTILE: [HOSTILE]}, index=[HOSTILE])
    picture = tmp_path / "a.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(picture)
    seen = []
    monkeypatch.setattr(show, "display", seen.append)
    show.table(table)
    show.sentence(HOSTILE)
    show.verdict(HOSTILE, detail=HOSTILE)
    show.frames({HOSTILE: picture}, f'" onmouseover="{HOSTILE}')
    outputs = []
    for shown in seen:
        kind = "text/html" if hasattr(shown, "_repr_html_") else "text/markdown"
        page = BeautifulSoup(shown.data, "html.parser")  # as JupyterLab shows it
        assert not page.select("script, [onerror], [onmouseover]")
        outputs.append(v4.new_output("display_data", data={kind: shown.data}))
    show.picture(picture, HOSTILE)
    facts = {"image/png": {"alt": seen[-2].alt}}  # below it, its caption
    data = {"image/png": base64.b64encode(picture.read_bytes()).decode()}
    outputs.append(v4.new_output("display_data", data=data, metadata=facts))
    path = tmp_path / "a.ipynb"
    write(v4.new_notebook(cells=[v4.new_code_cell("1", outputs=outputs)]), path)
    page = BeautifulSoup(export_notebook(path), "html.parser")
    assert not page.select("[onerror], [onmouseover], img[src=x]")
    assert all("alert" not in tag.get_text() for tag in page.select("script"))
    assert page.get_text().count("alert(1)") >= 5  # it is there, as words


def test_reading_a_report_neither_runs_nor_signs_the_notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.chdir(tmp_path)
    cell = v4.new_code_cell("open('trap', 'w')", outputs=[], execution_count=None)
    node = v4.new_notebook(cells=[v4.new_markdown_cell("# {{ 7 * 7 }} {% raise %}"), cell])
    node.metadata["kernelspec"] = {"name": "no-such-kernel", "display_name": "?"}
    write(node, tmp_path / "a.ipynb")
    before = (tmp_path / "a.ipynb").read_bytes()
    html = export_notebook(tmp_path / "a.ipynb")
    assert "{{ 7 * 7 }}" in BeautifulSoup(html, "html.parser").h1.get_text()
    assert not (tmp_path / "trap").exists()
    assert not list((tmp_path / "jupyter").rglob("*")) if (tmp_path / "jupyter").exists() else True
    assert (tmp_path / "a.ipynb").read_bytes() == before


@pytest.fixture
def root(tmp_path):
    project = tmp_path / "project"
    for name in ("params", "notebooks"):
        (project / name).mkdir(parents=True)
    return project


@pytest.mark.parametrize("study", ["../..", "../../elsewhere", "/tmp", "a/../../../b"])
def test_a_run_cannot_leave_its_project(root, study):
    with pytest.raises(ValueError, match="outside of the project's outputs"):
        run_folder.start_run("01_first", {"study": study}, root=root)
    assert sorted(path.name for path in root.parent.rglob("*")) == [
        "notebooks", "params", "project",
    ]  # fmt: skip


def test_a_run_cannot_leave_by_a_link_but_outputs_may_be_one(root, tmp_path):
    (tmp_path / "disk").mkdir()
    (root / "outputs").symlink_to(tmp_path / "disk")
    run_folder.start_run("01_first", {"study": "tiny"}, root=root).finish()
    assert (tmp_path / "disk" / "tiny" / "01_first" / "summary.json").is_file()
    (tmp_path / "home").mkdir()
    (tmp_path / "disk" / "tiny" / "02_second").symlink_to(tmp_path / "home")
    with pytest.raises(ValueError, match="of links, only outputs itself"):
        run_folder.start_run("02_second", {"study": "tiny"}, root=root)
    assert not list((tmp_path / "home").iterdir())


def test_names_of_figures_stay_in_their_folder():
    assert re.fullmatch(r"_a_b_c_png-[0-9a-f]{8}", show.file_name("../../a/b\0c.png"))


@pytest.mark.parametrize(
    "rule", ["__import__('os').system('touch trap')>=1", "hat>=1 or exit()", "@hat>=1", "hat>=1;"]
)
def test_label_rules_are_never_code(rule):
    with pytest.raises(ValueError, match="is not of the form"):
        parameters.MakePopulation.checked({"label_rules": {"hat": rule}}, "here")


def test_a_file_cannot_steer_the_terminal(tmp_path, capsys):
    net = PropertyCNN("age", image_px=64, width=0.02)
    save_weights(net, tmp_path / "a.safetensors", note="\x1b]0;owned\x07\x1b[2Jred")
    for name in ("a.safetensors", "gone\x1b[2J.pth"):
        with pytest.raises(SystemExit):
            cli.main(["weights", "info", str(tmp_path / name)])
    seen = capsys.readouterr()
    assert "red" in seen.out
    assert "gone" in seen.err
    assert not set("\x1b\x07") & set(seen.out + seen.err)
