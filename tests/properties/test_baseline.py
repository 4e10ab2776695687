"""The ridge baseline learns a property that is linear in the pixels."""

import numpy as np
import pandas as pd
import torch

from ohlora_lib.properties.baseline import PixelRidge
from ohlora_lib.properties.ensemble import unseen_auroc, unseen_scores


def test_a_linear_property_is_learnt_and_a_random_one_is_not():
    random = np.random.default_rng(0)
    labels = pd.DataFrame({"bright": random.random(400) < 0.5, "noise": random.random(400) < 0.5})
    images = random.integers(0, 170, (400, 64, 64, 3))
    images[:, :20] += 10 * labels["bright"].to_numpy()[:, None, None, None]
    images, labels = torch.from_numpy(images.astype(np.uint8)), labels.astype(int)
    ridge = PixelRidge(images[:200], labels[:200], list(labels))
    auroc = unseen_auroc(unseen_scores(ridge, images[200:], labels[200:]))
    assert auroc["bright"] > 0.9
    assert 0.3 < auroc["noise"] < 0.7
