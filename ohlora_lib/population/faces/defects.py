"""Defects of poor photographs: one or two per image, of varied strength.

Axes: H height, W width. Lengths are fractions of the side, so defects look alike at any size.
"""

import numpy as np


def degrade(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Applies one or two different defects to an image in [0, 1], shape (H, W, 3)."""
    count = 1 + int(rng.random() < 0.35)
    for kind in sorted(rng.permutation(len(DEFECTS))[:count]):
        image = DEFECTS[kind](image, rng)
    return np.clip(image, 0, 1)


def _occlude(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Puts a soft blob, bar or finger-like group of bars in front of the face."""
    axis = np.linspace(-1, 1, len(image), dtype=np.float32)
    x, y = axis[None] - rng.uniform(-0.3, 0.3), axis[:, None] - rng.uniform(-0.2, 0.4)
    lean = rng.uniform(-0.6, 0.6)
    x, y = x + lean * y, y - lean * x
    mask = OCCLUDERS[rng.integers(len(OCCLUDERS))](x, y, rng)[..., None]  # (H, W, 1)
    shade = 0.85 - 0.25 * mask + 0.1 * y[..., None]
    color = rng.uniform(0.1, 0.85) * rng.uniform(0.75, 1.1, 3) * shade
    return (image + mask * (color - image)).astype(np.float32)


def _blob(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    wide, high = rng.uniform(0.28, 0.5, 2)
    return _ramp(1 - (x / wide) ** 2 - (y / high) ** 2, 0.35)


def _bar(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    thick = rng.uniform(0.1, 0.22)
    return _ramp(1 - abs(x if rng.random() < 0.5 else y) / thick, 0.3)


def _fingers(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    gap, side = rng.uniform(0.2, 0.28), rng.choice([-1, 1])
    mask = np.zeros(x.shape, np.float32)
    for finger in range(4):
        tip = rng.uniform(-0.1, 0.15)
        across = (y - (finger - 1.5) * gap) / (0.48 * gap)
        along = np.maximum(side * (x - tip) / 0.1, 0)
        mask = np.maximum(mask, _ramp(1.3 - across**2 - along**2, 0.5))
    return mask


def _ramp(inside: np.ndarray, width: float) -> np.ndarray:
    t = np.clip(inside / width, 0, 1)
    return t * t * (3 - 2 * t)


def _expose(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        return image * np.float32(rng.uniform(0.18, 0.5))
    return np.clip(image * np.float32(rng.uniform(1.35, 2)) + np.float32(0.1), 0, 1)


def _wash_out(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Removes most of the contrast."""
    grey = np.float32(rng.uniform(0.4, 0.8))
    return grey + np.float32(rng.uniform(0.22, 0.55)) * (image - grey)


def _blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Applies a Gaussian blur, one axis after the other."""
    sigma = rng.uniform(0.014, 0.036) * len(image)
    radius = int(2.5 * sigma) + 1
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for _ in range(2):
        padded = np.pad(image, ((radius, radius), (0, 0), (0, 0)), mode="edge")
        shifted = (padded[k : k + len(image)] for k in range(len(weights)))
        image = sum(w * part for w, part in zip(weights, shifted, strict=True))
        image = np.ascontiguousarray(image.transpose(1, 0, 2))  # swaps rows and columns
    return image


def _pixelate(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blends in coarse blocks of few colours, as from excessive compression."""
    cells = int(rng.integers(14, 28))
    levels, mix = int(rng.integers(8, 24)), np.float32(rng.uniform(0.6, 1))
    edges = np.arange(cells + 1) * len(image) // cells
    sums = np.add.reduceat(np.add.reduceat(image, edges[:-1], 0), edges[:-1], 1)
    size = np.diff(edges)
    means = sums / (size[:, None] * size[None])[..., None]
    blocks = np.round(means * levels) / levels
    blocks = blocks.repeat(size, 0).repeat(size, 1)  # (H, W, 3)
    return (image + mix * (blocks - image)).astype(np.float32)


def _add_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Adds visible grain, coloured or grey."""
    channels = 3 if rng.random() < 0.6 else 1
    grain = rng.standard_normal((*image.shape[:2], channels), np.float32)
    return image + np.float32(rng.uniform(0.035, 0.13)) * grain


OCCLUDERS = (_blob, _bar, _fingers)
DEFECTS = (_occlude, _expose, _wash_out, _blur, _pixelate, _add_noise)  # applied in this order
