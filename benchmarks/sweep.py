"""Compares a sweep's speed with two workers and with one: `python -m benchmarks.sweep`.

Both sweeps run the same stages of `params/smoke` with recipe v9 and the same seeds, in turn and in
new folders. Each worker has one thread. The times include starting the kernels.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ohlora_lib.study import machine, records


def new_project(folder: Path, stages: str) -> None:
    """Makes a project with the notebooks and the smoke study, with recipe v9 only."""
    root = records.project_root(Path(__file__))
    shutil.copytree(root / "notebooks", folder / "notebooks")
    (folder / "params" / "smoke").mkdir(parents=True)
    for path in sorted((root / "params" / "smoke").glob(f"{stages}.yaml")):
        if "v8" in path.stem or path.stem == "08_compare_runs":
            continue
        text = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in text if not line.startswith("earlier_run")]
        (folder / "params" / "smoke" / path.name).write_text("".join(kept), encoding="utf-8")


def sweep_seconds(workers: int, seeds: str, stages: str) -> float:
    """Wall time of a sweep in a new project, for the stages that match a glob.

    Raises:
        RuntimeError: If the sweep fails; contains the end of its output.
    """
    with tempfile.TemporaryDirectory() as folder:
        new_project(Path(folder), stages)
        command = [sys.executable, "-m", "ohlora_lib", "sweep", "params/smoke"]
        command += ["--seeds", seeds, "--workers", str(workers)]
        package = str(Path(records.__file__).parents[2])
        env = {**os.environ, "OMP_NUM_THREADS": "1", "OHLORA_ROOT": folder, "PYTHONPATH": package}
        began = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the sweep failed: {done.stdout[-1000:]}{done.stderr[-1000:]}")
        return time.perf_counter() - began


def main() -> None:
    """Measures both sweeps and reports their ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__)
    parser.add_argument("--seeds", default="0-3", help="seeds; each is one independent point")
    parser.add_argument("--quick", action="store_true", help="one stage: a test, not a result")
    parser.add_argument("--out", type=Path, help="path of the JSON file")
    given = parser.parse_args()
    seeds, stages = ("0,1", "01*") if given.quick else (given.seeds, "*")
    seconds = {workers: sweep_seconds(workers, seeds, stages) for workers in (1, 2)}
    ratio = seconds[1] / seconds[2]
    facts = {"hardware": machine.hardware(), "versions": machine.versions(), "seeds": seeds}
    facts |= {"one_worker_sec": seconds[1], "two_workers_sec": seconds[2], "times_faster": ratio}
    print(
        f"two workers are {ratio:.2f} times as fast as one: {seconds[1]:.0f} s against "
        f"{seconds[2]:.0f} s, seeds {seeds}, one thread per worker"
    )
    out = given.out or records.project_root() / "outputs" / "benchmarks-sweep.json"
    records.write_atomic(out, records.to_json(facts) + "\n")
    print(out)


if __name__ == "__main__":
    main()
