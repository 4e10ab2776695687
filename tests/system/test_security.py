"""docs/security.md: untrusted files are never executed, trusted, or shown unescaped."""

import base64
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

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def test_text_from_data_is_escaped_on_every_page(tmp_path, monkeypatch):
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
    facts = {"image/png": {"alt": seen[-2].alt}}  # the last output is its caption
    data = {"image/png": base64.b64encode(picture.read_bytes()).decode()}
    outputs.append(v4.new_output("display_data", data=data, metadata=facts))
    path = tmp_path / "a.ipynb"
    write(v4.new_notebook(cells=[v4.new_code_cell("1", outputs=outputs)]), path)
    page = BeautifulSoup(export_notebook(path), "html.parser")
    assert not page.select("[onerror], [onmouseover], img[src=x]")
    assert all("alert" not in tag.get_text() for tag in page.select("script"))
    assert page.get_text().count("alert(1)") >= 5  # shown as text


def test_exporting_a_notebook_neither_runs_nor_signs_nor_changes_it(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.chdir(tmp_path)
    cells = [v4.new_markdown_cell("# {{ 7 * 7 }} {% raise %}"), v4.new_code_cell("open('x', 'w')")]
    kernel = {"name": "no-such-kernel", "display_name": "?"}
    write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), "a.ipynb")
    before = Path("a.ipynb").read_bytes()
    html = export_notebook(Path("a.ipynb"))
    assert "{{ 7 * 7 }}" in BeautifulSoup(html, "html.parser").h1.get_text()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.ipynb"]
    assert Path("a.ipynb").read_bytes() == before


def test_a_file_cannot_send_control_codes_to_the_terminal(tmp_path, capsys):
    net = PropertyCNN("age", image_px=64, width=0.02)
    save_weights(net, tmp_path / "a.safetensors", note="\x1b]0;owned\x07\x1b[2Jred")
    for name in ("a.safetensors", "gone\x1b[2J.pth"):
        with pytest.raises(SystemExit):
            cli.main(["weights", "info", str(tmp_path / name)])
    seen = capsys.readouterr()
    assert "red" in seen.out
    assert "gone" in seen.err
    assert not set("\x1b\x07") & set(seen.out + seen.err)
