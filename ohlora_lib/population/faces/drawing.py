"""Draws a batch of portraits from their traits, back to front: background, clothes, head, hair.

Axes: B faces, H height, W width. The head is a ball of half-width "half", rotated by "yaw": a
feature at longitude t is drawn at half x sin(t + yaw).
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ohlora_lib.population.faces import canvas as cv
from ohlora_lib.population.faces.canvas import Canvas, Plane, ramp, square, wave
from ohlora_lib.population.faces.features import draw_features, draw_glasses, head_shape

SKIN = [
    (255, 226, 206), (246, 207, 178), (228, 178, 142), (196, 140, 102), (146, 96, 66), (98, 62, 44)
]  # fmt: skip
ZOOM, LIFT = 1.2, 0.07  # so that the person fills the picture
HAIR = [(26, 21, 22), (52, 36, 28), (92, 60, 40), (140, 98, 62), (196, 156, 100), (236, 212, 160)]


def draw_portraits(traits: Mapping[str, np.ndarray], image_px: int) -> np.ndarray:
    """Draws portraits without defects, float32 (B, H, W, 3) in [0, 1], from traits, (B,) each."""
    frame = _frame(traits, image_px)
    _draw_background(frame)
    body = _closer(frame)
    head = _turned(body)
    _draw_hair_behind(head)
    _draw_neck(body)
    _draw_clothes(body)
    for draw in (_draw_ears, _draw_head, draw_features, _draw_hair_front, _draw_earrings):
        draw(head)
    head.draw_some(head["glass"] == 1, draw_glasses)
    _grade(frame)
    return np.ascontiguousarray(np.clip(frame.image, 0, 1).transpose(0, 2, 3, 1))


def _frame(traits: Mapping[str, np.ndarray], image_px: int) -> Canvas:
    t = {name: trait.astype(np.float32)[:, None, None] for name, trait in traits.items()}
    count, pixel = len(t["age"]), 2 / image_px
    axis = ((np.arange(image_px) + 0.5) * pixel - 1).astype(np.float32)
    x = np.broadcast_to(axis[None, None], (count, image_px, image_px))
    y = np.broadcast_to(axis[None, :, None], (count, image_px, image_px))
    image = np.zeros((count, 3, image_px, image_px), np.float32)
    canvas = Canvas(image, x, y, pixel, t)
    _add_geometry(canvas, t)
    _add_colors(canvas, t)
    return canvas


def _add_geometry(c: Canvas, t: dict[str, np.ndarray]) -> None:
    woman = c["gender"]
    t["yaw"] = 0.4 * c["pose"]
    t["turn"] = cv.sine(t["yaw"])
    t["half"] = c.pick("width", 0.41, 0.46) + 0.012 * (1 - woman)
    t["top"] = c.pick("height", 0.5, 0.56)
    t["bottom"] = c.pick("chin", 0.56, 0.64) - 0.025 * woman
    t["jaw_shape"] = c.pick("jaw", -0.2, 0.12) + 0.2 * (1 - woman)
    t["light"] = c.pick("light_x", -0.75, 0.75)
    t["mid"] = t["half"] * cv.sine(t["yaw"] * 1.15)  # x of the middle of the face
    t["eye_line"] = c.pick("eye_y", -0.06, 0.0)
    t["lip_line"] = c.pick("mouth_y", 0.32, 0.37)
    t["short"] = 1 - ramp(c["hair_length"], 0.2, 0.42)
    t["tuck"] = np.maximum(ramp(c["hair_tuck"], 0.4, 0.6), t["short"])  # 1: ears uncovered
    t["hair_low"] = 0.02 + 1.35 * np.maximum(c["hair_length"] - 0.2, 0)  # where the hair ends
    t["volume"] = c.pick("hair_volume", 0.03, 0.11) * ramp(c["hair_length"], -0.15, 0.3)


def _add_colors(c: Canvas, t: dict[str, np.ndarray]) -> None:
    skin = cv.palette(SKIN, c["skin"])
    warm = c.pick("skin_warm", -0.05, 0.05)[:, None]
    t["skin_lit"] = skin * (1 + warm * cv.rgb(0.4, 0, -1))
    t["skin_dark"] = t["skin_lit"] * cv.rgb(0.6, 0.47, 0.43)
    hair = cv.palette(HAIR, c["hair_color"])
    hair = hair * (1 + ramp(c["hair_red"], 0.7, 1)[:, None] * cv.rgb(0.3, -0.05, -0.3))
    grey = cv.rgb(1.0, 1.0, 1.02) * (0.22 + 0.68 * c["hair_color"])[:, None]
    t["hair"] = cv.mix(hair, grey, c["grey"][:, None])
    saturation = c.pick("bg_sat", 0.02, 0.22)
    t["backdrop"] = cv.hue_color(c["bg_hue"], saturation, 0.96 * c["background"])


def _closer(c: Canvas) -> Canvas:
    """The same pictures in coordinates in which the person fills the picture."""
    x, y = c.x / np.float32(ZOOM), c.y / np.float32(ZOOM) + np.float32(LIFT)
    return replace(c, x=x, y=y, pixel=c.pixel / ZOOM, zoom=ZOOM, lift=LIFT)


def _turned(c: Canvas) -> Canvas:
    """The same pictures in the head's coordinates: tilted, scaled, shifted."""
    roll, scale = c.pick("roll", -0.11, 0.11), 1 / c.pick("scale", 0.93, 1.07)
    x = c.x - c.pick("shift_x", -0.06, 0.06)
    y = c.y - c.pick("shift_y", -0.02, 0.07)
    cos, sin = scale * cv.cosine(roll), scale * cv.sine(roll)
    return replace(c, x=x * cos + y * sin, y=y * cos - x * sin)


def _draw_background(c: Canvas) -> None:
    kind = c["bg_kind"]
    slope = c.pick("bg_dir_x", -0.3, 0.3) * c.x + c.pick("bg_dir_y", -0.3, 0.3) * c.y
    light = 1 + slope * ramp(kind, 0.15, 0.35)
    shapes = ramp(kind, 0.5, 0.6)
    for name, strength in (("blob1", 0.35), ("blob2", -0.3)):
        radius = c.pick(f"{name}_r", 0.4, 0.9)
        dx = c.x - c.pick(f"{name}_x", -1, 1)
        spot = ramp(square(dx) + square(c.y - c.pick(f"{name}_y", -1, 0.6)), square(radius), 0.0)
        light = light + strength * shapes * spot
    light = light + 0.12 * cv.glow(c.x, c.y, 1.3, 1.3)
    c.image[:] = c["backdrop"] * light[:, None]


def _draw_neck(c: Canvas) -> None:
    c = c.rows(0.1, 1)
    wide = c.pick("neck", 0.2, 0.25) + 0.045 * (1 - c["gender"])
    x = c.x - c.pick("shift_x", -0.06, 0.06)
    flare = 0.5 * square(np.maximum(c.y - 0.55, 0)) * 2
    side = np.clip(x / wide, -1.2, 1.2)
    tone = 0.62 - 0.22 * square(side) + 0.25 * c["light"] * side
    tone = tone - 0.45 * ramp(c.y, 0.86, 0.55)  # the chin's shadow
    color = cv.mix(c["skin_dark"], c["skin_lit"], tone[:, None])
    c.paint(c.cover(np.abs(x) - wide - flare), color)


def _draw_clothes(c: Canvas) -> None:
    c = c.rows(0.5, 1)
    x = c.x - c.pick("shift_x", -0.05, 0.05)
    wide = c.pick("shoulder", 0.78, 0.9) + 0.12 * (1 - c["gender"])
    body = cv.ellipse(x, c.y - 1.26, wide, 0.6)
    kind = c["neckline"]
    vee = np.abs(x) * 1.5 + c.y - c.pick("shoulder", 0.9, 1.02)
    scoop = cv.ellipse(x, c.y - 0.55, 0.34, 0.3 + 0.1 * kind)
    high = cv.ellipse(x, c.y - 0.53, 0.3, 0.18)
    cut = np.where(kind < 0.35, vee, np.where(kind < 0.7, scoop, high))
    mask = c.cover(np.maximum(body, -cut), 1.5)
    tone = 0.95 - 0.35 * square(x) + 0.3 * c["light"] * x - 0.25 * ramp(c.y, 1.0, 0.75)
    tone = tone - 0.25 * ramp(np.abs(cut), 0.06, 0.0)
    saturation, light = c.pick("cloth_sat", 0.05, 0.42), c.pick("cloth_light", 0.12, 0.85)
    c.paint(mask, cv.hue_color(c["cloth_hue"], saturation, light) * tone[:, None])


def _draw_ears(c: Canvas) -> None:
    c = c.rows(-0.4, 0.4)
    for side in (-1, 1):
        hidden = 0.05 * np.maximum(-side * c["yaw"], 0) / 0.4
        dx = c.x - side * (c["half"] * 1.01 - hidden)
        dy = c.y - c["eye_line"] - 0.1 + 0.25 * dx * side
        size = c.pick("ear", 0.11, 0.15)
        shape = cv.ellipse(dx, dy, 0.075, size)
        tone = 0.6 + 0.3 * side * c["light"] - 0.4 * cv.glow(dx, dy, 0.055, size * 0.75)
        c.paint(c.cover(shape, 1.5), cv.mix(c["skin_dark"], c["skin_lit"], tone[:, None]))


def _draw_head(c: Canvas) -> None:
    u, v = head_shape(c)
    r2 = square(u) + square(v)
    mask = c.cover((np.sqrt(r2) - 1) * c["half"], 1.5)
    nz = np.sqrt(np.maximum(1 - 0.9 * r2, 0.02))
    light_x = c["light"] + 0.35 * c["turn"]
    tone = 0.16 + 0.78 * nz + 0.3 * light_x * u - 0.16 * v * (1 - 0.3 * v)
    # Eye sockets, cheeks and chin shape the ball into a face.
    for side in (-1, 1):
        ex = c["half"] * cv.sine(side * 0.42 + c["yaw"])
        tone = tone - 0.16 * cv.glow(c.x - ex, c.y - c["eye_line"] + 0.03, 0.2, 0.17)
        tone = tone + 0.08 * cv.glow(c.x - ex * 1.15, c.y - 0.17, 0.2, 0.17)
    tone = tone + 0.09 * cv.glow(c.x - c["mid"], c.y - 0.49, 0.16, 0.1)
    tone = tone - 0.12 * cv.glow(c.x - c["mid"], c.y - 0.425, 0.14, 0.05)
    tone = np.clip(tone, 0, 1.08)
    c.paint(mask, cv.mix(c["skin_dark"], c["skin_lit"], tone[:, None]))
    _draw_cheeks(c.rows(-0.3, 0.6), c["blush"] * (0.4 + 0.6 * c["gender"]))


def _draw_cheeks(c: Canvas, strength: Plane) -> None:
    for side in (-1, 1):
        dx = c.x - c["half"] * cv.sine(side * 0.6 + c["yaw"])
        spot = cv.glow(dx, c.y - 0.17, 0.17, 0.14) * strength
        c.shade(spot, 0.03, -0.16, -0.13)
        freckle = np.maximum(wave(dx * 17 + c.y * 7) * wave(c.y * 19 - dx * 5) - 0.35, 0)
        few = ramp(c["freckles"], 0.85, 1.2) * (1 - ramp(c["skin"], 0.3, 0.6))
        c.shade(cv.glow(dx, c.y - 0.13, 0.2, 0.12) * freckle * few, -0.35, -0.6, -0.7)


def _hair_outline(c: Canvas, low: Plane) -> Plane:
    """Approximate distance to hair that falls to `low`, before the face opening is cut."""
    down = np.maximum(c.y, 0)
    curl = c["volume"] * ramp(c["hair_curl"], 0.6, 0.9)
    bumps = curl * 0.35 * wave(c.x * 4.1 + c["hair_phase"]) * wave(c.y * 4.3 + 2 * c["hair_phase"])
    flare = c.pick("hair_flare", -0.12, 0.3)
    close = 1 - c["short"] * ramp(c.y, -0.42, -0.05)  # short hair lies close at the ears
    wide = c["half"] * (1.02 + 0.03 * close) + c["volume"] * close
    wide = wide + flare * down * np.maximum(1.1 - down, 0)
    high = c["top"] * 1.04 + 1.1 * c["volume"]
    round_ = np.sqrt(square(c.x / wide) + square(np.minimum(c.y, 0) / high)) - 1
    end = (c.y - low + 0.35 * square(c.x)) * 0.8
    return np.maximum(round_ * c["half"] + bumps, end + bumps)


def _face_opening(c: Canvas) -> Plane:
    """Approximate distance to the part of the head that hair does not cover."""
    fringe = ramp(c["fringe"], 0.74, 0.76) * (0.35 + 0.65 * c["gender"]) * (c["recede"] == 0)
    line = c.pick("hairline", -0.41, -0.34) - 0.2 * c["recede"] + 0.17 * fringe
    dx = c.x - c["mid"] * 0.55
    part = c.pick("hair_part", -1, 1)
    slope = np.clip(1.6 * part, -1, 1) * 0.22 * (1 - fringe)
    peak = np.where(c["hair_style"] < 0.35, 0.3, 0.0) * c["gender"] * (1 - fringe)
    y = c.y + slope * dx - peak * np.abs(dx) + 0.2 * c["recede"] * square(dx) / 0.16
    tuck = c["tuck"]
    wide = c["half"] * (0.86 + 0.1 * tuck) + np.maximum(c.y, 0) * (0.02 + 0.14 * tuck)
    up = np.minimum(y - 0.1, 0) / (0.1 - line)
    squared = square(up)
    flat = np.minimum(c.pick("hair_part", 0.9, 0.2) + 0.4 * fringe, 1)
    squared = cv.mix(squared, squared * squared, flat)
    return (np.sqrt(square(dx / wide) + squared) - 1) * 0.4


def _hair_color(c: Canvas, tone: Plane) -> np.ndarray:
    fan = c.x / (0.55 + np.maximum(c.y + 0.9, 0) * 0.4)
    bent = fan + 0.05 * wave(fan * 2.7 + c["hair_phase"] + 0.4 * c.y)
    strands = 0.45 * wave(bent * 5.3 + c["hair_phase"]) + 0.55 * wave(bent * 13.7 + c.y * 0.6)
    strands = strands * (0.7 + 0.3 * wave(bent * 31 + c.y))
    ball = np.sqrt(square(c.x / c["half"]) + square(np.minimum(c.y, 0.1) / c["top"]))
    gloss = cv.glow(ball - 0.88, c.x - 0.3 * c["light"], 0.2, 0.55)
    edge = ramp(ball, 0.75, 1.25)
    tone = tone + 0.085 * strands + 0.32 * gloss - 0.22 * edge + 0.3 * c["light"] * c.x
    return c["hair"] * tone[:, None] + 0.05 * gloss[:, None]


def _draw_hair_behind(c: Canvas) -> None:
    low = c["hair_low"]
    mask = c.cover(_hair_outline(c, low), 2)
    bun = c["gender"] * (c["bun"] < 0.22) * (c["hair_length"] > 0.35)
    knot = cv.ellipse(c.x + 0.1 * c["turn"], c.y + c["top"] + 0.16, 0.2, 0.17)
    mask = np.maximum(mask, c.cover(knot, 2) * bun)
    shown = 1 - c["short"] * ramp(c.y, -0.12, -0.02)
    c.paint(mask * shown, _hair_color(c, 0.62 - 0.2 * ramp(c.y, -0.1, 0.7)))


def _draw_hair_front(c: Canvas) -> None:
    low = np.minimum(c["hair_low"], cv.mix(np.float32(1.2), np.float32(0.05), c["tuck"]))
    outline = _hair_outline(c, low)
    opening = _face_opening(c)
    shadow = ramp(opening, -0.12, 0.02) * ramp(outline, 0.03, -0.03) * ramp(c.y, 0.5, 0.1)
    c.shade(shadow, -0.2, -0.26, -0.28)
    thin = cv.mix(np.float32(0.82), np.float32(1), ramp(c["hair_length"], 0.02, 0.12))
    softness = 3 + 0.02 / c.pixel
    thin = thin * (1 - 0.85 * c["short"] * ramp(c.y, low - 0.16, low))  # fades at the ears
    mask = c.cover(np.maximum(outline, -opening), 1.5) * c.cover(-opening, softness) * thin
    c.paint(mask, _hair_color(c, 0.86 - 0.15 * ramp(c.y, 0.1, 0.9)))


def _draw_earrings(c: Canvas) -> None:
    c = c.rows(0, 0.5)
    worn = c["gender"] * (c["earring"] < 0.4) * ramp(c["tuck"], 0.5, 0.9)
    for side in (-1, 1):
        dx, dy = c.x - side * c["half"] * 1.02, c.y - c["eye_line"] - 0.28
        gold = cv.rgb(0.95, 0.82, 0.5)
        c.paint(c.cover(cv.ellipse(dx, dy, 0.028, 0.034), 1.5) * worn, gold)


def _grade(c: Canvas) -> None:
    """Gives each picture its own slight tint and contrast."""
    tint, gain = c.pick("tint", -0.05, 0.05), c.pick("contrast", 0.82, 1.08)
    for channel, weight in enumerate((1, 0, -1)):
        c.image[:, channel] *= gain * (1 + weight * tint)
