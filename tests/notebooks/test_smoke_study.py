"""Every notebook runs, by the runner, with the parameters of `params/smoke`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGES = sorted(path.stem for path in (ROOT / "params" / "smoke").glob("*.yaml"))


def ohlora(root: Path, *words: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    env.pop("OHLORA_ROOT", None)
    command = [sys.executable, "-m", "ohlora_lib", *words]
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "notebooks", root / "notebooks")
    shutil.copytree(ROOT / "params" / "smoke", root / "params" / "smoke")
    done = ohlora(root, "run", "params/smoke")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.strip().splitlines()[-1].endswith("outputs/smoke/index.html")
    return root


def summary(root: Path, stage: str) -> dict:
    return json.loads((root / "outputs" / "smoke" / stage / "summary.json").read_text())


@pytest.mark.slow
def test_every_stage_leaves_its_summary_and_page(study: Path) -> None:
    assert len(STAGES) == 11
    for stage in STAGES:
        facts = summary(study, stage)
        assert facts["status"] == "finished", stage
        folder = study / "outputs" / "smoke" / stage
        for artefact in facts["artefacts"]:
            assert (folder / artefact["path"]).stat().st_size == artefact["bytes"]
        pages = list(folder.glob("*.html"))
        assert len(pages) == 1
        assert 'src="http' not in pages[0].read_text(encoding="utf-8")


@pytest.mark.slow
def test_only_what_depends_on_a_changed_value_runs_again(study: Path) -> None:
    before = {stage: summary(study, stage)["finished"] for stage in STAGES}
    params = study / "params" / "smoke" / "05_finetune_generator-v9.yaml"
    params.write_text(params.read_text().replace("epochs: 2", "epochs: 1"))
    done = ohlora(study, "run", "params/smoke")
    assert done.returncode == 0, done.stderr[-2000:]
    again = {stage for stage in STAGES if summary(study, stage)["finished"] != before[stage]}
    assert again == {
        "05_finetune_generator-v9",
        "06_evaluate_samples-v9",
        "07_report_run-v9",
        "08_compare_runs",
    }
