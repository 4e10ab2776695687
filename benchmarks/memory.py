"""Peak memory of sampling and scoring candidates: `python -m benchmarks.memory 10000 200000`.

Each count is measured in its own process, with small untrained networks at 32 px. Only anonymous
memory counts: the system can reclaim pages of memory-mapped files at any time. `--step bfloat16`
(or float32, or plain) measures a v9 step with R1 of a StyleGAN2 at 256 px, batch 8, instead.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path

import torch

from benchmarks.cases import PUBLISHED_2, new_tuner, plain_tuner
from ohlora_lib.io.images import hold
from ohlora_lib.io.weights import load_generator, save_weights
from ohlora_lib.nets import Generator, PropertyCNN
from ohlora_lib.nets.compute import pick_device
from ohlora_lib.nets.samples import sample_images, to_signed
from ohlora_lib.population.labels import save_table
from ohlora_lib.properties.ensemble import load_ensemble
from ohlora_lib.selection import candidates as cd
from ohlora_lib.study import machine, records
from ohlora_lib.study.parameters import SelectImages
from ohlora_lib.study.run_folder import Run

IMAGE_PX = 32
GROWTH_SHARE = 0.1  # allowed growth, as a share of the added images' pixels
EVERY_SEC = 0.02
# With glibc's own thresholds, the peak of the same work varied by 75 MiB between runs.
RETURNED_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}


def status_mib(name: str) -> float:
    """One value of this process's `/proc` status, in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


class PeakMemory:
    """Records the peak of this process's anonymous memory inside the block."""

    def __enter__(self) -> "PeakMemory":
        self.before = self.peak = status_mib("RssAnon")
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._end.wait(EVERY_SEC):
            self.peak = max(self.peak, status_mib("RssAnon"))

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self.peak = max(self.peak, status_mib("RssAnon"))


def new_stage(folder: Path, count: int, quantile: float) -> tuple[SelectImages, Run]:
    """Saves small networks; the thresholds are a quantile of each score, 0.5 keeps a quarter."""
    torch.manual_seed(0)
    small = {"z_dim": 16, "w_dim": 16, "fmaps_base": 128}
    save_weights(Generator(IMAGE_PX, **small), folder / "generator.safetensors")
    for prop in ("gender", "age"):
        net = PropertyCNN(prop, image_px=IMAGE_PX, width=0.125)
        save_weights(net, folder / "selector" / f"{prop}-fold0.safetensors")
    records.write_atomic(folder / "summary.json", "{}")
    sample = next(sample_images(load_generator(folder / "generator.safetensors"), 100, seed=1))
    table = load_ensemble(folder / "selector", ["gender", "age"]).table(sample)
    scores = table.quantile(quantile)
    given = {"base_run": "base", "cnn_run": "cnns", "samples": count}
    given |= {"concept": {"gender": 1.0, "age": 1.0}}
    given |= {"keep": {name: float(scores[f"{name}_score"]) for name in ("gender", "age")}}
    config = SelectImages.checked(given, "benchmark")
    path = folder / "outputs" / "memory" / config.stage
    inputs = {"base_run": folder, "cnn_run": folder}
    return config, Run(path, config.NOTEBOOK, config.config(), inputs)


def select_candidates(config: SelectImages, run: Run) -> cd.Chosen:
    """Runs stage 4 on its candidates, without the figures."""
    options = {"device": torch.device("cpu"), "precision": "float32"}
    cnns = load_ensemble(run.inputs["cnn_run"] / "selector", list(config.concept))
    chosen = cd.choose(config, run, cd.find_candidates(config, run, **options))
    save_table(run.path / "scores.csv", chosen.table())
    cnns.table(hold(chosen.kept, most_bytes=0))
    return chosen


def measure(count: int, quantile: float) -> dict[str, float]:
    """Peak memory of one run in this process, in MiB."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        select_candidates(*new_stage(Path(folder), 200, quantile))  # loads the libraries
        stage = new_stage(Path(folder), count, quantile)
        with PeakMemory() as memory:
            chosen = select_candidates(*stage)
        found = {"candidates": count, "kept": len(chosen.kept)}
        found |= {"before_mib": memory.before, "peak_mib": memory.peak}
        return found | {"resident_mib": status_mib("VmHWM")}


def measured_apart(count: int, quantile: float) -> dict[str, float]:
    """Peak memory of one run in a new process, in MiB."""
    command = [sys.executable, "-m", "benchmarks.memory", "--one", str(count)]
    command += ["--quantile", str(quantile)]
    env = os.environ | RETURNED_AT_ONCE
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env)
    return json.loads(done.stdout)


def measure_step(way: str) -> dict[str, object]:
    """Peak memory of two v9 steps in this process, in MiB; `plain` or a number format."""
    device = pick_device("cpu")
    plain = way == "plain"
    tuner = (plain_tuner if plain else partial(new_tuner, precision=way))(PUBLISHED_2, device)
    real = to_signed(tuner.images)
    with PeakMemory() as memory:
        for _ in range(2):  # the first creates the optimizers' state
            tuner.train_batch(real)
    found = {"way": way, "before_mib": memory.before, "peak_mib": memory.peak}
    return found | {"resident_mib": status_mib("VmHWM")}


NOISE_MIB = 40.0  # growth measured: 5 to 14 MiB; 30,000 images held in memory add at least 88


def growth_allowed_mib(few: int, many: int) -> float:
    """A tenth of the size of the added candidates' pixels, in MiB."""
    return GROWTH_SHARE * (many - few) * IMAGE_PX**2 * 3 / 2**20


def main() -> None:
    """Measures and reports; the exit status is 1 if memory grows by more than is allowed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("counts", nargs="*", type=int, default=[10_000, 200_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--quantile", type=float, default=0.5, help="the thresholds' quantile")
    parser.add_argument("--out", type=Path, help="path of the JSON file")
    parser.add_argument("--step", choices=("plain", "float32", "bfloat16"), help="a v9 step")
    given = parser.parse_args()
    if given.one or given.step:
        one = measure(given.one, given.quantile) if given.one else measure_step(given.step)
        print(json.dumps(one))
        return
    rows = [measured_apart(count, given.quantile) for count in sorted(given.counts)]
    for row in rows:
        print(
            "{candidates:9,} candidates, {kept:7,} kept: peak {peak_mib:.0f} MiB anonymous "
            "({before_mib:.0f} before), {resident_mib:.0f} MiB resident".format(**row)
        )
    allowed = growth_allowed_mib(rows[0]["candidates"], rows[-1]["candidates"])
    allowed = max(allowed, NOISE_MIB)
    peaks = [row["peak_mib"] - row["before_mib"] for row in rows]  # growth during the work
    grown = peaks[-1] - peaks[0]
    print(f"memory grew by {grown:.0f} MiB; the limit is {allowed:.0f} MiB")
    facts = {"hardware": machine.hardware(), "versions": machine.versions(), "rows": rows}
    out = given.out or records.project_root() / "outputs" / "benchmarks-memory.json"
    records.write_atomic(out, records.to_json(facts) + "\n")
    sys.exit(grown > allowed)


if __name__ == "__main__":
    main()
