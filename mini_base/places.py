"""Where things are pictured: plain colours, and places that are drawn."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

PLAIN = {
    "white": (250, 250, 250),
    "gray": (150, 152, 156),
    "black": (22, 22, 26),
    "red": (214, 56, 54),
    "orange": (244, 150, 50),
    "yellow": (250, 214, 84),
    "green": (92, 178, 98),
    "blue": (78, 134, 226),
    "purple": (142, 96, 200),
    "pink": (246, 166, 196),
}
PLACES = {
    "grass": "in the grass",
    "beach": "on the beach",
    "snow": "in the snow",
    "water": "in the water",
    "night": "at night",
    "wood": "on a wooden floor",
    "brick": "in front of a brick wall",
}


def _vertical(top, bottom, side):
    ramp = np.linspace(0, 1, side)[:, None, None]
    return np.broadcast_to(np.array(top) * (1 - ramp) + np.array(bottom) * ramp, (side, side, 3)).copy()


def _noise(rng: np.random.Generator, side: int, unit: int) -> np.ndarray:
    """``(side, side, 1)`` of deviation about 1, its grains ``unit`` pixels wide."""
    fine = rng.normal(size=(side // unit, side // unit, 1))
    if unit == 1:
        return fine
    return np.asarray(
        Image.fromarray(fine[..., 0].astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
    )[..., None]


def draw_place(kind: str, rng: np.random.Generator, side: int, unit: int) -> Image.Image:
    """One drawing of a place, ``side`` pixels square; a line of it, a star or a blade's breadth is ``unit``
    pixels.
    """
    sky, horizon = (150 + rng.integers(30), 205 + rng.integers(20), 245), int(side * rng.uniform(0.3, 0.55))
    canvas = _vertical(sky, (225, 240, 250), side)
    noise = _noise(rng, side, unit)
    if kind == "grass":
        canvas[horizon:] = _vertical((120, 190, 80), (70, 150, 50), side)[horizon:] + 10 * noise[horizon:]
    elif kind == "beach":
        shore = min(side - 8 * unit, horizon + int(side * rng.uniform(0.1, 0.2)))
        canvas[horizon:shore] = (60, 150 + rng.integers(40), 205)
        canvas[shore:] = np.array((238, 214, 160)) + 6 * noise[shore:]
    elif kind == "snow":
        canvas = _vertical((170, 190, 215), (205, 218, 232), side)
        canvas[horizon:] = np.array((240, 245, 250)) + 3 * noise[horizon:]
    elif kind == "water":
        y, x = np.mgrid[:side, :side]
        y, x = y / unit, x / unit
        wave = np.sin(y / rng.uniform(1.8, 2.6) + 1.5 * np.sin(x / rng.uniform(6, 12) + rng.uniform(0, 6)))
        canvas = _vertical((70, 160, 215), (25, 95, 170), side) + 14 * wave[..., None]
    elif kind == "night":
        canvas = _vertical((14, 16, 48), (44, 40, 88), side)
    elif kind == "wood":
        plank = int(rng.integers(9, 14)) * unit
        canvas = np.empty((side, side, 3))
        for top in range(0, side, plank):
            tone = np.array((176, 122, 72)) * rng.uniform(0.88, 1.1)
            grain = rng.normal(size=(min(plank, side - top), 1, 1)) * 5
            canvas[top : top + plank] = tone + grain
            canvas[top : top + unit] = (110, 70, 40)
    elif kind == "brick":
        canvas = np.broadcast_to(np.array((205.0, 195, 185)), (side, side, 3)).copy()
        high, wide = int(rng.integers(7, 10)) * unit, int(rng.integers(16, 22)) * unit
        for row, top in enumerate(range(0, side, high)):
            for left in range(-(row % 2) * wide // 2, side, wide):
                tone = np.array((172, 74, 58)) * rng.uniform(0.85, 1.12)
                canvas[top : top + high - unit, max(0, left) : max(0, left + wide - unit)] = tone
    image = Image.fromarray(canvas.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    if kind == "grass":
        for _ in range(side * 2 // unit):
            x, y = rng.integers(side), rng.integers(horizon, side)
            green = tuple(int(c) for c in np.array((90, 170, 60)) * rng.uniform(0.7, 1.25))
            tip = int(x + rng.integers(-2, 3) * unit), int(y - rng.integers(2, 6) * unit)
            pen.line((int(x), int(y), *tip), fill=green, width=unit)
    if kind in ("snow", "night"):
        for _ in range((side // 2 if kind == "night" else side) // unit):
            x, y = (int(v) for v in rng.integers(side, size=2))
            pen.rectangle(
                (x, y, x + unit - 1, y + unit - 1),
                fill=(255, 255, 255) if kind == "snow" or rng.random() < 0.5 else (200, 200, 160),
            )
    if kind == "night" and rng.random() < 0.6:
        x, y, r = int(rng.integers(side)), int(rng.integers(side // 3)), int(rng.integers(5, 9)) * unit
        pen.ellipse((x - r, y - r, x + r, y + r), fill=(245, 240, 205))
    return image
