"""Rules that find faults in a run's log and in the inputs of that run.

A finding is a reason not to believe a score. A verdict says what moved, and findings say whether
to believe it, so they come first wherever a verdict is shown. docs/findings.md explains each rule,
the source of its limits and its error rates. A rule is a row: its name, whether it is broken, and
the text to show if it is.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ohlora_lib.study.machine import counted
from ohlora_lib.study.records import read_config, read_json, replaced_inputs, root_of, to_json
from ohlora_lib.verdict import verdict as trends
from ohlora_lib.verdict.logs import place_of, properties_of, sources_of
from ohlora_lib.verdict.verdict import listed

DIVERGED_LOSS = 5.0
SATURATED_D_LOSS = 0.1
SATURATED_AUROC = 0.995
# A jump is at least this change, and this many times the largest of 3 changes on either side.
JUMP_SCORE, JUMP_TIMES, JUMP_NEAR = 0.2, 4.0, 3
LEARNING = 1 / 3  # share of the rows in which a steep change toward the target may be learning
UNMOVED = 0.0005  # change of a fixed score that rounding can cause
# Share of the gain that the judge sees; least gain, gap of gains and gap at the end.
FOOLED_SHARE, FOOLED_SCORE = 0.5, 0.1
RIDGE = "ridge regression beside the {}"  # the baseline's name in tables, by role
UNSURE_AUROC = 0.15  # width of its 95 % interval
WEAK_AUROC, GUESSING_AUROC = 0.8, 0.6  # least AUROC; least low end of its interval
LEAST_IMAGES, FEW_IMAGES = 8, 50  # diversity needs the former; fewer than the latter invite copies
OTHER_RATIO = 0.6  # least share of the population's own precision and recall
CNN_ROLES = ("selector", "judge")
INPUTS = {"base_run": "base", "cnn_run": "set of CNNs", "selection_run": "selection"}
UNSTABLE = {"not finite", "diverged", "saturated", "collapsed"}  # faults of training itself
# No reason to doubt the scores, but worth saying first.
REMARKS = {"few rows", "moved away", "few images", "few labels", "other images", "unlike runs"}


@dataclass(frozen=True)
class Finding:
    """One broken rule: its name, and a clause that describes the fault."""

    rule: str
    text: str


def _broken(rules: Iterable[tuple[str, Any, str]]) -> list[Finding]:
    return [Finding(rule, text) for rule, broken, text in rules if broken]


# ---- words --------------------------------------------------------------------------------------


def judged_sentence(table: pd.DataFrame, findings: Sequence[Finding]) -> str:
    """States the findings, then the verdict of `run_verdict`."""
    return f"{findings_sentence(findings)} {trends.verdict_sentence(table)}"


def findings_sentence(findings: Sequence[Finding]) -> str:
    """States whether training was stable, and what to know before reading the scores."""
    stable = {finding.rule for finding in findings} <= REMARKS - {"few rows"}
    return f"{warning(findings)} {'Training was stable.' if stable else ''}".strip()


def warning(findings: Sequence[Finding]) -> str:
    """States what to know before reading any score; empty if there is no finding."""
    kinds = {
        "Do not trust these scores": {finding.rule for finding in findings} - UNSTABLE - REMARKS,
        "Training was not stable": UNSTABLE,
        "Mind": REMARKS,
    }
    said = {
        head: "; ".join(finding.text for finding in findings if finding.rule in rules)
        for head, rules in kinds.items()
    }
    return " ".join(f"{head}: {text}." for head, text in said.items() if text)


def recorded(findings: Sequence[Finding]) -> dict[str, Any]:
    """What a summary keeps of findings: rules, and the warning, with which the verdict begins."""
    rules = [finding.rule for finding in findings]
    return {"findings": rules, "warning": warning(findings)}


# ---- rules on a log -----------------------------------------------------------------------------


def of_log(log: pd.DataFrame, concept: Mapping[str, float]) -> list[Finding]:
    """Finds faults in a log from `read_log`; an empty list means a healthy run."""
    epoch, idx = log[["epoch", "idx"]].iloc[-1]
    # The caller says that the log is complete, or it counts steps, which have no natural end.
    whole = log.attrs.get("complete") or log.attrs.get("by_step") or (idx == 0 and epoch > 0)
    fixed = log.filter([f"fixed_{prop}_score" for prop in properties_of(log)])
    unmoved = not fixed.empty and (fixed.max() - fixed.min() <= UNMOVED).all()
    verdict = trends.run_verdict(log, concept)
    away = list(verdict.loc[verdict["effect"] == "moved away", "property"])
    jump, fooled = _jump(log, concept), _fooled(log, concept, verdict)
    rows = counted(len(log), "row")
    return stability(log) + _broken([
        ("untrained", unmoved and len(log) >= trends.MIN_ROWS,
         "the same latents score the same in every row, so nothing was trained (is the learning "
         "rate 0?)"),
        ("cut off", not whole,
         f"the log ends inside epoch {epoch:.0f}, at batch {idx:.0f}: it is cut off, or "
         "training is still running"),
        ("jump", jump, jump),
        ("fooled", fooled,
         f"the selecting CNNs see a gain that the held-out judge does not: {fooled}"),
        ("few rows", len(log) < 2 * trends.MIN_ROWS,
         f"the log has {rows}, too few to say whether training was stable"),
        ("moved away", away,
         f"{listed(away)} moved away from the target (is it the target that was trained toward?)"),
    ])  # fmt: skip


def stability(log: pd.DataFrame) -> list[Finding]:
    """Finds faults of training; all rules except "not finite" look at its end only."""
    end = log[trends.end_of(log["time_epochs"].to_numpy(float))]
    middle = end.median()
    d_loss, g_loss = middle["d_loss"], middle["g_loss"]
    auroc = middle.get("pooled_auroc", middle.get("real_fake_auroc", np.nan))
    seen = f", AUROC {auroc:.3f}" if np.isfinite(auroc) else ""
    won = auroc >= SATURATED_AUROC and g_loss > DIVERGED_LOSS  # the generator no longer learns
    diversity = end["diversity"].mean() if "diversity" in end else np.nan
    gaps = _gaps(log)
    return _broken([
        ("not finite", gaps, gaps),
        *(("diverged", loss > DIVERGED_LOSS, f"{name} ends at {loss:.4g}, over {DIVERGED_LOSS:g}")
          for name, loss in {"d_loss": d_loss, "g_loss": g_loss}.items()),
        ("saturated", d_loss < SATURATED_D_LOSS or won,
         f"the discriminator tells real from fake too well: d_loss {d_loss:.3f}{seen}"),
        ("collapsed", diversity < trends.COLLAPSED_DIVERSITY,
         f"diversity ends at {diversity:.2f} of the selected images' own, under "
         f"{trends.COLLAPSED_DIVERSITY:g}"),
    ])  # fmt: skip


def _gaps(log: pd.DataFrame) -> str:
    """Describes where a loss, AUROC or mean score is not finite; absent columns do not count."""
    scores, where = [f"mean_{prop}_score" for prop in properties_of(log)], dict[str, list[str]]()
    bad = ~np.isfinite(log.filter(["d_loss", "g_loss", "real_fake_auroc", *scores]))
    for name in bad.columns[bad.any()]:
        count, first = bad[name].sum(), bad[name].argmax()
        words = f"in {count} of {len(log)} rows, the first at {place_of(log, first)}"
        if bad[name][first:].all():
            words = f"from {place_of(log, first)} on ({count} of {len(log)} rows)"
        where.setdefault(words, []).append(name)
    parts = [f"{listed(names)} {words}" for words, names in where.items()]
    return f"no finite number for {'; nor for '.join(parts)}" if parts else ""


def _jump(log: pd.DataFrame, concept: Mapping[str, float]) -> str:
    """Describes the largest abrupt change of a score, unless it may be fast learning."""
    kind, largest, words = "fixed" if "fixed" in sources_of(log) else "mean", 0.0, ""
    for prop in properties_of(log):
        scores = log[f"{kind}_{prop}_score"].dropna()
        for row in _abrupt_steps(scores.to_numpy(float)):
            before, after = scores.iloc[row : row + 2]
            target = concept.get(prop, after)
            late = row >= LEARNING * len(log) or abs(after - target) > abs(before - target)
            if late and abs(after - before) > largest:
                largest = abs(after - before)
                at = place_of(log, log.index.get_loc(scores.index[row + 1]))
                words = (f"at {at} {prop} jumps from {before:.2f} to {after:.2f} between two "
                         "evaluations, as if another network had taken over")  # fmt: skip
    return words


def _abrupt_steps(scores: np.ndarray) -> Iterator[int]:
    """Yields the row before each abrupt change; steps of fast learning grow and shrink."""
    steps = np.diff(scores)
    for row in range(JUMP_NEAR, len(steps)):
        near = np.array([*steps[row - JUMP_NEAR : row], *steps[row + 1 : row + 1 + JUMP_NEAR]])
        largest = np.abs(near).argmax()
        beside = JUMP_NEAR - 1 <= largest <= JUMP_NEAR  # up and down again: one odd evaluation
        if near[largest] * steps[row] < 0 and not beside:
            near[largest] = 0  # the way back
        if abs(steps[row]) >= max(JUMP_SCORE, JUMP_TIMES * np.abs(near).max()):
            yield row


def _fooled(log: pd.DataFrame, concept: Mapping[str, float], verdict: pd.DataFrame) -> str:
    """Lists properties whose gain by the selecting CNNs the held-out judge does not see."""
    if "heldout" not in sources_of(log):
        return ""
    judge = trends.run_verdict(log, concept, source="heldout")
    gain, seen = _gains(log, verdict), _gains(log, judge)
    fooled = (gain > FOOLED_SCORE) & (seen < FOOLED_SHARE * gain)
    fooled &= gain - seen > FOOLED_SCORE
    fooled &= judge["distance_end"] - verdict["distance_end"] > FOOLED_SCORE
    found = zip(verdict["property"][fooled], gain[fooled], seen[fooled], strict=True)
    return listed([f"{prop} by {a:.2f} against {b:.2f}" for prop, a, b in found])


def _gains(log: pd.DataFrame, verdict: pd.DataFrame) -> pd.Series:
    """How much closer each property ends than in the first row, as some learn immediately."""
    source = verdict["source"].iloc[0]
    first = log[[f"{source}_{prop}_score" for prop in verdict["property"]]].bfill().iloc[0]
    return (first.to_numpy() - verdict["target"]).abs() - verdict["distance_end"]


# ---- rules on the inputs of a run ---------------------------------------------------------------


def run_folder(log: pd.DataFrame) -> Path | None:
    """The run folder of a fine-tuning run, finished or not; None for a log without one."""
    file = log.attrs["file"]
    config = read_json(file.parent / "config.json")
    return file.parent if file.name == "train_log.csv" and INPUTS.keys() <= config.keys() else None


def of_training(log: pd.DataFrame, concept: Mapping[str, float]) -> list[Finding]:
    """Finds faults of a fine-tuning run in its log and, if there is one, in its run folder."""
    folder = run_folder(log)
    if folder is None:
        return of_log(log, concept)
    config, root = read_config(folder), root_of(folder)
    runs = {k: read_json(root / config[k] / "summary.json") for k in INPUTS}
    inputs = {name: run for name, run in runs.items() if run.get("status") == "finished"}
    cnns, chosen = (
        inputs.get(name, {}).get("results", {}) for name in ("cnn_run", "selection_run")
    )
    epoch, shared = log["epoch"].iloc[-1], chosen.get("judge_overlap", 0)
    gone = replaced_inputs(folder)
    return [
        *of_log(log, concept),
        *_broken([("cut off", epoch < config["epochs"],
                   f"the log ends in epoch {epoch:.0f} of {config['epochs']}")]),
        *_other_targets(concept, config["concept"], chosen),
        *of_cnns(cnns, concept),
        *of_count(chosen.get("kept", FEW_IMAGES)),
        *_broken([("overlap", shared, f"the held-out judge also learned from {shared:,} of the "
                   "selected images")]),
        *_broken(("other input", name in gone, f"the run used an earlier {INPUTS[name]} than the "
                  f"one now in {gone.get(name)}") for name in INPUTS),
    ]  # fmt: skip


def _other_targets(
    concept: Mapping[str, float], trained: Mapping[str, float], chosen: Mapping[str, Any]
) -> list[Finding]:
    kept, rules = chosen.get("scores", {}).get("kept", {}), []
    for prop, target in concept.items():
        toward, score = trained.get(prop, target), kept.get(f"{prop}_score", target)
        head, same = f"the target of {prop} is {target:g}", toward == target
        rules += [
            (not same, f"{head} here, but the run was fine-tuned toward {toward:g}"),
            (same and abs(score - target) > 0.5,
             f"{head}, but the selected images score {score:.2f}"),
        ]  # fmt: skip
    return _broken(("other target", *rule) for rule in rules)


def made_with(log: pd.DataFrame, evaluation: Path | None = None) -> dict[str, str]:
    """What compared runs should share, as far as known; the evaluation's judge, if one decides."""
    folder = run_folder(log)
    if folder is None:
        return {}
    config, judged = read_config(folder), evaluation or folder
    cnns = read_json(root_of(judged) / read_config(judged)["cnn_run"] / "summary.json")
    base = read_json(root_of(folder) / config["base_run"] / "summary.json")
    size = base.get("results", {}).get("image_px")
    facts = {
        "judges": _weights(cnns, "judge/*"),
        "bases": _weights(base, "generator.*"),
        "image sizes": size and f"{size} px",
        "concepts": to_json(sorted(config["concept"].items())),
    }
    return {name: fact for name, fact in facts.items() if fact}


def _weights(summary: Mapping[str, Any], pattern: str) -> str:
    """Hashes of a run's weight files."""
    files = summary.get("artefacts", [])
    return " ".join(file["sha256"] for file in files if fnmatch(file["path"], pattern))


def of_pair(a: str, b: str, made: Mapping[str, Sequence[Mapping[str, str]]]) -> list[Finding]:
    """Finds that two runs differ in more than their training, by `made_with` of their seeds.

    Seeds of one run may have different judges, as in a sweep. So a fact differs if each run has a
    value that the other lacks.
    """
    differ = []
    for fact in ("judges", "bases", "image sizes", "concepts"):
        ours, theirs = ({seed.get(fact) for seed in made[name]} for name in (a, b))
        if None not in ours | theirs and ours - theirs and theirs - ours:
            differ.append(fact)
    judges = "judges" in differ
    why = "their scores cannot be compared" if judges else "more than their training differs"
    return _broken([("other judge" if judges else "unlike runs", differ,
                     f"{b} and {a} have different {listed(differ)}, so {why}")])  # fmt: skip


def of_cnns(results: Mapping[str, Any], properties: Iterable[str]) -> list[Finding]:
    """Finds property CNNs that are weak, by their AUROC on images they never saw.

    `results` of 03_train_property_cnn hold `auroc`, `auroc_low` and `auroc_high`, by role and
    property.
    """
    weak: dict[str, list[str]] = {}
    beaten: list[str] = []
    unsure: list[str] = []
    for role in CNN_ROLES:
        columns = ("auroc", "auroc_low", "auroc_high")
        auroc, low, high = (results.get(name, {}).get(role, {}) for name in columns)
        for prop in properties:
            if auroc.get(prop, 1) < WEAK_AUROC:
                weak.setdefault(prop, []).append(f"{role} {auroc[prop]:.2f}")
            elif low.get(prop, 1) <= GUESSING_AUROC:
                weak.setdefault(prop, []).append(f"{role} {low[prop]:.2f} at worst")
            elif high.get(prop, 1) - low.get(prop, 1) > UNSURE_AUROC:
                unsure.append(f"{prop} ({role} {low[prop]:.2f} to {high[prop]:.2f})")
            ridge = results.get("auroc", {}).get(RIDGE.format(role), {})
            if prop not in weak and ridge.get(prop, 0) > high.get(prop, 1):
                beaten.append(f"{prop} ({role} {auroc[prop]:.2f}, ridge {ridge[prop]:.2f})")
    parts = [f"{prop} ({', '.join(numbers)})" for prop, numbers in weak.items()]
    text = f"by their AUROC on unseen images (0.5 is guessing), CNNs are weak at {listed(parts)}"
    few = f"one class has so few labels that the AUROC is uncertain: {listed(unsure)}"
    linear = f"a ridge regression on small pictures beats the CNNs on {listed(beaten)}"
    return _broken(
        [
            ("guessing", parts, f"{text}: check the labels, or give more images or epochs"),
            ("few labels", unsure, f"{few}; label more of the rare class"),
            ("ridge", beaten, f"{linear}; train longer, or use `architecture: compact`"),
        ]
    )


def of_base(measured: pd.DataFrame | None) -> list[Finding]:
    """Finds a base whose images differ from the population's, by `evaluator.measure_base`.

    `measured` is None if there is no population to compare with; nothing is found then.
    """
    if measured is None:
        return []
    shares = ["precision", "recall"]
    base, own = measured.loc["base", shares], measured.loc["population", shares]
    parts = [f"{name} {base[name]:.2f} where {own[name]:.2f} is possible" for name in shares]
    return _broken([("other images", not (base >= OTHER_RATIO * own).all(),
                     f"the base's images differ from the population's ({listed(parts)}), which "
                     "fine-tuning cannot change: train a base on the population (`source: train` "
                     "in 02_train_base)")])  # fmt: skip


def of_count(images: int) -> list[Finding]:
    """Finds that too few images were selected."""
    text = f"only {images} images were selected, so samples may be copies of them"
    if images < LEAST_IMAGES:
        text = (f"{images} image{' is' if images == 1 else 's are'} too few to fine-tune on (at "
                f"least {LEAST_IMAGES}): loosen `keep` in 04_select_images")  # fmt: skip
    return _broken([("few images", images < FEW_IMAGES, text)])


def check_enough(images: int) -> None:
    """Raises ValueError if there are too few images to fine-tune on."""
    if images < LEAST_IMAGES:
        raise ValueError(of_count(images)[0].text)
