"""Soft shapes on a batch of pictures: what `drawing` paints with.

Axes: B faces, H height, W width. Coordinates run from -1 (left, top) to 1 (right, bottom).
Only + - * / sqrt min max touch pixels, so a pixel never depends on its neighbours in a batch:
these round alike in the vector and the scalar loops of numpy, and sin, exp or power need not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

Plane = np.ndarray  # (B, H, W), or (B, 1, 1) for a number per face
square = np.square


@dataclass(frozen=True)
class Canvas:
    """Pictures of some faces, their coordinates and their traits; a part shares the pixels."""

    image: np.ndarray  # in [0, 1], shape (B, 3, H, W), painted in place
    x: Plane
    y: Plane
    pixel: float  # its width in coordinates
    traits: Mapping[str, np.ndarray]  # numbers (B, 1, 1) and colours (B, 3, 1, 1) per face
    zoom: float = 1.0  # how much larger than the coordinates say all is drawn
    lift: float = 0.0  # how much higher

    def __getitem__(self, name: str) -> np.ndarray:
        """Gives one trait."""
        return self.traits[name]

    def pick(self, name: str, low: float, high: float) -> Plane:
        """Gives one uniform trait, stretched from 0..1 to low..high."""
        return np.float32(low) + np.float32(high - low) * self.traits[name]

    def rows(self, top: float, bottom: float) -> "Canvas":
        """Restricts painting to a band of the picture."""
        side = self.image.shape[2]
        first, last = (int(((y - self.lift) * self.zoom + 1) / 2 * side) for y in (top, bottom))
        band = slice(max(first, 0), last + 1)
        image = self.image[:, :, band]  # (B, 3, h, W)
        return replace(self, image=image, x=self.x[:, band], y=self.y[:, band])

    def draw_some(self, chosen: Plane, draw: Callable[["Canvas"], None]) -> None:
        """Draws on those faces alone for which `chosen`, shape (B, 1, 1), holds."""
        rows = np.flatnonzero(chosen)
        traits = {name: trait[rows] for name, trait in self.traits.items()}
        part = replace(self, image=self.image[rows], x=self.x[rows], y=self.y[rows], traits=traits)
        draw(part)
        self.image[rows] = part.image

    def paint(self, mask: Plane, color: np.ndarray) -> None:
        """Lays a colour (broadcast to (B, 3, H, W)) over the picture where the mask is 1."""
        step = color - self.image
        step *= mask[:, None]
        np.add(self.image, step, out=self.image)

    def shade(self, mask: Plane, red: float, green: float, blue: float) -> None:
        """Multiplies the picture by 1 + mask x amount, colour by colour."""
        for channel, amount in enumerate((red, green, blue)):
            self.image[:, channel] *= 1 + np.float32(amount) * mask

    def cover(self, distance: Plane, width: float = 1.0) -> Plane:
        """Gives 1 inside (distance < 0) and 0 outside, over `width` pixels."""
        return np.clip(0.5 - distance * np.float32(1 / (width * self.pixel)), 0, 1)


def ramp(value: Plane, low: Plane | float, high: Plane | float) -> Plane:
    """Rises smoothly from 0 at low to 1 at high."""
    t = np.clip((value - low) * (1 / np.subtract(high, low, dtype=np.float32)), 0, 1)
    return t * t * (3 - 2 * t)


def glow(dx: Plane, dy: Plane, wide: Plane | float, high: Plane | float) -> Plane:
    """Gives a soft spot: 1 in the middle, 0 from the ellipse's edge on."""
    spot = np.maximum(1 - square(dx / wide) - square(dy / high), 0)
    return spot * spot


def ellipse(dx: Plane, dy: Plane, wide: Plane | float, high: Plane | float) -> Plane:
    """Gives about the distance to an ellipse, negative inside."""
    return (np.sqrt(square(dx / wide) + square(dy / high)) - 1) * np.minimum(wide, high)


def wave(t: Plane) -> Plane:
    """Swings between -1 and 1 with period 1, like a sine."""
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
    """Goes from low (t 0) to high (t 1)."""
    return low + (high - low) * t


def palette(stops: list[tuple[int, int, int]], t: np.ndarray) -> np.ndarray:
    """Reads colours, shape (B, 3, 1, 1), off evenly spaced 0..255 stops at t, shape (B, 1, 1)."""
    at = np.linspace(0, 1, len(stops))
    channels = [np.interp(t.reshape(-1), at, column) for column in np.array(stops).T / 255.0]
    return np.stack(channels, 1).astype(np.float32)[:, :, None, None]


def hue_color(hue: np.ndarray, saturation: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Makes a colour, shape (B, 3, 1, 1), of about the given mean brightness."""
    thirds = np.array([0, 1 / 3, 2 / 3], np.float32)[None, :, None, None]
    return light[:, None] * (1 + saturation[:, None] * wave(hue[:, None] + thirds))


def rgb(red: float, green: float, blue: float) -> np.ndarray:
    """Makes one colour for all faces, shape (3, 1, 1)."""
    return np.array([red, green, blue], np.float32)[:, None, None]
