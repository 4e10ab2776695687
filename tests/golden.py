"""Compares what two commits compute on this machine, bit for bit.

`python -m tests.golden BEFORE [AFTER] [--study quickstart]` runs a study (`params/smoke`) and
`ohlora compare --json` on the published logs at both commits (AFTER: HEAD), each in a work tree of
its own, and prints every log, verdict, comparison and tensor that differs. The exit status is 1 if
one does. Hashes are not stored, because they differ between processors.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pandas as pd
from safetensors.numpy import load_file

from tests.log_samples import PUBLISHED

ROOT = Path(__file__).parents[1]
CLOCK = "elapsed_sec"
TABLES = ("train_log.csv", "verdict.csv", "comparison.csv", "evaluations.csv", "scores.csv")


def run(folder: Path, *words: str) -> str:
    """Runs `ohlora` at a commit and returns its output."""
    env = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ohlora_lib", *words]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def register_engine(folder: Path) -> None:
    """Makes papermill load the engine of this commit, not that of the installed package."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / "ohlora-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ohlora\nVersion: 0\n")
    engine = project["entry-points"]["papermill.engine"]["ohlora"]
    (info / "entry_points.txt").write_text(f"[papermill.engine]\nohlora = {engine}\n")


def facts(folder: Path, study: str) -> dict[str, str]:
    """Hashes of everything that a commit computes, by name."""
    register_engine(folder)
    run(folder, "run", f"params/{study}")
    found = {}
    outputs = folder / "outputs" / study
    for path in sorted(outputs.rglob("*")):
        name = str(path.relative_to(outputs))
        if path.name in TABLES:
            table = pd.read_csv(path).drop(columns=CLOCK, errors="ignore")
            found[name] = sha256(table.to_csv().encode())
        elif path.suffix == ".safetensors":
            tensors = load_file(path)
            found |= {f"{name}: {key}": sha256(tensors[key].tobytes()) for key in sorted(tensors)}
    logs = [str(path) for path in PUBLISHED]
    found["compare --json"] = sha256(run(folder, "compare", *logs, "--json").encode())
    return found


def facts_at(commit: str, study: str, home: Path) -> dict[str, str]:
    """Runs a study at a commit and returns its hashes."""
    folder = home / commit.replace("/", "-")
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(folder), commit], check=True)
    try:
        return facts(folder, study)
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("before")
    parser.add_argument("after", nargs="?", default="HEAD")
    parser.add_argument("--study", default="smoke")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        commits = given.before, given.after
        before, after = (facts_at(commit, given.study, Path(home)) for commit in commits)
    names = sorted(before.keys() | after.keys())
    different = [name for name in names if before.get(name) != after.get(name)]
    for name in different:
        print(f"{name}: {before.get(name, 'absent')} became {after.get(name, 'absent')}")
    print(f"{len(names) - len(different)} of {len(names)} tables, tensors and answers are equal")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
