"""Measures how often a comparison of two runs errs, and what difference it can show.

`python -m benchmarks.verdict` prints the tables of `docs/verdict.md`: false claims on synthetic
logs whose mean wanders, power of logs and of evaluation sampling, and claims between stored runs
of the quickstart, nine fine-tuning runs that differ only in seed and recipe.
"""

from __future__ import annotations

import argparse
from functools import cache
from itertools import combinations, product

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

from benchmarks import findings
from ohlora_lib.verdict.comparison import compare_groups
from ohlora_lib.verdict.sampling import LATENT, Sampled
from ohlora_lib.verdict.verdict import PUBLISHED_CONCEPT as CONCEPT
from tests.log_samples import DATA, make_log

SCORES = DATA / "quickstart-scores.csv.gz"
SIZES = ((33, 9), (100, 15), (300, 30), (958, 72))  # rows and epochs of a log
WANDERS = ((0.0, 0.0), (0.5, 0.2), (0.8, 0.15), (0.9, 0.1), (0.9, 0.2), (0.95, 0.2))
ENDS = {"gender": 0.85, "quality": 0.91, "age": 0.07, "glass": 0.05}
FARTHER = {"gender": 0.80, "quality": 0.86, "age": 0.12, "glass": 0.10}  # by .05
ALIKE = 0.6  # correlation between two runs' logits of the same latent
SPREAD = 2.0  # standard deviation of the logits


def effects(a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    """The verdict's effect on each property, from two logs."""
    return [*compare_groups({"a": [a], "b": [b]}, "a", "b", CONCEPT)["effect"]]


def of_logs(
    rows: int, epochs: int, wander: tuple[float, float], pairs: int
) -> tuple[float, float]:
    """Share of pairs with a false claim on any property, and mean power at .05."""
    false, power = 0, []
    for pair in range(pairs):
        made = [
            make_log(seed, rows, epochs, ends=ends, wander=wander)
            for seed, ends in ((3 * pair, ENDS), (3 * pair + 1, ENDS), (3 * pair + 2, FARTHER))
        ]
        false += any(effect != "not shown" for effect in effects(*made[:2]))
        power += [effect == "closer" for effect in effects(made[2], made[0])]
    return false / pairs, float(np.mean(power))


@cache
def shift_for(mean: float) -> float:
    """Logit shift that gives this mean score over all latents."""
    logits = SPREAD * stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    return float(optimize.brentq(lambda s: special.expit(logits + s).mean() - mean, -20, 20))


def made_scores(mean: float, base: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Synthetic scores with this mean; `base` is the part that depends on the latents."""
    noise = rng.standard_normal(len(base))
    logits = SPREAD * (np.sqrt(ALIKE) * base + np.sqrt(1 - ALIKE) * noise)
    return special.expit(logits + shift_for(mean))


def of_samples(samples: int, pairs: int, *, paired: bool = True) -> tuple[float, dict[str, float]]:
    """The same for evaluation sampling: false claims on any property, and each one's power."""
    false, shown = 0, dict.fromkeys(ENDS, 0)
    index = pd.MultiIndex.from_product([[0], range(samples)], names=LATENT)
    log = {"a": [make_log(0)], "b": [make_log(1)]}
    for pair, truth in product(range(pairs), (ENDS, FARTHER)):
        rng = np.random.default_rng([pair, truth is ENDS])
        sides = {}
        bases = {prop: rng.standard_normal(samples) for prop in ENDS}
        for name, ends in (("a", truth), ("b", ENDS)):
            if not paired:
                bases = {prop: rng.standard_normal(samples) for prop in ENDS}
            table = {f"heldout_{p}_score": made_scores(ends[p], bases[p], rng) for p in ENDS}
            at = index if paired or name == "a" else index.set_levels([1], level=0)
            sides[name] = [Sampled(pd.DataFrame(table, index=at))]
        found = compare_groups(log, "a", "b", CONCEPT, samples=sides, source="heldout")
        if truth is ENDS:
            false += (found["effect"] != "not shown").any()
        else:
            for row in found.itertuples():
                shown[row.property] += row.effect == "closer"
    return false / pairs, {prop: count / pairs for prop, count in shown.items()}


def stored_runs() -> dict[str, Sampled]:
    """The stored fine-tuning runs of the quickstart with scores, by name, such as "v9-s0"."""
    logs = {log.attrs["name"]: log for log in findings.stored("quickstart")}
    return {
        run: Sampled(part.set_index(LATENT), logs[f"quickstart-{run[:2]}-1e-3-{run[3:]}"])
        for run, part in pd.read_csv(SCORES).groupby("run")
    }


def stored_pairs() -> pd.DataFrame:
    """Verdict of evaluation sampling on each pair of stored runs: a row per pair and property."""
    rows, runs = [], stored_runs()
    for a, b in combinations(runs, 2):
        samples = {"a": [runs[a]], "b": [runs[b]]}
        logs = {"a": [runs[a].log], "b": [runs[b].log]}
        found = compare_groups(logs, "a", "b", CONCEPT, samples=samples, source="heldout")
        rows.append(found.assign(recipes=f"{a[:2]} and {b[:2]}", pair=f"{a} {b}"))
    return pd.concat(rows)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=200)
    pairs = parser.parse_args().pairs
    print("| rows | rho | deviation | false claims | power at .05 |\n|---|---|---|---|---|")
    for (rows, epochs), wander in product(SIZES, WANDERS):
        false, power = of_logs(rows, epochs, wander, pairs)
        print(
            f"| {rows} | {wander[0]:g} | {wander[1]:g} | {false:.1%} | {power:.0%} |", flush=True
        )
    print("\n| samples | latents | false claims | power at .05 by property |\n|---|---|---|---|")
    for samples, paired in product((200, 400, 800), (True, False)):
        false, power = of_samples(samples, pairs, paired=paired)
        words = ", ".join(f"{prop} {share:.0%}" for prop, share in power.items())
        kind = "the same" if paired else "different"
        print(f"| {samples} | {kind} | {false:.1%} | {words} |", flush=True)
    print("\n| runs | pairs | with a claim | by property |\n|---|---|---|---|")
    for recipes, part in stored_pairs().groupby("recipes"):
        shown = part[part["effect"] != "not shown"]
        counts = shown.groupby("property", sort=False).size().to_dict()
        total, claims = part["pair"].nunique(), shown["pair"].nunique()
        print(f"| {recipes} | {total} | {claims} | {counts} |")


if __name__ == "__main__":
    main()
