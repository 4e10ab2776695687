"""Evidence in addition to mean scores: AUROC, calibration, agreement of CNNs, copies.

Axes: S samples, N selected images, F features, H image height.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ohlora_lib.io.images import Images
from ohlora_lib.population.label_curve import auroc_interval
from ohlora_lib.population.labels import drawn_at_random
from ohlora_lib.properties.ensemble import Ensemble, unseen_auroc

BINS, DRAWS = 10, 500  # intervals of the score; resamples of the images
COPIED_RATIO = 0.5  # a sample at a lower ratio, see `nearest_selected`, counts as a copy


def at_random(unseen: Mapping[str, pd.DataFrame], labels: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of `ensemble.unseen_scores`, by role, of images drawn at random: fair tests.

    `labels` is the table whose index `unseen` calls `image`; without `source`, all rows remain.
    """
    drawn = labels.index[drawn_at_random(labels)]
    return {role: table[table["image"].isin(drawn)] for role, table in unseen.items()}


def auroc_table(unseen: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """AUROC of each ensemble and property on images that the ensemble never saw.

    Takes tables of `ensemble.unseen_scores` by role; returns one row per role and property with
    auroc, auroc_low and auroc_high (95 % interval).
    """
    rows = {}
    for role, table in unseen.items():
        for prop, auroc in unseen_auroc(table).items():
            labels = table.loc[table["property"] == prop, "label"]
            counts = (labels == 1).sum(), (labels == 0).sum()
            rows[role, prop] = (auroc, *auroc_interval(auroc, *counts))
    index = pd.MultiIndex.from_tuples(rows, names=["by", "property"])
    return pd.DataFrame(rows.values(), index, ["auroc", "auroc_low", "auroc_high"])


def calibration_table(unseen: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Expected calibration error of tables of `ensemble.unseen_scores` by role.

    The error is the mean gap between score and share of ones in ten equal intervals of the score,
    weighted by image count. Returns one row per role and property, with a 95 % bootstrap interval
    over images. Resampling adds gaps of its own, so its quantiles are reflected at the error. The
    low end is 0 if labels drawn from the scores would show an error this large.
    """
    random, rows = np.random.default_rng(0), {}
    for role, table in unseen.items():
        for prop, group in table.groupby("property", sort=False):
            score = group["score"].to_numpy()
            interval = np.clip(score * BINS, 0, BINS - 1).astype(int)
            bins, count = np.eye(BINS)[interval], len(score)  # (N, BINS)
            gap = score - group["label"].to_numpy()
            weights = (random.poisson(1, count) for _ in range(DRAWS))
            again = [np.abs((w * gap) @ bins).sum() / count for w in weights]
            drawn = (score - (random.random(count) < score) for _ in range(DRAWS))
            honest = [np.abs(other @ bins).sum() / count for other in drawn]
            error = np.abs(gap @ bins).sum() / count
            low, high = 2 * error - np.quantile(again, [0.975, 0.025])
            low = 0.0 if error <= np.quantile(honest, 0.95) else max(low, 0.0)
            rows[role, prop] = (error, low, max(high, error))
    index = pd.MultiIndex.from_tuples(rows, names=["by", "property"])
    return pd.DataFrame(rows.values(), index, ["error", "error_low", "error_high"])


def labels_to_check(unseen: pd.DataFrame) -> pd.DataFrame:
    """Images whose score confidently contradicts their label, most confident first.

    Takes a table of `ensemble.unseen_scores`. An image is listed if its score for the other label
    exceeds 0.5 and the mean score for that label among images that carry it.
    Source: confident learning; Northcutt, Jiang and Chuang, "Confident Learning: Estimating
    Uncertainty in Dataset Labels", 2021, https://arxiv.org/abs/1911.00068.
    """
    own = unseen["score"].where(unseen["label"] == 1, 1 - unseen["score"])  # for its label
    confidence = own.groupby([unseen["property"], unseen["label"]]).mean()
    others = pd.MultiIndex.from_arrays([unseen["property"], 1 - unseen["label"]])
    usual = confidence.reindex(others).to_numpy()  # NaN where no image has the other label
    doubted = (own < 0.5) & (1 - own >= usual)
    return unseen.assign(own=own)[doubted].sort_values("own", kind="stable").drop(columns="own")


def member_table(ensembles: Mapping[str, Ensemble], images: Images) -> pd.DataFrame:
    """Mean scores of images, uint8 (S, H, H, 3), by each single CNN of each ensemble.

    One row per ensemble and property: the mean vote, the lowest and highest mean of one CNN, and
    `disagreement`, the CNNs' standard deviation averaged over images.
    """
    rows = []
    for name, ensemble in ensembles.items():
        for prop, scores in ensemble.member_scores(images).items():  # (S, K)
            means, spread = scores.float().mean(dim=0), scores.float().std(dim=1, correction=0)
            vote = ensemble.vote(prop, scores.float())
            values = vote.mean(), means.min(), means.max(), spread.mean()
            rows.append([name, prop, scores.shape[1], *(value.item() for value in values)])
    columns = ["by", "property", "CNNs", "mean", "lowest", "highest", "disagreement"]
    return pd.DataFrame(rows, columns=columns)


def nearest_selected(samples: Tensor, selected: Tensor) -> pd.DataFrame:
    """Finds the selected image nearest to each sample; features are (S, F) and (N, F).

    One row per sample, nearest first, with the sample's number as index: `row` of the selected
    image, and `ratio` of the distance to the median between a selected image and its nearest.
    """
    own = torch.cdist(selected.float(), selected.float())  # (N, N)
    own.fill_diagonal_(float("inf") if len(selected) > 1 else float("nan"))
    usual = own.min(dim=1).values.median().clamp(min=1e-12)
    distance, rows = torch.cdist(samples.float(), selected.float()).min(dim=1)
    found = {"row": rows.cpu().numpy(), "ratio": (distance / usual).cpu().numpy()}
    return pd.DataFrame(found).sort_values("ratio", kind="stable")


def copies_sentence(ratio: pd.Series) -> str:
    """States how many samples look like copies, by the `ratio` of `nearest_selected`."""
    if ratio.isna().any():
        return "There are fewer than two selected images, so copies cannot be recognised."
    return (
        f"{(ratio < COPIED_RATIO).sum()} of {len(ratio)} samples look like copies: they are "
        f"nearer to a selected image than {COPIED_RATIO:g} times the usual distance between "
        f"selected neighbours. The median sample is at {ratio.median():.2f} times that."
    )


def examples(
    scores: pd.DataFrame, concept: Mapping[str, float], count: int
) -> dict[str, np.ndarray]:
    """Rows of at most `count` samples by kind: random, best, median, worst.

    Random samples are the first `count`; the others are ranked by distance to the look.
    `scores` has one row per sample and one column per property.
    """
    distance = sum((scores[prop] - target).abs() for prop, target in concept.items())
    order = np.argsort(distance.to_numpy(), kind="stable")
    count = min(count, len(order))
    kinds = {"best": 0, "median": (len(order) - count) // 2, "worst": len(order) - count}
    ranked = {kind: order[first : first + count] for kind, first in kinds.items()}
    return {"random": np.arange(count), **ranked}
