"""Starts finished stages again, by every way there is, and looks whether a file of them is lost.

`python -m tests.system.faults.restart --times 20 --seed 0` runs `params/smoke` once, then starts
its stages again on copies of it: by papermill, `ohlora finetune`, `ohlora run` and "Run All" in
JupyterLab (where a browser is), with the same and with a changed parameter, and kills 20 more
starts at random moments. Exit status 1 if a file of a finished run is neither where it was nor
whole in `.earlier`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import psutil
import yaml

from ohlora_lib.study.run import EARLIER
from ohlora_lib.study.run_folder import read_summary
from tests.system.browser.lab import CHROMIUM, SECONDS, TOKEN, jupyterlab, run_notebook

ROOT = Path(__file__).parents[3]
STUDY = "smoke"
CHANGES = {  # of each notebook, a value that asks for another run
    "01_make_population": {"seed": 1},
    "02_train_base": {"seed": 1},
    "03_train_property_cnn": {"seed": 1},
    "04_select_images": {"skip_first": 1},
    "05_finetune_generator": {"learning_rate": 2e-3},
    "06_evaluate_samples": {"samples": 21},
    "07_report_run": {"seed": 1},
    "08_compare_runs": {"seed": 1},
}
STAGES = [path.stem for path in sorted((ROOT / "params" / STUDY).glob("*.yaml"))]
FINETUNINGS = [stage for stage in STAGES if stage.startswith("05")]
SAID = ("nothing to do", "is kept in", "unchanged, skipped")
PATIENCE_SEC = 900


def notebook_of(stage: str) -> str:
    """Stem of a stage's notebook."""
    return stage.partition("-")[0]


def prepare(folder: Path) -> Path:
    """A project with a finished study."""
    for part in ("notebooks", f"params/{STUDY}"):
        shutil.copytree(ROOT / part, folder / part)
    done = subprocess.run(ohlora("run", f"params/{STUDY}"), **options(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def ohlora(*words: str) -> list[str]:
    """The command line of `ohlora`."""
    return [sys.executable, "-m", "ohlora_lib", *words]


def options(project: Path) -> dict:
    """How commands are started in a project."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"} | {"OHLORA_ROOT": str(project)}
    return {"cwd": project, "env": env, "capture_output": True, "text": True}


def files_of(project: Path) -> dict[str, dict[str, str]]:
    """By stage, the hashes of the files that its finished run answers for."""
    found = {}
    for stage in STAGES:
        folder = project / "outputs" / STUDY / stage
        names = [fact["path"] for fact in read_summary(folder)["artefacts"]]
        found[stage] = hashes(folder, [*names, "summary.json", "config.json"])
    return found


def hashes(folder: Path, names: list[str]) -> dict[str, str]:
    """Hashes of files of a folder, as far as they are there."""
    paths = {name: folder / name for name in names}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in paths.items()
        if path.is_file()
    }


def lost(project: Path, before: dict[str, dict[str, str]]) -> list[str]:
    """Files of finished runs that are neither in their place nor in a run that moved whole."""
    home, missing = project / "outputs" / STUDY, []
    for stage, wanted in before.items():
        places = [home / stage, *home.glob(f"{EARLIER}/{stage}-*")]
        found = [hashes(place, list(wanted)) for place in places]
        if wanted not in found:
            best = max(found, key=lambda there: len(there.items() & wanted.items()))
            missing += [f"{stage}/{n}" for n in wanted if best.get(n) != wanted[n]]
    return missing


def change(project: Path, stage: str) -> None:
    """Changes one value in a stage's params file."""
    path = project / "params" / STUDY / f"{stage}.yaml"
    given = yaml.safe_load(path.read_text()) | CHANGES[notebook_of(stage)]
    path.write_text(yaml.safe_dump(given))


def command(way: str, stage: str) -> list[str]:
    """What to type to start a stage again."""
    params = f"params/{STUDY}/{stage}.yaml"
    notebook = f"notebooks/{notebook_of(stage)}.ipynb"
    if way == "papermill":
        return [sys.executable, "-m", "papermill", notebook, "out.ipynb", "-f", params]
    if way == "ohlora finetune":
        return ohlora("finetune", params)
    return ohlora("run", f"params/{STUDY}", "--only", stage)


def said(text: str) -> Iterator[str]:
    """What a start told the person about the finished run."""
    for line in text.replace("\r", "\n").splitlines():
        if any(words in line for words in SAID):
            yield line.strip()


def start_again(project: Path, way: str, stage: str) -> str:
    """Starts a stage again, to its end; gives what was said."""
    done = subprocess.run(command(way, stage), **options(project), timeout=PATIENCE_SEC)
    text = done.stdout + done.stderr
    if way == "papermill":
        node = nbformat.read(project / "out.ipynb", as_version=4)
        text = "\n".join(str(o.get("text", "")) for c in node.cells for o in c.get("outputs", []))
    assert done.returncode == 0, (way, stage, text[-2000:], done.stderr[-2000:])
    return " | ".join(said(text))


def start_and_kill(project: Path, way: str, stage: str, wait: float) -> bool:
    """Starts a stage again and kills all of its processes; False if it ended before."""
    settings = {name: options(project)[name] for name in ("cwd", "env")}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command(way, stage), **settings, **silent)
    time.sleep(wait)
    family = [process.pid, *(c.pid for c in psutil.Process(process.pid).children(recursive=True))]
    killed = process.poll() is None
    for pid in family:
        if psutil.pid_exists(pid):
            psutil.Process(pid).kill()
    process.wait()
    return killed


def run_all_in_lab(project: Path, stage: str, browser) -> str:
    """Opens a stage's notebook with its parameters in the cell, and runs all its cells."""
    notebook = notebook_of(stage)
    path = project / "notebooks" / f"{notebook}.ipynb"
    node = nbformat.read(path, as_version=4)
    (cell,) = [c for c in node.cells if "parameters" in c.metadata.get("tags", [])]
    given = yaml.safe_load((project / "params" / STUDY / f"{stage}.yaml").read_text())
    lines = [line for line in cell.source.splitlines() if line[:1].isalpha()]
    names = [line.partition(":")[0] for line in lines]
    model = yaml.safe_load((project / "outputs" / STUDY / stage / "config.json").read_text())
    values = {**{n: False for n in names if n == "start_anew"}, **model, **given}
    types = {line.partition(":")[0]: line.partition(":")[2].split("=")[0] for line in lines}
    cell.source = "\n".join(f"{n}:{types[n]}= {values[n]!r}" for n in names)
    nbformat.write(node, path)
    with jupyterlab(project) as base:
        page = browser.new_page(viewport={"width": 1280, "height": 20000})
        run_notebook(page, f"{base}/lab/tree/notebooks/{notebook}.ipynb?token={TOKEN}")
        page.get_by_text("'finished'").first.wait_for(timeout=5 * SECONDS)
        text = page.locator(".jp-OutputArea-output").all_inner_texts()
        page.close()
    return " | ".join(said("\n".join(text)))


def report(way: str, stage: str, kind: str, gone: list[str], words: str) -> bool:
    """Prints one line; gives whether nothing was lost."""
    state = f"LOST {gone}" if gone else "0 lost"
    print(f"{way:<16} {stage:<26} {kind:<18} {state}  {words}", flush=True)
    return not gone


class Harness:
    """A finished study, copies of which are started again.

    Args:
        folder: An empty folder.
        seed: Draws the moments of kills.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.finished = prepare(folder / "finished")
        self.before = files_of(self.finished)
        self.copies = 0

    def copy(self) -> Path:
        """A copy of the finished study, at the same depth."""
        self.copies += 1
        return shutil.copytree(self.finished, self.folder / f"copy{self.copies}", symlinks=True)

    def again(self, way: str, stages: list[str], kind: str, start=start_again) -> bool:
        """Starts stages again one by one, all changed or all unchanged; nothing may be lost."""
        project, fine = self.copy(), True
        for stage in stages:
            if kind == "changed":
                project = self.copy()
                change(project, stage)
            words = start(project, way, stage)
            fine &= report(way, stage, kind, lost(project, self.before), words)
            moved = list((project / "outputs" / STUDY).glob(f"{EARLIER}/*"))
            fine &= bool(moved) == (kind == "changed")
        return fine

    def kill(self) -> bool:
        """Kills one start at a random moment; then starts the stage again to its end."""
        stage = self.random.choice(STAGES)
        ways = ["papermill", "ohlora run"] + ["ohlora finetune"] * (stage in FINETUNINGS)
        way, kind = self.random.choice(ways), self.random.choice(["unchanged", "changed"])
        while True:
            project = self.copy()
            if kind == "changed":
                change(project, stage)
            else:  # else `ohlora run` would skip it
                for page in (project / "outputs" / STUDY / stage).glob("*.html"):
                    page.unlink()
            wait = self.random.uniform(0.5, 10)
            if start_and_kill(project, way, stage, wait):
                break
        gone = lost(project, self.before)
        start_again(project, "ohlora run", stage)
        gone += lost(project, self.before)
        return report(way, stage, f"{kind}, {wait:.1f} s", gone, "killed")


def in_lab(harness: Harness) -> bool:
    """The same by "Run All" in JupyterLab."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

        def start(project: Path, way: str, stage: str) -> str:
            return run_all_in_lab(project, stage, browser)

        stages = [stage for stage in STAGES if not stage.endswith("v8")]
        return harness.again("JupyterLab", stages, "unchanged", start) & harness.again(
            "JupyterLab", stages, "changed", start
        )


def main(arguments: list[str] | None = None) -> int:
    """Runs the harness."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.system.faults.restart", description=__doc__
    )
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lab", action="store_true", help="in JupyterLab, in a browser, only")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="ohlora-restart-") as folder:
        harness = Harness(Path(folder), given.seed)
        if given.lab:
            return 0 if in_lab(harness) else 1
        fine = all([
            harness.again(way, FINETUNINGS if "finetune" in way else STAGES, kind)
            for way in ("papermill", "ohlora finetune", "ohlora run")
            for kind in ("unchanged", "changed")
        ])  # fmt: skip
        kills = [harness.kill() for _ in range(given.times)]
    print(f"{sum(kills)} of {len(kills)} kills lost nothing")
    return 0 if fine and all(kills) else 1


if __name__ == "__main__":
    sys.exit(main())
