"""Serves a real JupyterLab on loopback and runs notebooks in it, for browser tests."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).parents[3]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TOKEN = "loopback"
WAIT_MS = 60_000  # longest wait

browser_marks = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium here"),
    pytest.mark.skipif(not importlib.util.find_spec("playwright"), reason="no playwright here"),
]


def study(root: Path, name: str, *words: str) -> Path:
    """Copies the notebooks to a project and runs a study; returns the study's outputs folder."""
    shutil.copytree(ROOT / "notebooks", root / "notebooks")
    command = [sys.executable, "-m", "ohlora_lib", "run", f"params/{name}", *words]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return root / "outputs" / name


@contextmanager
def _jupyterlab(project: Path) -> Iterator[str]:
    """Serves a project; yields the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1",
               f"--port={port}", f"--IdentityProvider.token={TOKEN}", "--allow-root",
               "--LabApp.expose_app_in_browser=True",
               f"--ServerApp.root_dir={project}"]  # fmt: skip
    # A new home each time: JupyterLab would reopen the last server's notebooks and run those.
    home = tempfile.mkdtemp(dir=project)
    env = os.environ | {"JUPYTER_CONFIG_DIR": f"{home}/config", "JUPYTER_DATA_DIR": f"{home}/data"}
    with (project / "server.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=project, env=env, stdout=log, stderr=log)
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{base}/api?token={TOKEN}", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, (project / "server.log").read_text()
                time.sleep(0.5)
        yield base
    finally:
        server.terminate()
        server.wait(30)


def set_parameters(project: Path, notebook: str, values: dict[str, Any]) -> None:
    """Sets parameters in the notebook's parameters cell, as a user does."""
    path = project / "notebooks" / f"{notebook}.ipynb"
    node = nbformat.read(path, as_version=4)
    (cell,) = [c for c in node.cells if "parameters" in c.metadata.get("tags", [])]
    cell.source += "".join(f"\n{name} = {value!r}" for name, value in values.items())
    nbformat.write(node, path)


@contextmanager
def lab_page(
    project: Path, notebook: str, *, height: int, **parameters: Any
) -> Iterator[tuple[Any, Callable]]:
    """Yields a browser page, and a function that opens the notebook there and runs all cells."""
    from playwright.sync_api import sync_playwright

    set_parameters(project, notebook, parameters)
    with _jupyterlab(project) as base, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": height})

        def run_all() -> None:
            page.goto(f"{base}/lab/tree/notebooks/{notebook}.ipynb?token={TOKEN}", timeout=WAIT_MS)
            page.get_by_text("| Idle").first.wait_for(timeout=WAIT_MS)  # the kernel has started
            page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")

        yield page, run_all
        browser.close()
