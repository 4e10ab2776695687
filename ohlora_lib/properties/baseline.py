"""Baseline that a property CNN must beat: ridge regression on downscaled images.

Axes: N images, H image height, P properties, D values per downscaled image.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge
from torch import Tensor

from ohlora_lib.io.images import Images
from ohlora_lib.nets.samples import to_unit

SIDE_PX = 32
ALPHA = 100.0  # chosen by mean AUROC on 3,000 face photographs; 60 scores as well
AT_ONCE = 256  # images per chunk


class PixelRidge:
    """Scores images like an `Ensemble`, with one linear regression for all properties.

    A score estimates the label: it ranks images, and may lie outside [0, 1].

    Args:
        images: Training images, uint8, shape (N, H, H, 3).
        labels: One row per image, one column of 0 and 1 per property; the mean replaces a
            missing label.
        properties: Label columns to learn.
    """

    def __init__(self, images: Images, labels: pd.DataFrame, properties: Sequence[str]) -> None:
        self.properties = list(properties)
        known = labels[self.properties]
        targets = known.fillna(known.mean()).to_numpy(np.float32)  # (N, P)
        self.model = Ridge(alpha=ALPHA).fit(_small(images), targets)

    def scores(self, images: Images) -> Tensor:
        """Scores of uint8 images (N, H, H, 3), shape (N, P)."""
        return torch.from_numpy(self.model.predict(_small(images)).reshape(len(images), -1))


def _small(images: Images) -> np.ndarray:
    """Downscales to 32 x 32 pixels and flattens: float32 in [0, 1], (N, D)."""
    size = (SIDE_PX, SIDE_PX)
    parts = (F.interpolate(to_unit(part), size, mode="area") for part in images.split(AT_ONCE))
    return torch.cat([part.flatten(1).cpu() for part in parts]).numpy()
