"""Measures all cases, prints the results and writes outputs/benchmarks.json."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import torch

from benchmarks.cases import (
    PROPERTIES,
    PUBLISHED,
    PUBLISHED_2,
    QUICK,
    QUICK_2,
    SMALL,
    SMALL_2,
    Case,
    all_cases,
)
from benchmarks.peak import count_flops, peak_flops, seconds
from ohlora_lib.base.base import copy_shipped, load_base
from ohlora_lib.nets import PropertyCNN
from ohlora_lib.nets.compute import choice_sentence, pick_device, pick_precision
from ohlora_lib.properties.ensemble import Ensemble
from ohlora_lib.study import machine, records
from ohlora_lib.widgets.explorer import Explorer, Latent

SIZES = {"64": (SMALL, SMALL_2), "256": (PUBLISHED, PUBLISHED_2)}


def measure(case: Case, rounds: int | None) -> dict[str, object]:
    """Times both implementations in turn, so that other load on the machine affects both alike."""
    count = rounds or case.rounds
    flops = [count_flops(work) for work in (case.ours, case.plain)]  # also the warm-up
    timings = [(seconds(case.ours), seconds(case.plain)) for _ in range(count)]
    ours, plain = zip(*timings, strict=True)
    ratios = [b / a for a, b in timings]
    return {
        **{"case": case.name, "plain_means": case.difference, "rounds": count},
        **{"ours_sec": median(ours), "plain_sec": median(plain)},
        **{"times_faster": median(ratios), "lowest": min(ratios), "highest": max(ratios)},
        **{"ours_gflop": flops[0] / 1e9, "plain_gflop": flops[1] / 1e9},
    }


def show(row: dict[str, object], peak: float) -> None:
    """Prints the result of one case."""
    row["ours_gflop_per_sec"] = row["ours_gflop"] / row["ours_sec"]
    row["share_of_peak"] = row["ours_gflop_per_sec"] * 1e9 / peak
    print("{case}: {times_faster:.2f} times as fast [{lowest:.2f} to {highest:.2f}]\n"
          "    {ours_sec:.3f} s against {plain_sec:.3f} s; {ours_gflop:.0f} GFLOP against "
          "{plain_gflop:.0f}; {ours_gflop_per_sec:.0f} GFLOP/s, {share_of_peak:.0%} of the peak\n"
          "    plain: {plain_means}".format(**row), flush=True)  # fmt: skip


def python_seconds(code: str, repeats: int = 5) -> float:
    """Median wall time of a Python process that runs the given code."""
    command = [sys.executable, "-c", code]
    return median(seconds(lambda: subprocess.run(command, check=True)) for _ in range(repeats))


def view_seconds() -> float:
    """Median wall time of one explorer view at 64 px, with two generators and eight CNNs."""
    with tempfile.TemporaryDirectory() as folder:
        copy_shipped(Path(folder))
        before = load_base(Path(folder)).generator
    after = before.split(SMALL.wide_dim, torch.Generator().manual_seed(0))
    cnns = {p: [PropertyCNN(p, image_px=64, width=SMALL.cnn_width)] * 2 for p in PROPERTIES}
    explorer = Explorer({"before": before, "after": after}, Ensemble(cnns))
    return median(explorer.view(Latent(seed=seed)).seconds for seed in range(9))


def stage_seconds(study: Path) -> dict[str, float]:
    """Wall time of each finished stage of a study, read from the summaries."""
    found = sorted(study.glob("*/summary.json"))
    texts = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in found}
    return {stage: summary["wall_sec"] for stage, summary in texts.items()}


def main() -> None:
    """Measures all cases and reports them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a test, not a result")
    parser.add_argument("--px", choices=[*SIZES, "all"], default="all", help="image size")
    parser.add_argument("--only", default="", help="run only cases whose name contains this")
    parser.add_argument("--rounds", type=int, help="timings per case; the median counts")
    parser.add_argument("--out", type=Path, help="path of the JSON file")
    given = parser.parse_args()
    chosen = [s for px, pair in SIZES.items() if given.px in {px, "all"} for s in pair]
    device = pick_device("auto")
    precision = pick_precision("auto", device)
    # Where bfloat16 is not the faster format, measuring its peak takes minutes.
    peaks = {kind: peak_flops(device, kind) for kind in dict.fromkeys(("float32", precision))}
    hardware = machine.hardware() | {"threads": torch.get_num_threads()}
    facts = {"hardware": hardware, "versions": machine.versions(), "device": str(device)}
    facts |= {"precision": precision, "peak_flops": peaks, "cases": []}
    print(", ".join(f"{k}: {v}" for k, v in hardware.items() if v))
    print(f"on {device} in {precision}: {choice_sentence(precision, device)}")
    print("peak: " + ", ".join(f"{v / 1e9:.0f} GFLOP/s in {k}" for k, v in peaks.items()))
    for sizes in (QUICK, QUICK_2) if given.quick else chosen:
        for case in all_cases(sizes, device, precision):
            if given.only in case.name:
                row = measure(case, given.rounds)
                show(row, peaks[precision])
                facts["cases"].append(row)
    bare, ours = (python_seconds(code) for code in ("pass", "import ohlora_lib"))
    facts["import"] = {"bare_sec": bare, "ohlora_lib_sec": ours}
    print(f"import ohlora_lib: {1000 * ours:.0f} ms; Python without it: {1000 * bare:.0f} ms")
    facts["explorer_sec"] = view_seconds()
    print(f"a view of the explorer at 64 px: {1000 * facts['explorer_sec']:.0f} ms")
    root = records.project_root()
    facts["quickstart_sec"] = stage_seconds(root / "outputs" / "quickstart")
    for stage, wall in facts["quickstart_sec"].items():
        print(f"quickstart, last run: {stage} {wall:.0f} s")
    out = given.out or root / "outputs" / "benchmarks.json"
    records.write_atomic(out, records.to_json(facts) + "\n")
    print(out)


if __name__ == "__main__":
    main()
