"""What is wrong with a run, by stated rules: on its log, and on what it was made from.

A finding is a reason not to believe a score. A verdict says what moved; findings say whether that
counts, so they come first wherever it is shown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ohlora_lib.study.run_folder import read_config, read_summary, results_sha256, root_of
from ohlora_lib.verdict.input_findings import CNN_ROLES, Finding, of_cnns, of_count
from ohlora_lib.verdict.logs import properties_of, sources_of
from ohlora_lib.verdict.verdict import (
    COLLAPSED_DIVERSITY,
    MIN_ROWS,
    end_of,
    listed,
    run_verdict,
    verdict_sentence,
)

# Two undecided networks have d_loss 2 log 2 = 1.39 and g_loss 0.69.
DIVERGED_LOSS = 5.0
SATURATED_D_LOSS = 0.1
SATURATED_AUROC = 0.995
JUMP_SCORE = 0.2  # least change of a mean score from one evaluation to the next ...
JUMP_TIMES = 4.0  # ... and how many times the changes around it, the way back aside
JUMP_NEAR = 3  # changes around it, on each side
LEARNING = 1 / 3  # of the rows: until then a steep change toward the target may be learning
UNMOVED = 0.0005  # change of a fixed score that rounding can make
FOOLED_SHARE = 0.5  # of the selector's gain, that the held-out judge must confirm
FOOLED_SCORE = 0.1  # least gain in which they must differ, and least distance they end apart
UNSTABLE = {"not finite", "diverged", "saturated", "collapsed"}  # what training itself did
# No reason to doubt the scores, but to be said first.
REMARKS = {"few rows", "moved away", "few images", "other images"}


def judged_sentence(table: pd.DataFrame, findings: Sequence[Finding]) -> str:
    """Findings first, then the verdict of `trends.run_verdict` in plain words."""
    return f"{findings_sentence(findings)} {verdict_sentence(table)}"


def findings_sentence(findings: Sequence[Finding]) -> str:
    """Says whether training was stable, and what else is to be known before the scores."""
    rules = {finding.rule for finding in findings}
    healthy = rules <= REMARKS - {"few rows"}
    return f"{warning(findings)} {'Training was stable.' if healthy else ''}".strip()


def warning(findings: Sequence[Finding]) -> str:
    """Says what is to be known before any score; empty if nothing was found."""
    rules = {finding.rule for finding in findings}
    kinds = {
        "Do not trust these scores": rules - UNSTABLE - REMARKS,
        "Training was not stable": UNSTABLE,
        "Mind": REMARKS,
    }
    said = {head: _joined(findings, kind) for head, kind in kinds.items()}
    return " ".join(f"{head}: {text}." for head, text in said.items() if text)


def _joined(findings: Sequence[Finding], rules: Collection[str]) -> str:
    return "; ".join(finding.text for finding in findings if finding.rule in rules)


# ---- rules on a log -----------------------------------------------------------------------------


def of_log(
    log: pd.DataFrame, concept: Mapping[str, float], *, scores_per_row: int = 100
) -> list[Finding]:
    """What speaks against a log; nothing found means a healthy run.

    All of `stability`, and:
    untrained: the scores of the same latents never differ by more than 0.0005.
    cut off: the last row does not close an epoch, so rows are missing or training goes on.
    few rows: fewer than 6, so that nothing can be said of its course.
    jump: from one row to the next a mean score changes by 0.2 and by 4 times more than in the
        three steps before it and the three after it: another network went on. In the first third
        of the rows a change toward the target is none: so learns a fast learner. The way back is
        left aside, unless it follows at once: that is one odd evaluation.
    fooled: from the first row to the end of training a property came closer by 0.1 or more by
        the selecting ensemble, while the held-out judge sees less than half of that gain, 0.1
        less at the least, and ends 0.1 farther from the target.
    moved away: a property's distance to its target grew; a result, which may mean that another
        target was trained toward.

    Args:
        log: From `read_log`.
        concept: Target of each property.
        scores_per_row: Samples scored for each row.
    """
    verdict = run_verdict(log, concept, scores_per_row=scores_per_row)
    found = [_untrained(log), _cut_off(log), _jump(log, concept), _fooled(log, concept, verdict)]
    found += [_few_rows(log), _moved_away(verdict)]
    return [*stability(log), *filter(None, found)]


def stability(log: pd.DataFrame) -> list[Finding]:
    """What went wrong in training, by stated rules; nothing found means stable.

    not finite: a loss, AUROC or mean score of any row is missing or infinite.
    diverged: the median of d_loss or g_loss over the end of training is over 5.
    saturated: over the end of training the median d_loss is under 0.1, or the median AUROC is
        0.995 or more while the median g_loss is over 5: the generator learns nothing any more.
    collapsed: the mean diversity over the end is under 0.7 of the selected images' own.
    """
    end = log[end_of(log["time_epochs"].to_numpy(float))]
    middle = end.median()
    found = [_not_finite(log)]
    found += [
        Finding("diverged", f"{name} ends at {middle[name]:.2f}, over {DIVERGED_LOSS:g}")
        for name in ("d_loss", "g_loss")
        if middle[name] > DIVERGED_LOSS
    ]
    auroc = middle.get("pooled_auroc", middle.get("real_fake_auroc", np.nan))
    won = auroc >= SATURATED_AUROC and middle["g_loss"] > DIVERGED_LOSS
    if middle["d_loss"] < SATURATED_D_LOSS or won:
        found.append(Finding("saturated", "the discriminator tells real from fake too well: "
                             f"d_loss {middle['d_loss']:.3f}{_auroc_words(auroc)}"))  # fmt: skip
    diversity = end["diversity"].mean() if "diversity" in end else np.nan
    if diversity < COLLAPSED_DIVERSITY:
        found.append(Finding("collapsed", f"diversity ends at {diversity:.2f} of the selected "
                             f"images' own, under {COLLAPSED_DIVERSITY:g}"))  # fmt: skip
    return [finding for finding in found if finding]


def _auroc_words(auroc: float) -> str:
    return f", AUROC {auroc:.3f}" if np.isfinite(auroc) else ""


def _not_finite(log: pd.DataFrame) -> Finding | None:
    watched = ["d_loss", "g_loss", "real_fake_auroc"]
    watched += [f"mean_{prop}_score" for prop in properties_of(log)]
    watched = [name for name in watched if name in log]  # what was never logged is not unstable
    bad = ~np.isfinite(log[watched])
    rows = bad.any(axis=1)
    if not rows.any():
        return None
    first = log[rows].iloc[0]
    where = ", ".join(bad.columns[bad[rows].iloc[0]])
    return Finding("not finite", f"{where} is not a number from epoch {first['epoch']:.0f}, "
                   f"batch {first['idx']:.0f} on ({rows.sum()} of {len(log)} rows)")  # fmt: skip


def _untrained(log: pd.DataFrame) -> Finding | None:
    fixed = log[
        [f"fixed_{prop}_score" for prop in properties_of(log) if "fixed" in sources_of(log)]
    ]
    if fixed.empty or len(log) < MIN_ROWS or not _same_in_every_row(fixed):
        return None
    return Finding("untrained", "the same latents score the same in every row, so nothing was "
                   "trained (is the learning rate 0?)")  # fmt: skip


def _same_in_every_row(scores: pd.DataFrame) -> bool:
    """Whether no score ever changes, but for rounding; one that is missing says nothing."""
    return bool((scores.max() - scores.min() <= UNMOVED).all())


def _cut_off(log: pd.DataFrame) -> Finding | None:
    epoch, idx = log[["epoch", "idx"]].iloc[-1]
    told = log.attrs.get("complete") or log.attrs.get("by_step")  # steps end nowhere in particular
    if told or (idx == 0 and epoch > 0):
        return None
    return Finding("cut off", f"the log ends inside epoch {epoch:.0f}, at batch {idx:.0f}: it is "
                   "cut off, or the training goes on")  # fmt: skip


def _few_rows(log: pd.DataFrame) -> Finding | None:
    if len(log) >= 2 * MIN_ROWS:
        return None
    rows = f"{len(log)} row{'s' * (len(log) > 1)}"
    return Finding("few rows", f"the log has {rows}, too few to say whether training was stable")


def _jump(log: pd.DataFrame, concept: Mapping[str, float]) -> Finding | None:
    kind = "fixed" if "fixed" in sources_of(log) else "mean"
    jumps = [
        (step, prop, row, scores)
        for prop in properties_of(log)
        for scores in [log[f"{kind}_{prop}_score"].dropna()]
        for row, step in _abrupt_steps(scores.to_numpy(float))
        if row >= LEARNING * len(log) or _leads_away(scores.iloc[row : row + 2], concept.get(prop))
    ]
    if not jumps:
        return None
    _, prop, row, scores = max(jumps, key=lambda jump: jump[0])
    at = log.loc[scores.index[row + 1]]
    return Finding("jump", f"at epoch {at['epoch']:.0f}, batch {at['idx']:.0f} {prop} jumps from "
                   f"{scores.iloc[row]:.2f} to {scores.iloc[row + 1]:.2f} between two evaluations"
                   ", as if another network had taken over there")  # fmt: skip


def _leads_away(step: pd.Series, target: float | None) -> bool:
    return target is not None and abs(step.iloc[1] - target) > abs(step.iloc[0] - target)


def _abrupt_steps(scores: np.ndarray) -> Iterator[tuple[int, float]]:
    """Row before each abrupt change, and its size; a fast learner's steps grow and shrink."""
    steps = np.diff(scores)
    for row in range(JUMP_NEAR, len(steps)):
        near = np.array([*steps[row - JUMP_NEAR : row], *steps[row + 1 : row + 1 + JUMP_NEAR]])
        largest = np.abs(near).argmax()
        beside = JUMP_NEAR - 1 <= largest <= JUMP_NEAR  # there and back again: one odd evaluation
        if near[largest] * steps[row] < 0 and not beside:
            near[largest] = 0  # the way back
        if abs(steps[row]) >= max(JUMP_SCORE, JUMP_TIMES * np.abs(near).max()):
            yield row, float(abs(steps[row]))


def _fooled(
    log: pd.DataFrame, concept: Mapping[str, float], verdict: pd.DataFrame
) -> Finding | None:
    if "heldout" not in sources_of(log):
        return None
    judge = run_verdict(log, concept, source="heldout")
    gain, seen = _gains(log, verdict), _gains(log, judge)
    fooled = (gain > FOOLED_SCORE) & (seen < FOOLED_SHARE * gain)
    fooled &= gain - seen > FOOLED_SCORE
    fooled &= judge["distance_end"] - verdict["distance_end"] > FOOLED_SCORE
    if not fooled.any():
        return None
    parts = [
        f"{prop} by {a:.2f} against {b:.2f}"
        for prop, a, b in zip(verdict["property"][fooled], gain[fooled], seen[fooled], strict=True)
    ]
    return Finding("fooled", "the selecting CNNs see a gain that the held-out judge does not: "
                   + listed(parts))  # fmt: skip


def _gains(log: pd.DataFrame, verdict: pd.DataFrame) -> pd.Series:
    """How much closer each property ends than it was in its first row, where learning is fast."""
    source = verdict["source"].iloc[0]
    first = log[[f"{source}_{prop}_score" for prop in verdict["property"]]].bfill().iloc[0]
    return (first.to_numpy() - verdict["target"]).abs() - verdict["distance_end"]


def _moved_away(verdict: pd.DataFrame) -> Finding | None:
    names = list(verdict.loc[verdict["effect"] == "moved away", "property"])
    if not names:
        return None
    return Finding("moved away", f"{listed(names)} moved away from the target (is it the target "
                   "that was trained toward?)")  # fmt: skip


# ---- rules on what a run was made from ----------------------------------------------------------


def of_training(
    log: pd.DataFrame, folder: Path | None, concept: Mapping[str, float]
) -> list[Finding]:
    """What speaks against a fine-tuning: `of_log`, and `of_run` where there is its run folder."""
    return of_log(log, concept) + (of_run(folder, log, concept) if folder else [])


def of_run(folder: Path, log: pd.DataFrame, concept: Mapping[str, float]) -> list[Finding]:
    """What speaks against a fine-tuning, from its run folder and its inputs.

    cut off: the log ends before the last epoch that was asked for.
    other target: the concept is not the one it was trained toward, or the selected images score
        on the other side of it.
    guessing: as of `of_cnns`.
    few images: fewer than 50 were selected to learn from.
    overlap: selected images are among those that the held-out judge learned from.
    other base: what it was made from has been made anew since.

    Args:
        folder: Run folder of a fine-tuning, which need not have finished.
        log: Its log.
        concept: Target of each property.
    """
    summary = read_summary(folder) if (folder / "summary.json").is_file() else {}
    config = read_config(folder)
    if not {"epochs", "concept"} <= config.keys():
        raise ValueError(f"{folder / 'config.json'}: not of a fine-tuning, it has no `epochs` or "
                         "no `concept`. Give the run folder of one.")  # fmt: skip
    return [
        finding
        for rule in (_too_short, _other_target, _guessing, _few, _overlap, _other_input)
        for finding in rule(Chain(config, summary, log, concept, root_of(folder)))
    ]


@dataclass(frozen=True)
class Chain:
    """A fine-tuning and what is known of its inputs."""

    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    log: pd.DataFrame
    concept: Mapping[str, float]
    root: Path  # of the run's own project

    def results(self, name: str) -> dict[str, Any]:
        """Results of an input, by the parameter that names it; none if it is gone."""
        try:
            return read_summary(self.root / self.config[name])["results"]
        except (KeyError, ValueError):
            return {}

    def table(self, name: str, *where: str) -> dict[str, Any]:
        """A table of numbers in the results of an input; empty if it is not there.

        Raises:
            ValueError: If there is something else.
        """
        found: Any = self.results(name)
        for part in where:
            found = found.get(part, {}) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            path = self.root / self.config[name] / "summary.json"
            what = ".".join(where)
            raise ValueError(f"{path}: damaged, {what} is no table. Run that stage again.")
        return found


def _too_short(chain: Chain) -> Iterator[Finding]:
    epoch, asked = chain.log["epoch"].iloc[-1], chain.config["epochs"]
    if epoch < asked:
        yield Finding("cut off", f"the log ends in epoch {epoch:.0f} of {asked}")


def _other_target(chain: Chain) -> Iterator[Finding]:
    kept = chain.table("selection_run", "scores", "kept")
    for prop, target in chain.concept.items():
        trained = chain.config["concept"].get(prop)
        score = kept.get(f"{prop}_score")
        if trained is not None and trained != target:
            yield Finding("other target", f"the target of {prop} is {target:g} here, but the run "
                          f"was fine-tuned toward {trained:g}")  # fmt: skip
        elif score is not None and abs(score - target) > 0.5:
            yield Finding("other target", f"the target of {prop} is {target:g}, but the images it "
                          f"learned from score {score:.2f}")  # fmt: skip


def _guessing(chain: Chain) -> Iterator[Finding]:
    results = {
        name: {role: chain.table("cnn_run", name, role) for role in CNN_ROLES}
        for name in ("auroc", "auroc_low")
    }
    yield from of_cnns(results, chain.concept)


def _few(chain: Chain) -> Iterator[Finding]:
    kept = chain.results("selection_run").get("kept")
    yield from of_count(kept) if kept is not None else ()


def _overlap(chain: Chain) -> Iterator[Finding]:
    shared = chain.results("selection_run").get("judge_overlap", 0)
    if shared:
        yield Finding("overlap", f"{shared:,} of the images it learned from are among those the "
                      "held-out judge learned from")  # fmt: skip


def _other_input(chain: Chain) -> Iterator[Finding]:
    words = {"base_run": "the base", "cnn_run": "the CNNs", "selection_run": "the selection"}
    for name, word in words.items():
        known = chain.summary.get("made_from", {}).get(f"{name}_sha256")
        try:
            summary = read_summary(chain.root / chain.config[name])
        except (KeyError, ValueError):
            continue
        if known and [results_sha256(summary)] != known:
            yield Finding("other input", f"{word} ({chain.config[name]}) was made "
                          "anew after this run, which did not start from it")  # fmt: skip
