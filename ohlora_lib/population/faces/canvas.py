"""Soft shapes on a batch of pictures; the brushes of `drawing`.

Axes: B faces, H height, W width. Coordinates run from -1 (left, top) to 1 (right, bottom).
Pixels are computed with + - * / sqrt min max only, so that they do not depend on the batch: these
round alike in NumPy's vector and scalar loops, whereas sin, exp and power may not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

Plane = np.ndarray  # (B, H, W), or (B, 1, 1) for one number per face
square = np.square


@dataclass(frozen=True)
class Canvas:
    """Pictures of a batch of faces, with coordinates and traits; `rows` shares the pixels."""

    image: np.ndarray  # in [0, 1], shape (B, 3, H, W), painted in place
    x: Plane
    y: Plane
    pixel: float  # width of a pixel in coordinates
    traits: Mapping[str, np.ndarray]  # numbers (B, 1, 1) and colours (B, 3, 1, 1) per face
    zoom: float = 1.0  # magnification relative to the coordinates
    lift: float = 0.0  # upward shift

    def __getitem__(self, name: str) -> np.ndarray:
        """Returns one trait."""
        return self.traits[name]

    def pick(self, name: str, low: float, high: float) -> Plane:
        """Rescales a uniform trait from 0..1 to low..high."""
        return np.float32(low) + np.float32(high - low) * self.traits[name]

    def rows(self, top: float, bottom: float) -> "Canvas":
        """Restricts painting to a band of the picture."""
        side = self.image.shape[2]
        first, last = (int(((y - self.lift) * self.zoom + 1) / 2 * side) for y in (top, bottom))
        band = slice(max(first, 0), last + 1)
        image = self.image[:, :, band]  # (B, 3, h, W)
        return replace(self, image=image, x=self.x[:, band], y=self.y[:, band])

    def draw_some(self, chosen: Plane, draw: Callable[["Canvas"], None]) -> None:
        """Draws only on the faces for which `chosen`, shape (B, 1, 1), is true."""
        rows = np.flatnonzero(chosen)
        traits = {name: trait[rows] for name, trait in self.traits.items()}
        part = replace(self, image=self.image[rows], x=self.x[rows], y=self.y[rows], traits=traits)
        draw(part)
        self.image[rows] = part.image

    def paint(self, mask: Plane, color: np.ndarray) -> None:
        """Blends a colour (broadcast to (B, 3, H, W)) over the picture; opaque where mask is 1."""
        step = color - self.image
        step *= mask[:, None]
        np.add(self.image, step, out=self.image)

    def shade(self, mask: Plane, red: float, green: float, blue: float) -> None:
        """Multiplies each colour channel by 1 + mask x amount."""
        for channel, amount in enumerate((red, green, blue)):
            self.image[:, channel] *= 1 + np.float32(amount) * mask

    def cover(self, distance: Plane, width: float = 1.0) -> Plane:
        """Mask: 1 inside (distance < 0), 0 outside, with an edge `width` pixels wide."""
        return np.clip(0.5 - distance * np.float32(1 / (width * self.pixel)), 0, 1)


def ramp(value: Plane, low: Plane | float, high: Plane | float) -> Plane:
    """Rises smoothly from 0 at low to 1 at high."""
    t = np.clip((value - low) * (1 / np.subtract(high, low, dtype=np.float32)), 0, 1)
    return t * t * (3 - 2 * t)


def glow(dx: Plane, dy: Plane, wide: Plane | float, high: Plane | float) -> Plane:
    """A soft spot: 1 at the centre, 0 from the edge of the ellipse outwards."""
    spot = np.maximum(1 - square(dx / wide) - square(dy / high), 0)
    return spot * spot


def ellipse(dx: Plane, dy: Plane, wide: Plane | float, high: Plane | float) -> Plane:
    """Approximate distance to an ellipse, negative inside."""
    return (np.sqrt(square(dx / wide) + square(dy / high)) - 1) * np.minimum(wide, high)


def wave(t: Plane) -> Plane:
    """Oscillates between -1 and 1 with period 1, like a sine."""
    f = t - np.floor(t)
    f = 4 * f - 2
    return f * (2 - np.abs(f)) * -1


def sine(angle: np.ndarray) -> np.ndarray:
    """Approximates the sine within 1e-4 for angles up to 1.2."""
    q = angle * angle
    return angle * (1 - q / 6 * (1 - q / 20 * (1 - q / 42)))


def cosine(angle: np.ndarray) -> np.ndarray:
    """Approximates the cosine within 1e-4 for angles up to 1.2."""
    q = angle * angle
    return 1 - q / 2 * (1 - q / 12 * (1 - q / 30 * (1 - q / 56)))


def mix(low: np.ndarray, high: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Interpolates from low (t = 0) to high (t = 1)."""
    return low + (high - low) * t


def palette(stops: list[tuple[int, int, int]], t: np.ndarray) -> np.ndarray:
    """Interpolates colours (B, 3, 1, 1) at t (B, 1, 1) between evenly spaced 0..255 stops."""
    at = np.linspace(0, 1, len(stops))
    channels = [np.interp(t.reshape(-1), at, column) for column in np.array(stops).T / 255.0]
    return np.stack(channels, 1).astype(np.float32)[:, :, None, None]


def hue_color(hue: np.ndarray, saturation: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Makes colours (B, 3, 1, 1) with about the given mean brightness."""
    thirds = np.array([0, 1 / 3, 2 / 3], np.float32)[None, :, None, None]
    return light[:, None] * (1 + saturation[:, None] * wave(hue[:, None] + thirds))


def rgb(red: float, green: float, blue: float) -> np.ndarray:
    """Makes one colour for all faces, shape (3, 1, 1)."""
    return np.array([red, green, blue], np.float32)[:, None, None]
