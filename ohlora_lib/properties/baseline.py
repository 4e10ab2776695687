"""What a property CNN must beat: a ridge regression on small pictures.

Axes: N images, H image height, P properties, D numbers of a small picture.
"""

from __future__ import annotations

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
ALPHA = 100.0  # by mean AUROC on 3,000 photographs of faces; 60 does as well
AT_ONCE = 256  # images


class PixelRidge:
    """Scores as an `Ensemble` does, by one linear regression of all properties.

    A score is an estimate of the label: it ranks images, and may leave the range from 0 to 1.

    Args:
        images: What to train on, uint8, shape (N, H, H, 3).
        labels: One row per image, one column of 0 and 1 per property.
        properties: Columns to learn.
    """

    def __init__(self, images: Images, labels: pd.DataFrame, properties: Sequence[str]) -> None:
        self.properties = list(properties)
        targets = labels[self.properties].to_numpy(np.float32)  # (N, P)
        self.model = Ridge(alpha=ALPHA).fit(_small(images), targets)

    def scores(self, images: Images) -> Tensor:
        """Scores of uint8 images (N, H, H, 3), shape (N, P)."""
        return torch.from_numpy(self.model.predict(_small(images)).reshape(len(images), -1))


def _small(images: Images) -> np.ndarray:
    """Pictures of 32 x 32 pixels in [0, 1], float32 (N, D)."""
    size = (SIDE_PX, SIDE_PX)
    parts = (F.interpolate(to_unit(part), size, mode="area") for part in images.split(AT_ONCE))
    return torch.cat([part.flatten(1).cpu() for part in parts]).numpy()
