"""What small denoisers do to pictures, done to composed ones: the judge learns from it, and is measured with
and without.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter


def field(rng: np.random.Generator, side: int, cells: int) -> np.ndarray:
    """Smooth noise ``(side, side)`` of deviation about 1, with ``cells`` bumps along a side."""
    return np.asarray(
        Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32)).resize(
            (side, side), Image.Resampling.BICUBIC
        )
    )


def degraded(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``(side, side, 3)`` uint8 after what small denoisers do to pictures: outlines bent, details run
    together in blots, colours mottled, blur, noise, another light. How much of each is drawn anew every time;
    one picture in eight stays as it is.
    """
    if rng.random() < 0.125:
        return pixels
    side = len(pixels)
    if rng.random() < 0.6:  # outlines: every pixel is fetched from a little beside it
        y, x = np.mgrid[:side, :side] + rng.uniform(0, 1.6) * np.stack([field(rng, side, 8) for _ in "yx"])
        pixels = pixels[y.round().astype(int).clip(0, side - 1), x.round().astype(int).clip(0, side - 1)]
    image = Image.fromarray(pixels)
    blots = rng.random()
    if blots < 0.5:
        image = image.filter(ImageFilter.MedianFilter(5) if blots < 0.2 else ImageFilter.MedianFilter(3))
    if rng.random() < 0.6:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 1.4))))
    out = np.asarray(image).astype(np.float32)
    out = (out - 128) * rng.uniform(0.85, 1.3) + 128 + rng.uniform(-12, 12, size=3)
    for cells in (8, 16, 32):
        if rng.random() < 0.5:
            out += np.stack([field(rng, side, cells) for _ in "rgb"], -1) * rng.uniform(0, 16)
    out += rng.normal(size=out.shape) * rng.uniform(0, 5)
    return out.clip(0, 255).astype(np.uint8)
