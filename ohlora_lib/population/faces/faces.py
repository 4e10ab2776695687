"""Built-in population of labelled faces, the default, as no face data set can be shipped.

Each face has its own random numbers, seeded with (seed, index): the same seed and index give the
same label row and the same pixels, bit for bit, in any batch and any order.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ohlora_lib.population.faces.defects import degrade
from ohlora_lib.population.faces.drawing import draw_portraits

PROPERTIES = ("gender", "quality", "age", "glass")
CONTINUOUS = ("eyes", "mouth", "pose", "hair_color", "hair_length", "background")
DEFAULT_SHARES = {"gender": 0.5, "quality": 0.75, "age": 0.35, "glass": 0.3}

MIN_IMAGE_PX, MAX_IMAGE_PX = 32, 512
CHUNK_PIXELS = 16 * 64 * 64  # pixels per chunk, so that its planes stay in cache

# One uniform number per name and face. Append only: inserting a name changes every face.
TRAITS = (
    *PROPERTIES, *CONTINUOUS, "hair_swap", "grey", "lines", "folds", "recede", "wear", "skin",
    "skin_warm", "width", "height", "jaw", "chin", "roll", "scale", "shift_x", "shift_y",
    "light_x", "light_y", "contrast", "tint", "bg_hue", "bg_sat", "bg_kind", "bg_dir_x",
    "bg_dir_y", "blob1_x", "blob1_y", "blob1_r", "blob2_x", "blob2_y", "blob2_r", "hair_style",
    "hair_volume", "hair_red", "hair_part", "hair_tuck", "hair_curl", "hair_flare", "hair_phase",
    "hairline", "brow_thick", "brow_arch", "brow_tilt", "brow_y", "eye_gap", "eye_size", "eye_y",
    "eye_tilt", "iris", "gaze_x", "gaze_y", "lash", "nose_width", "nose_length", "lip_color",
    "lip_full", "mouth_width", "smile", "mouth_y", "blush", "beard_kind", "beard_strength",
    "ear", "earring", "cloth_hue", "cloth_sat", "cloth_light", "neckline", "shoulder", "neck",
    "frame_shape", "frame_size", "frame_thick", "frame_dark", "frame_hue", "tinted", "half_rim",
    "glare", "freckles", "fringe", "bun",
)  # fmt: skip


def draw_attributes(
    indices: Sequence[int], *, seed: int = 0, shares: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """Draws the label table of some faces, without their pixels.

    `indices` are faces of the unlimited population of this seed. `shares` sets the share of ones
    for some properties; the others keep `DEFAULT_SHARES`. Columns are `PROPERTIES` (0 or 1) and
    `CONTINUOUS`; the index is named "image".
    """
    traits = _draw_traits(indices, seed, shares)
    index = pd.Index(np.asarray(indices, dtype=np.int64), name="image")
    frame = pd.DataFrame({name: traits[name] for name in PROPERTIES + CONTINUOUS}, index=index)
    return frame.astype({name: np.int64 for name in PROPERTIES})


def render_faces(
    indices: Sequence[int],
    *,
    seed: int = 0,
    image_px: int = 64,
    shares: Mapping[str, float] | None = None,
) -> np.ndarray:
    """Renders the faces that `draw_attributes` labels, given the same shares.

    H = `image_px` must be from 32 to 512. Returns uint8, shape (B, H, H, 3).
    """
    if not MIN_IMAGE_PX <= image_px <= MAX_IMAGE_PX:
        raise ValueError(
            f"image_px is {image_px}; choose {MIN_IMAGE_PX} to {MAX_IMAGE_PX} for built-in faces"
        )
    images = np.empty((len(indices), image_px, image_px, 3), np.uint8)
    step = max(1, CHUNK_PIXELS // image_px**2)
    for start in range(0, len(indices), step):
        chunk = indices[start : start + step]
        traits = _draw_traits(chunk, seed, shares)
        drawn = draw_portraits(traits, image_px)  # (B, H, H, 3) in [0, 1]
        for row in np.flatnonzero(traits["quality"] == 0):
            drawn[row] = degrade(drawn[row], np.random.default_rng([seed, int(chunk[row]), 1]))
        images[start : start + step] = (drawn * 255 + 0.5).astype(np.uint8)
    return images


def _draw_traits(
    indices: Sequence[int], seed: int, shares: Mapping[str, float] | None
) -> dict[str, np.ndarray]:
    """Draws each face's uniform numbers and derives its attributes; shape (B,) per name."""
    rows = [np.random.default_rng([seed, int(index)]).random(len(TRAITS)) for index in indices]
    columns = np.array(rows).reshape(len(rows), len(TRAITS)).T  # (traits, B)
    uniform = dict(zip(TRAITS, columns, strict=True))
    return uniform | _attributes(uniform, _checked_shares(shares))


def _attributes(u: Mapping[str, np.ndarray], shares: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Turns uniform numbers into labels and, for old faces, two or three signs of age, (B,)."""
    table = {name: (u[name] < shares[name]).astype(np.float64) for name in PROPERTIES}
    old, woman = table["age"] == 1, table["gender"] == 1
    grey, lines, folds = u["grey"] < 0.78, u["lines"] < 0.8, u["folds"] < 0.8
    few = grey.astype(int) + lines + folds < 2
    strength = 0.6 + 0.4 * u["wear"]
    table["grey"] = np.where(old & (grey & ~few), 0.75 + 0.25 * u["grey"] / 0.78, 0.0)
    table["lines"] = np.where(old & (lines | few), strength, 0.0)
    table["folds"] = np.where(old & (folds | few), strength, 0.3 * u["wear"] * u["folds"])
    recede = np.where(woman, 0.15, 0.55) * np.where(old, 1, 0.12)
    table["recede"] = np.where(u["recede"] < recede, 0.3 + 0.7 * u["wear"], 0.0)

    table["eyes"] = np.sqrt(u["eyes"])
    table["mouth"] = u["mouth"] * u["mouth"]
    table["pose"] = 2 * u["pose"] - 1
    dark_or_light = u["hair_color"]
    table["hair_color"] = np.where(table["grey"] > 0, 0.5 + 0.5 * dark_or_light, dark_or_light)
    long_hair = woman ^ (u["hair_swap"] < 0.1)
    long_length = 0.35 + 0.65 * u["hair_length"]
    table["hair_length"] = np.where(long_hair, long_length, 0.38 * u["hair_length"])
    table["skin"] = u["skin"] * np.where(table["grey"] > 0, 1, 1 - 0.75 * u["hair_color"])
    table["background"] = 0.1 + 0.8 * u["background"]
    return table


def _checked_shares(shares: Mapping[str, float] | None) -> dict[str, float]:
    given = dict(shares or {})
    for name, share in given.items():
        if name not in DEFAULT_SHARES or not 0 <= share <= 1:
            raise ValueError(
                f"shares sets {name!r} to {share}; use 0 to 1, for "
                f"{list(PROPERTIES)}. Correct `shares`."
            )
    return DEFAULT_SHARES | given
