"""Logs for tests: the published ones, and made ones as noisy as 100 scored samples are."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import signal, special, stats

from ohlora_lib.verdict import logs

DATA = Path(__file__).parent / "data"
PUBLISHED = [DATA / f"train_log_{version}.csv" for version in ("v8", "v9")]
BASE = {"gender": 0.65, "quality": 0.9, "age": 0.31, "glass": 0.19}


def autoregressive(rng, rows, rho):
    """A stationary AR(1) process of deviation 1."""
    raw = rng.standard_normal(rows)
    raw[0] /= np.sqrt(1 - rho**2)
    return signal.lfilter([np.sqrt(1 - rho**2)], [1, -rho], raw)


def score_noise(rng, rows, mean, rho=0.0, wander=(0.0, 0.0)):
    """Means of 100 scores about `mean` (one number or a row each), autocorrelated by `rho`.

    The mean itself wanders on the logit scale: an AR(1) process of this rho and deviation.
    """
    raw = autoregressive(rng, rows, rho)
    size = 100 / rng.uniform(0.6, 1) ** 2
    mean = np.broadcast_to(mean, rows)
    if wander[1]:
        mean = special.expit(
            special.logit(mean) + wander[1] * autoregressive(rng, rows, wander[0])
        )
    return stats.beta.ppf(stats.norm.cdf(raw), mean * size, (1 - mean) * size).round(4)


def make_log(seed=0, rows=24, epochs=4, ends=None, rho=0.0, wander=(0.0, 0.0)):
    """A healthy log whose scores go from BASE to `ends`."""
    rng = np.random.default_rng(seed)
    per = -(-rows // epochs)
    log = pd.DataFrame({"epoch": np.arange(rows) // per, "idx": np.arange(rows) % per * 10})
    log.loc[rows - 1, ["epoch", "idx"]] = epochs, 0  # the batch that closes the last epoch
    log["d_loss"] = 1.3 + 0.1 * rng.standard_normal(rows)
    log["g_loss"] = 1.0 + 0.2 * rng.standard_normal(rows)
    log["real_fake_auroc"] = rng.uniform(0.7, 1, rows).round(4)
    way = 1 - np.exp(-4 * np.linspace(0, 1, rows))
    for prop, start in BASE.items():
        end = (ends or BASE).get(prop, start)
        mean = start + (end - start) * way
        log[f"mean_{prop}_score"] = score_noise(rng, rows, mean, rho, wander)
    log["diversity"] = 1 + 0.03 * rng.standard_normal(rows)
    return log.assign(time_epochs=logs.time_epochs(log))


def write(log, path):
    log.drop(columns="time_epochs").to_csv(path)
    return path
