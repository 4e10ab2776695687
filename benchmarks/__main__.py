"""Measures all cases, prints them and writes outputs/benchmarks.json."""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from benchmarks.cases import QUICK, Case, Sizes, all_cases
from ohlora_lib import machine, records
from ohlora_lib.precision import pick_device, pick_precision


def seconds(work: Callable[[], object]) -> float:
    """Wall time of some work, a GPU's share included."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(case: Case, repeats: int) -> dict[str, object]:
    """Runs both ways in turn, so that whatever else the machine does meets both alike."""
    rounds = [(seconds(case.ours), seconds(case.plain)) for _ in range(repeats + 1)]
    ours, plain = zip(*rounds[1:], strict=True)  # the first round warms up
    ratios = [b / a for a, b in zip(ours, plain, strict=True)]
    return {
        **{"case": case.name, "plain_means": case.difference},
        **{"ours_sec": median(ours), "plain_sec": median(plain)},
        **{"times_faster": median(ratios), "lowest": min(ratios), "highest": max(ratios)},
    }


def python_seconds(code: str, repeats: int) -> float:
    """Median wall time of a Python process that runs some code."""
    command = [sys.executable, "-c", code]
    return median(seconds(lambda: subprocess.run(command, check=True)) for _ in range(repeats))


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a test, not a result")
    parser.add_argument("--out", type=Path, help="the JSON file")
    given = parser.parse_args()
    sizes, repeats = (QUICK, 1) if given.quick else (Sizes(), 5)
    device = pick_device("auto")
    precision = pick_precision("auto", device)
    hardware = machine.hardware() | {"threads": torch.get_num_threads()}
    facts = {"hardware": hardware, "versions": machine.versions(), "sizes": vars(sizes)}
    facts |= {"device": str(device), "precision": precision, "repeats": repeats, "cases": []}
    print(", ".join(f"{k}: {v}" for k, v in hardware.items() if v))
    print(f"on {device} in {precision}; medians of {repeats}, range in brackets", flush=True)
    for case in all_cases(sizes, device, precision):
        row = measure(case, repeats)
        facts["cases"].append(row)
        print("{case}: {times_faster:.2f} times as fast [{lowest:.2f} to {highest:.2f}],\n    "
              "{ours_sec:.3f} s against {plain_sec:.3f} s ({plain_means})".format(**row),
              flush=True)  # fmt: skip
    bare, ours = (python_seconds(code, repeats) for code in ("pass", "import ohlora_lib"))
    facts["import"] = {"bare_sec": bare, "ohlora_lib_sec": ours}
    print(f"import ohlora_lib: {1000 * ours:.0f} ms; Python without it: {1000 * bare:.0f} ms")
    out = given.out or records.project_root() / "outputs" / "benchmarks.json"
    records.write_atomic(out, records.to_json(facts) + "\n")
    print(out)


if __name__ == "__main__":
    main()
