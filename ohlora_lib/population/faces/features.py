"""Draws the features of a face: eyes, brows, nose, mouth, beard, signs of age, glasses.

Uses the head's own coordinates; `drawing` explains how the head turns.
"""

import numpy as np

from ohlora_lib.population.faces import canvas as cv
from ohlora_lib.population.faces.canvas import Canvas, Plane, ramp, square, wave

IRIS = [(58, 36, 24), (92, 58, 34), (110, 92, 52), (86, 116, 84), (96, 132, 158), (70, 104, 148)]
LIPS = [(190, 112, 100), (200, 104, 98), (206, 84, 88), (196, 52, 66)]
LONGITUDE = 0.42  # of the eyes on the head's ball, in radians


def draw_features(c: Canvas) -> None:
    """Draws all features but glasses, back to front."""
    _draw_folds(c)
    c.draw_some(c["lines"] > 0, _draw_lines)
    c.draw_some((c["gender"] == 0) & (c["beard_kind"] < 0.55), _draw_beard)
    _draw_nose(c)
    _draw_mouth(c)
    for side in (-1, 1):
        _draw_eye(c, side)
    _draw_brows(c)


def head_shape(c: Canvas) -> tuple[Plane, Plane]:
    """The head's own coordinates (u, v), with radius 1 at its outline."""
    low = np.maximum(c.y, 0) / c["bottom"]
    v = np.minimum(c.y, 0) / c["top"] + low
    wide = c["half"] * (1 + c["jaw_shape"] * square(low) - 0.05 * low)
    return (c.x - 0.16 * c["turn"] * low * c["half"] * 2) / wide, v


def _eye_place(c: Canvas, side: int) -> tuple[Plane, Plane]:
    """The eye's own coordinates, foreshortened: dx grows outwards, dy downwards."""
    spread = side * (LONGITUDE + c.pick("eye_gap", -0.035, 0.035))
    center = c["half"] * cv.sine(spread + c["yaw"])
    near = cv.cosine(spread + c["yaw"]) / cv.cosine(spread)
    return side * (c.x - center) / near, c.y - c["eye_line"]


def _draw_eye(c: Canvas, side: int) -> None:
    c = c.rows(-0.4, 0.35)
    woman = c["gender"]
    dx, dy = _eye_place(c, side)
    dy = dy + c.pick("eye_tilt", -0.12, 0.16) * dx
    wide = c.pick("eye_size", 0.092, 0.112) + 0.006 * woman
    open_ = 0.012 + (0.038 + 0.008 * woman) * c["eyes"]
    bend = np.maximum(1 - square(dx / wide), -0.4)
    upper, lower = dy + open_ * 1.25 * bend - 0.008, dy - open_ * 0.75 * bend - 0.008
    white = np.minimum(c.cover(-upper, 1.3), c.cover(lower, 1.3)) * ramp(bend, 0.0, 0.25)
    white = white * ramp(c["eyes"], 0.05, 0.2)
    shade = 0.93 - 0.35 * ramp(upper, 0.035, 0) - 0.12 * square(dx / wide)
    ivory = cv.rgb(1.0, 0.97, 0.94)
    c.paint(white, ivory * shade[:, None])

    gx, gy = dx - side * c.pick("gaze_x", -0.025, 0.025), dy - c.pick("gaze_y", -0.012, 0.01)
    radius = 0.048
    around = cv.ellipse(gx, gy, radius, radius)
    iris = cv.palette(IRIS, c["iris"] * (1 - 0.8 * ramp(c["skin"], 0.5, 0.8)))
    glint = 0.75 + 0.9 * cv.glow(gx, gy - 0.025, 0.05, 0.04) - 0.4 * ramp(around, -0.012, 0)
    c.paint(white * c.cover(around, 1.5), iris * glint[:, None])
    c.paint(white * c.cover(around + 0.027, 1.5), np.float32(0.04))
    spark = c.cover(cv.ellipse(gx + 0.016 * side, gy + 0.017, 0.011, 0.011), 1.5)
    c.paint(white * spark, np.float32(0.97))
    _draw_lids(c, dx, upper, lower, wide)


def _draw_lids(c: Canvas, dx: Plane, upper: Plane, lower: Plane, wide: Plane) -> None:
    woman = c["gender"]
    reach = ramp(np.abs(dx), wide * 1.12, wide * 0.8)
    lash = 0.007 + woman * c.pick("lash", 0.003, 0.012)
    wing = ramp(dx, 0, wide * 1.1) * woman * 0.006
    line = np.clip(1.2 - np.abs(upper) / (lash + wing), 0, 1) * reach
    c.paint(line * (0.62 + 0.3 * woman), c["skin_dark"] * 0.12 + np.float32(0.025))
    c.shade(np.clip(1 - np.abs(lower) / 0.011, 0, 1) * reach, -0.25, -0.32, -0.32)
    crease = np.clip(1 - np.abs(upper + 0.035) / 0.013, 0, 1) * reach
    c.shade(crease, -0.16, -0.22, -0.24)
    shadow = ramp(upper, -0.07, -0.01) * (upper < 0) * reach * woman * c["lash"]
    c.shade(shadow, -0.18, -0.3, -0.22)


def _draw_brows(c: Canvas) -> None:
    """Draws the eyebrows: thicker and straighter on most men."""
    c = c.rows(-0.5, 0.2)
    woman, grey = c["gender"], c["grey"]
    darker = 0.6 + 0.28 * grey - 0.22 * ramp(c["hair_color"], 0.4, 0.9) * (1 - grey)
    color = c["hair"] * darker[:, None]
    for side in (-1, 1):
        dx, dy = _eye_place(c, side)
        along = dx / (0.135 + 0.005 * (1 - woman))
        arch = c.pick("brow_arch", 0.0, 0.03) + 0.018 * woman
        middle = c.pick("brow_y", -0.135, -0.11) - 0.015 * woman + 0.01 * (1 - c["eyes"])
        middle = middle - arch * (1 - square(along - 0.25))
        middle = middle - c.pick("brow_tilt", -0.02, 0.02) * along
        thick = c.pick("brow_thick", 0.012, 0.02) + 0.009 * (1 - woman)
        thick = thick * (1 - 0.45 * ramp(along, 0, 1))
        mask = np.clip(1.4 - np.abs(dy - middle) / thick, 0, 1) * ramp(np.abs(along), 1.05, 0.75)
        c.paint(mask * 0.85, color)


def _draw_nose(c: Canvas) -> None:
    c = c.rows(-0.3, 0.45)
    tip_y = c.pick("nose_length", 0.155, 0.205)
    wide = c.pick("nose_width", 0.066, 0.094) + 0.008 * (1 - c["gender"])
    tip = c["half"] * cv.sine(c["yaw"] * 1.15) * 1.12
    bridge = cv.mix(c["mid"], tip, ramp(c.y, -0.1, 0.2))
    dx, dy = c.x - bridge, c.y - tip_y
    away = -np.where(c["light"] + c["turn"] > 0, 1, -1)
    c.shade(cv.glow(dx - away * 0.06, dy + 0.12, 0.06, 0.2), -0.17, -0.23, -0.25)
    c.shade(cv.glow(dx, dy - 0.035, wide * 1.5, 0.05), -0.24, -0.32, -0.33)
    c.shade(cv.glow(dx + away * 0.012, dy + 0.14, 0.03, 0.2), 0.09, 0.08, 0.07)
    c.shade(cv.glow(dx + away * 0.015, dy + 0.012, 0.045, 0.04), 0.14, 0.13, 0.12)
    for side in (-1, 1):
        sx = dx - side * wide * 0.95
        wing = np.clip(1 - np.abs(cv.ellipse(sx, dy, 0.032, 0.04)) / 0.014, 0, 1)
        c.shade(wing * ramp(sx * side, -0.01, 0.02), -0.22, -0.3, -0.32)
        hole = c.cover(cv.ellipse(dx - side * wide * 0.5, dy - 0.026, 0.02, 0.011), 2)
        c.shade(hole, -0.5, -0.6, -0.6)


def _draw_mouth(c: Canvas) -> None:
    c = c.rows(0.1, 0.7)
    woman, open_ = c["gender"], c["mouth"]
    middle = c["half"] * cv.sine(c["yaw"] * 1.1) * 1.02
    wide = c.pick("mouth_width", 0.13, 0.17) * cv.cosine(c["yaw"])
    s = (c.x - middle) / wide
    bend = np.maximum(1 - square(s), -0.2)
    smile = c.pick("smile", -0.01, 0.05)
    y = c.y - c["lip_line"] + smile * (square(np.minimum(np.abs(s), 1.3)) - 0.4)
    gap = 0.075 * open_
    full = c.pick("lip_full", 0.018, 0.034) + 0.007 * woman - 0.008 * c["age"]
    bow = 1 - 0.3 * cv.glow(s, s * 0, 0.35, 1.0)
    top, bottom = y + 0.4 * gap * bend, y - 0.6 * gap * bend
    ends = ramp(bend, 0, 0.15)
    upper = c.cover(-(top + full * bow * bend), 1.5) * c.cover(top, 1.2) * ends
    lower = c.cover(bottom - 1.25 * full * bend, 1.5) * c.cover(-bottom, 1.2) * ends
    inner = c.cover(-top, 1.2) * c.cover(bottom, 1.2) * ends * ramp(open_, 0.02, 0.1)

    made_up = woman * ramp(c["lip_color"], 0.35, 0.8)
    lips = cv.palette(LIPS, c["lip_color"] * woman)
    natural = c["skin_lit"] * cv.rgb(0.84, 0.62, 0.6)
    lips = lips * (0.55 + 0.45 * c["skin_lit"])
    lips = cv.mix(natural, lips, (0.25 + 0.6 * made_up + 0.1 * woman)[:, None])
    below = cv.glow(s, y - 0.6 * gap - 1.25 * full - 0.025, 0.8, 0.04)
    c.shade(below, -0.16, -0.2, -0.2)
    c.paint(upper, lips * (0.8 + 0.1 * c["light"][:, None] * s[:, None]))
    shine = 0.97 + 0.16 * cv.glow(s + 0.2, (bottom - 0.6 * full) / full, 0.6, 0.7)
    c.paint(lower, lips * shine[:, None])
    c.paint(inner, cv.rgb(0.3, 0.08, 0.09))
    teeth = inner * c.cover(top - 0.55 * gap * bend, 1.5) * ramp(np.abs(s), 0.95, 0.6)
    c.paint(teeth * 0.92, cv.rgb(0.94, 0.92, 0.88))
    seam = np.clip(1.1 - np.abs(y) / 0.009, 0, 1) * ramp(np.abs(s), 1.12, 0.85)
    c.shade(seam * ramp(open_, 0.12, 0.02), -0.5, -0.6, -0.6)
    corner = cv.glow(np.abs(s) - 1.05, y / 0.03, 0.2, 1.0)
    c.shade(corner, -0.25, -0.3, -0.3)


def _draw_beard(c: Canvas) -> None:
    """Draws stubble, a moustache, a goatee or a full beard."""
    kind = c["beard_kind"]
    middle = c["half"] * cv.sine(c["yaw"] * 1.1)
    dx, dy = c.x - middle, c.y - c["lip_line"]
    u, _ = head_shape(c)
    face = ramp(np.sqrt(square(u) + square(c.y / c["bottom"])), 1.05, 0.98)
    cheeks = dy + 0.13 - 2.3 * square(dx) + 0.25 * ramp(np.abs(u), 0.75, 1)
    cheeks = ramp(cheeks, -0.02, 0.1)
    moustache = ramp(cv.ellipse(dx, dy + 0.07 - 0.6 * square(dx), 0.17, 0.055), 0.02, -0.02)
    goatee = ramp(cv.ellipse(dx, dy - 0.16, 0.16, 0.14), 0.03, -0.03)
    rest = np.where(kind < 0.36, cheeks, goatee * (kind > 0.45))
    shape = np.maximum(moustache, rest)
    stubble = kind < 0.18
    amount = np.where(stubble, 0.2, 0.65) + np.where(stubble, 0.25, 0.27) * c["beard_strength"]
    grain = 0.8 + 0.06 * wave(c.x * 11 + c.y * 5) + 0.05 * wave(c.x * 23 - c.y * 3)
    c.paint(shape * face * amount, c["hair"] * (0.78 * grain + 0.25 * c["light"] * c.x)[:, None])


def _draw_folds(c: Canvas) -> None:
    """Draws signs of age on the cheeks and under the eyes."""
    folds = c["folds"]
    for side in (-1, 1):
        dx, dy = _eye_place(c, side)
        bag = np.abs(dy - 0.075 + 1.6 * square(dx))
        bag = np.clip(1 - bag / 0.022, 0, 1) * ramp(np.abs(dx), 0.12, 0.06)
        c.shade(bag * folds, -0.2, -0.26, -0.24)
        fx, fy = side * (c.x - c["mid"]), c.y - 0.27
        fold = np.abs(fx - 0.155 - 0.28 * fy - 0.4 * square(fy)) / (0.02 + 0.02 * folds)
        fold = np.clip(1 - fold, 0, 1) * ramp(np.abs(fy), 0.12, 0.05)
        c.shade(fold * folds, -0.22, -0.28, -0.28)
        jowl = cv.glow(fx - 0.22, c.y - 0.45, 0.07, 0.09)
        c.shade(jowl * folds * (c["age"] * c["wear"]), -0.18, -0.22, -0.22)
        hollow = cv.glow(fx - 0.29, c.y - 0.26, 0.1, 0.14)
        c.shade(hollow * folds * c["age"], -0.14, -0.17, -0.17)


def _draw_lines(c: Canvas) -> None:
    """Draws wrinkles on the forehead, at the eye corners and between the brows."""
    strength = c["lines"]
    fx = c.x - 0.9 * c["mid"]
    for number, height in enumerate((-0.21, -0.265, -0.32)):
        sway = 0.01 * wave(fx * 1.6 + 0.2 * number + c["hair_phase"])
        dy = c.y - height + sway - 0.12 * square(fx)
        line = np.clip(1 - np.abs(dy) / 0.016, 0, 1)
        line = line * ramp(np.abs(fx), 0.26 - 0.03 * number, 0.1)
        c.shade(line * strength, -0.2, -0.26, -0.26)
    for side in (-1, 1):
        dx, dy = _eye_place(c, side)
        for tilt in (-0.35, 0.05, 0.45):
            crow = np.abs(dy - 0.01 - tilt * (dx - 0.1)) / 0.012
            crow = np.clip(1 - crow, 0, 1) * cv.glow(dx - 0.155, dy, 0.05, 0.1)
            c.shade(crow * strength, -0.3, -0.36, -0.36)
        frown = np.clip(1 - np.abs(side * fx - 0.022) / 0.012, 0, 1)
        frown = frown * ramp(np.abs(c.y + 0.11), 0.06, 0.03)
        c.shade(frown * strength * c["wear"], -0.2, -0.25, -0.25)


def draw_glasses(c: Canvas) -> None:
    """Draws glasses: round to square, thick to thin, some of them tinted."""
    c = c.rows(-0.45, 0.4)
    thick = np.maximum(c.pick("frame_thick", 0.008, 0.024), 0.6 * c.pixel)
    saturation = 0.5 * ramp(c["frame_dark"], 0.4, 1)
    color = cv.hue_color(c["frame_hue"], saturation, c.pick("frame_dark", 0.06, 0.42))
    for side in (-1, 1):
        _draw_lens(c, side, thick, color)
    dx = c.x - c["mid"] * 1.05
    middle = c.y - c["eye_line"] + 0.025 + 0.4 * square(dx)
    bridge = np.maximum(np.abs(middle) - thick * 0.8, np.abs(dx) - 0.065)
    c.paint(c.cover(bridge, 1.2), color)


def _draw_lens(c: Canvas, side: int, thick: Plane, color: np.ndarray) -> None:
    dx, dy = _eye_place(c, side)
    dx, dy = dx - 0.006, dy - 0.02
    wide, high = c.pick("frame_size", 0.125, 0.148), c.pick("frame_size", 0.098, 0.125)
    squared = ramp(c["frame_shape"], 0.3, 0.7)
    p, q = square(dx / wide), square(dy / high)
    edge = cv.mix(np.sqrt(p + q), np.sqrt(np.sqrt(p * p + q * q)), squared)
    rim = (edge - 1) * high
    lens = c.cover(rim)
    dark = np.where(c["tinted"] < 0.15, 0.45, 0.06)
    c.paint(lens * dark, color * 0.6)
    streak = cv.glow(dx * side + dy * 0.8 + 0.05, dx * 0, 0.07, 1.0) * lens
    c.paint(streak * c.pick("glare", 0.02, 0.22), np.float32(1))
    c.shade(np.clip(1 - np.abs(rim - 0.02) / 0.03, 0, 1), -0.1, -0.12, -0.12)
    shown = 1 - (c["half_rim"] < 0.2) * ramp(dy, 0.0, 0.03) * 0.85
    c.paint(c.cover(np.abs(rim) - thick, 1.2) * shown, color)
    temple = np.maximum(np.abs(dy + 0.045) - thick * 0.8, np.maximum(wide * 0.95 - dx, dx - 0.26))
    c.paint(c.cover(temple, 1.2) * ramp(side * c["yaw"] * -1, -0.3, 0.0), color * 0.9)
