"""Measures all cases, prints a table and writes outputs/benchmarks.json."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.cases import QUICK, Case, Sizes, all_cases
from ohlora_lib import machine, records
from ohlora_lib.precision import pick_device, pick_precision

REPEATS = 5


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of some work, the device's share included."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def measure(case: Case, repeats: int, device: torch.device) -> dict[str, Any]:
    """Runs both ways in turn, so that whatever else the machine does meets both alike."""
    pairs = [
        (seconds(case.ours, device), seconds(case.plain, device)) for _ in range(repeats + 1)
    ][1:]  # the first round warms up
    ratios = [plain / ours for ours, plain in pairs]
    return {
        "case": case.name,
        "ours_sec": median(ours for ours, _ in pairs),
        "plain_sec": median(plain for _, plain in pairs),
        "times_faster": median(ratios),
        "times_faster_low": min(ratios),
        "times_faster_high": max(ratios),
        "plain_means": case.difference,
    }


def measure_import(repeats: int) -> dict[str, float]:
    """Seconds from the start of Python to its end, without and with this package imported."""
    found = {}
    for name, code in (("bare_sec", "pass"), ("ohlora_lib_sec", "import ohlora_lib")):
        command = [sys.executable, "-c", code]
        work = [
            seconds(lambda: subprocess.run(command, check=True), torch.device("cpu"))  # noqa: B023
            for _ in range(repeats + 1)
        ]
        found[name] = median(work[1:])
    return found


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a test, not a result")
    parser.add_argument("--out", type=Path, help="JSON file (outputs/benchmarks.json)")
    given = parser.parse_args()
    sizes, repeats = (QUICK, 1) if given.quick else (Sizes(), REPEATS)
    device = pick_device("auto")
    precision = pick_precision("auto", device)
    facts = {
        "hardware": machine.hardware(),
        "versions": machine.versions(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "precision": precision,
        "sizes": vars(sizes),
        "repeats": repeats,
    }
    hardware = facts["hardware"]
    print(f"{hardware['cpu']}, {hardware['cores']} cores, GPUs: {hardware['gpus'] or 'none'}")
    print(f"on {device} in {precision}; medians of {repeats}; ratios with their range", flush=True)
    rows = []
    for case in all_cases(sizes, device, precision):
        row = measure(case, repeats, device)
        rows.append(row)
        low, high = row["times_faster_low"], row["times_faster_high"]
        print(f"{case.name}: {row['times_faster']:.2f} times as fast ({low:.2f} to {high:.2f}),")
        print(f"    {row['ours_sec']:.3f} s against {row['plain_sec']:.3f} s: {case.difference}")
        sys.stdout.flush()
    imports = measure_import(repeats)
    added_ms = 1000 * (imports["ohlora_lib_sec"] - imports["bare_sec"])
    print(f"import ohlora_lib: adds {added_ms:.0f} ms to {1000 * imports['bare_sec']:.0f} ms")
    out = given.out or records.project_root() / "outputs" / "benchmarks.json"
    records.write_atomic(out, records.to_json({**facts, "cases": rows, "import": imports}) + "\n")
    print(out)


if __name__ == "__main__":
    main()
