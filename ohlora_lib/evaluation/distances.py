"""Distances between sets of images, on features of the held-out judge; never called FID.

Axes: N, M images, F features.
Sources: Heusel et al., 2017, https://arxiv.org/abs/1706.08500 (Fréchet distance);
Kynkäänniemi et al., 2019, https://arxiv.org/abs/1904.06991 (precision and recall);
we differ: the features come from property CNNs trained here, not from Inception.
"""

import numpy as np
import torch
from torch import Tensor


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Fréchet distance of two Gaussians fitted to features (N, F) and (M, F); 0 if equal."""
    x, y = a.double().cpu().numpy(), b.double().cpu().numpy()
    mean_gap = x.mean(axis=0) - y.mean(axis=0)
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    # The eigenvalues of a product of two PSD matrices are real and >= 0, but for rounding.
    cross = np.sqrt(np.linalg.eigvals(cov_x @ cov_y).real.clip(min=0)).sum()
    return float(mean_gap @ mean_gap + np.trace(cov_x) + np.trace(cov_y) - 2 * cross)


def mean_pairwise_distance(features: Tensor) -> float:
    """Mean Euclidean distance over all pairs of different rows, features (N, F)."""
    return torch.pdist(features.float()).mean().item()


def share_inside(of: Tensor, by: Tensor, k: int = 3) -> float:
    """Share of the points `of` (N, F) inside the k-nearest-neighbour balls of `by` (M, F).

    Real images as `by` and samples as `of` give precision; the reverse gives recall.
    """
    own = torch.cdist(by.float(), by.float())  # (M, M)
    radius = own.kthvalue(min(k + 1, len(by)), dim=1).values  # (M,), the first neighbour is itself
    inside = torch.cdist(of.float(), by.float()) <= radius  # (N, M)
    return inside.any(dim=1).float().mean().item()


def compare_features(real: Tensor, fake: Tensor) -> dict[str, float]:
    """Fréchet distance, precision and recall of samples (M, F) against real images (N, F)."""
    precision, recall = share_inside(fake, real), share_inside(real, fake)
    return {"frechet": frechet_distance(real, fake), "precision": precision, "recall": recall}


class DiversityScale:
    """Diversity of samples as a ratio to the selected images', features (N, F).

    Half of these set the scale, but at most `sample_size`, the number of samples to compare.
    """

    def __init__(self, selected: Tensor, sample_size: int, *, seed: int = 0) -> None:
        order = torch.randperm(len(selected), generator=torch.Generator().manual_seed(seed))
        half = max(len(selected) // 2, 1)
        yardstick = selected[order[:half][:sample_size].to(selected.device)]
        self.reference = selected[order[half:].to(selected.device)]
        self.own_distance = mean_pairwise_distance(yardstick)
        self.own_recall = share_inside(self.reference, yardstick)

    def __call__(self, samples: Tensor) -> tuple[float, float]:
        """Ratios of mean pairwise distance and of recall, for samples (M, F); 1 means equal."""
        distance = mean_pairwise_distance(samples) / max(self.own_distance, 1e-12)
        recall = share_inside(self.reference, samples) / max(self.own_recall, 1e-12)
        return distance, recall
