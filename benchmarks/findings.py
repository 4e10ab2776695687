"""Measures how often each rule on a log raises a false alarm or misses a failure.

`python -m benchmarks.findings` prints the table of `docs/findings.md` from the stored logs: 24
fine-tuning runs of the quickstart with five learning rates, and 11 training runs of a generator
that raise the selecting CNNs' scores and lower the held-out judge's.
`benchmarks/finding_logs.py` trains logs like them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pandas as pd

from ohlora_lib.verdict import findings
from ohlora_lib.verdict.logs import properties_of, read_log, sources_of, time_epochs
from ohlora_lib.verdict.verdict import PUBLISHED_CONCEPT as CONCEPT
from tests.log_samples import BASE, DATA, PUBLISHED, make_log

STORED = DATA / "finding-logs.csv.gz"
Log = pd.DataFrame
Random = np.random.Generator
LEAST_STEP = 0.25  # least size of a planted jump, because noise may hide part of it
EACH = 60  # logs per planted failure
STABILITY = ("not finite", "diverged", "saturated", "collapsed")  # rules of `findings.stability`


# ---- logs without a failure ---------------------------------------------------------------------


@cache
def stored(kind: str) -> list[Log]:
    """Stored logs of a kind: "quickstart" or "fooled"."""
    table = pd.read_csv(STORED)
    logs = []
    for name, part in table[table["log"].str.startswith(kind)].groupby("log"):
        log = part.drop(columns="log").dropna(axis=1, how="all").reset_index(drop=True)
        log = log.assign(time_epochs=time_epochs(log))
        log.attrs["name"] = name
        logs.append(log)
    return logs


@cache
def real() -> list[Log]:
    """Logs of training runs without a failure."""
    files = [*sorted(DATA.glob("healthy-*.csv")), *PUBLISHED]
    return [*stored("quickstart"), *map(read_log, files)]


def healthy() -> Iterator[Log]:
    """Real logs, unchanged, thinned and disturbed; synthetic logs; fast learners."""
    random = np.random.default_rng(0)
    yield from real()
    for log in real():
        yield log[(log.index % 2 == (len(log) - 1) % 2)].reset_index(drop=True)
        yield disturbed(log, random)
    for seed in range(40):
        ends = CONCEPT if seed % 2 else BASE
        ends = {prop: 0.2 * BASE[prop] + 0.8 * end for prop, end in ends.items()}
        yield make_log(seed, 24 * (1 + seed % 4), ends=ends, rho=0.2 * (seed % 3))
    for log in real()[:28]:
        yield fast_learner(log, random)


def disturbed(log: Log, random: Random) -> Log:
    """Adds an outlier batch, an outlier evaluation, and the score noise of 50 samples."""
    log = log.copy()
    wild, odd = random.integers(3, len(log) - 3, 2)
    log.loc[wild, ["d_loss", "g_loss"]] *= random.uniform(3, 30)
    for prop in properties_of(log):
        shift = random.normal(0, 0.03, len(log))  # shared: both ensembles score the same samples
        shift[odd] += random.uniform(-0.3, 0.3)
        for kind in ("mean", "heldout"):
            set_scores(log, kind, prop, shift + log.get(f"{kind}_{prop}_score", np.nan))
    return log


def fast_learner(log: Log, random: Random) -> Log:
    """All properties cover most of the way in one to three evaluations, in the first quarter."""
    onset = random.uniform(-1, 0.25 * len(log))
    way = 1 / (1 + np.exp(-(log.index - onset) / random.uniform(0.05, 0.8)))
    log = log.copy()
    for prop in properties_of(log):
        start = float(log[f"mean_{prop}_score"].iloc[0])
        for kind in sources_of(log):
            noise = random.normal(0, 0.003 if "fixed" in kind else 0.03, len(log))
            set_scores(log, kind, prop, start + 0.85 * (CONCEPT[prop] - start) * way + noise)
    return log


def set_scores(log: Log, kind: str, prop: str, values: np.ndarray | pd.Series) -> None:
    """Sets a score column if the log has it."""
    if f"{kind}_{prop}_score" in log:
        log[f"{kind}_{prop}_score"] = np.clip(values, 0, 1).round(4)


# ---- planted failures ---------------------------------------------------------------------------
# Each returns the log with the failure planted, or None if the failure cannot occur in this log.


def untrained(log: Log, random: Random) -> Log | None:
    """Learning rate 0: fresh samples vary; fixed ones are equal, or differ by a GPU's rounding."""
    if "fixed" not in sources_of(log):
        return None
    log, rounding = log.copy(), random.choice([0, 1e-4])
    for prop in properties_of(log):
        for kind in sources_of(log):
            size = rounding if "fixed" in kind else 0.03
            noise = random.uniform(-1.7, 1.7, len(log)) * size
            set_scores(log, kind, prop, log[f"{kind}_{prop}_score"].iloc[0] + noise)
    return log


def cut_off(log: Log, random: Random) -> Log | None:
    """Training stopped inside an epoch."""
    log = log[: random.integers(6, len(log))]
    return log if log["idx"].iloc[-1] else None


def few_rows(log: Log, random: Random) -> Log:
    """Training stopped after a few evaluations."""
    return log[: random.integers(1, 6)]


def jump(log: Log, random: Random) -> Log | None:
    """Continues with another run's start or end, or inserts a few rows of that end."""
    donors = [other for other in real() if sources_of(other) == sources_of(log)]
    other = donors[random.integers(len(donors))]
    at, way, log = random.integers(4, len(log) - 4), random.integers(3), log.copy()
    rows = min(len(log) - at, len(other), random.integers(2, 6) if way == 2 else len(log))
    part = other[:rows] if way == 0 else other[-rows:]
    names = [name for name in log if name.endswith("_score") or name == "diversity"]
    names = [name for name in names if name in part]
    log.loc[at : at + rows - 1, names] = part[names].to_numpy()
    kind = "fixed" if "fixed" in sources_of(log) else "mean"
    steps = log[[f"{kind}_{prop}_score" for prop in properties_of(log)]].diff().abs()
    return log[: at + rows if way < 2 else None] if steps.loc[at].max() > LEAST_STEP else None


def fooled(log: Log, random: Random) -> Log | None:
    """The judge sees less than a third of a property's gain, or a change the other way."""
    gains = {p: abs(log[f"mean_{p}_score"].iloc[-5:].mean() - log[f"mean_{p}_score"].iloc[0])
             for p in properties_of(log)}  # fmt: skip
    prop = max(gains, key=gains.get)
    if "heldout" not in sources_of(log) or gains[prop] < 0.2:
        return None
    log, seen = log.copy(), random.uniform(-0.5, 0.3)
    for kind, judge in (("mean", "heldout"), ("fixed", "fixed_heldout")):
        score = log[f"{kind}_{prop}_score"]
        judged = log[f"{judge}_{prop}_score"].iloc[0] + seen * (score - score.iloc[0])
        set_scores(log, judge, prop, judged + random.normal(0, 0.02, len(log)))
    return log


def moved_away(log: Log, random: Random) -> Log | None:
    """A property moves away from its target by 0.2 to 0.4, with at most twice its noise."""
    prop = properties_of(log)[random.integers(len(properties_of(log)))]
    scores = log[f"mean_{prop}_score"]
    start, gain = scores.iloc[0], scores.iloc[-5:].mean() - scores.iloc[0]
    back = random.uniform(0.2, 0.4)
    room = start if CONCEPT[prop] else 1 - start
    if gain * (CONCEPT[prop] - start) <= 0 or abs(gain) < back / 2 or room < back:
        return None
    log = log.copy()
    for kind in sources_of(log):
        own = log[f"{kind}_{prop}_score"]
        set_scores(log, kind, prop, own.iloc[0] - (own - own.iloc[0]) * back / abs(gain))
    return log


def not_finite(log: Log, random: Random) -> Log:
    """A value is missing or infinite, in one row or from one row on."""
    names = ["d_loss", "g_loss", "real_fake_auroc"]
    names += [f"mean_{prop}_score" for prop in properties_of(log)]
    log, at = log.copy(), random.integers(len(log))
    name = names[random.integers(len(names))]
    value = np.inf if name.endswith("loss") and random.random() < 0.5 else np.nan
    log.loc[at : random.choice([at, len(log)]), name] = value
    return log


def late(log: Log, random: Random) -> tuple[Log, pd.Index]:
    """A copy, and its rows after the first 20 % to 75 %, drawn at random."""
    return log.copy(), log.index[int(random.uniform(0.2, 0.75) * len(log)) :]


def diverged(log: Log, random: Random) -> Log:
    """A loss rises to between 8 and 1,000, at once or gradually, and fluctuates."""
    log, rows = late(log, random)
    way = np.minimum(1, np.arange(1, len(rows) + 1) / random.uniform(1, 0.6 * len(rows)))
    top, swings = np.log(8) + random.uniform(0, 5), random.normal(0, 0.3, len(rows))
    log.loc[rows, random.choice(["d_loss", "g_loss"])] = np.exp(top * way + swings)
    return log


def saturated(log: Log, random: Random) -> Log:
    """The discriminator wins: its loss falls below 0.1, or the generator's rises above 5."""
    log, rows = late(log, random)
    swings = np.exp(random.normal(0, 0.3, (2, len(rows))))
    log.loc[rows, "d_loss"] = random.uniform(0.001, 0.07) * swings[0]
    log.loc[rows, "g_loss"] = random.uniform(3, 12) * swings[1]
    for name in log.filter(["real_fake_auroc", "pooled_auroc"]):
        log.loc[rows, name] = np.minimum(1, random.uniform(0.99, 1.01, len(rows)))
    return log


def collapsed(log: Log, random: Random) -> Log | None:
    """Diversity falls to between 0.05 and 0.6 of the selected images' diversity."""
    if "diversity" not in log:
        return None
    log, rows = late(log, random)
    way = np.minimum(1, np.arange(1, len(rows) + 1) / random.uniform(1, 0.6 * len(rows)))
    end = random.uniform(0.05, 0.6) * np.exp(random.normal(0, 0.1, len(rows)))
    log.loc[rows, "diversity"] = (log.loc[rows, "diversity"] * (1 - way) + end * way).round(4)
    return log


PLANTS: dict[str, Callable[[Log, Random], Log | None]] = {
    plant.__name__.replace("_", " "): plant
    for plant in (
        *(not_finite, diverged, saturated, collapsed),
        *(untrained, cut_off, few_rows, jump, fooled, moved_away),
    )
}


def planted(rule: str) -> Iterator[Log]:
    """At least `EACH` logs in which a rule must find something."""
    random, hosts, count = np.random.default_rng(1), real(), 0
    while count < EACH:
        log = PLANTS[rule](hosts[random.integers(len(hosts))], random)
        if log is not None:
            count += 1
            yield log
    if rule == "fooled":
        yield from stored("fooled")


# ---- the table ----------------------------------------------------------------------------------


def called(log: Log) -> set[str]:
    """Rules that find something in a log; logs with glasses alone were trained toward glasses."""
    concept = {"glass": 1.0} if properties_of(log) == ["glass"] else CONCEPT
    return {finding.rule for finding in findings.of_log(log, concept)}


def found(rule: str, log: Log) -> bool:
    """Whether a rule finds something in a log; rules of stability need no verdict."""
    if rule in STABILITY:
        return rule in {finding.rule for finding in findings.stability(log)}
    return rule in called(log)


def rates() -> pd.DataFrame:
    """One row per rule: false alarms and hits, each with its number of logs."""
    fine = [called(log) for log in healthy()]
    rows = []
    for rule in PLANTS:
        hits = [found(rule, log) for log in planted(rule)]
        alarms = sum(rule in rules for rules in fine)
        rows.append({"rule": rule, "false_alarms": alarms, "healthy": len(fine),
                     "hits": sum(hits), "planted": len(hits)})  # fmt: skip
    return pd.DataFrame(rows)


if __name__ == "__main__":
    print(rates().to_string(index=False))
