"""Whether a picture of several things is one picture, or several that stand beside each other: grounds that
differ, with a seam between.

Looked at is the ground along the picture's upper and lower edge, where things seldom reach, between each two
things that stand beside each other; with the mean colour s(x) of a column of such a band, L and R its means
on the two sides of the middle between the things,

    gap  = rms(L - R)                                                   the grounds differ step = max_x
    rms(mean s[x - k .. x] - mean s[x .. x + k]),          at once, near the middle: x within w / 8 of it, k =
    w / 16 pasted where  gap >= GAP  and  step >= gap / 2

A ground that grows darker from left to right has a gap and no step, a post between two things a step and no
gap. Of things above each other nothing is told: a sky over a meadow has both. What it says of composed
pictures of known content is in its tests.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from PIL import Image

GAP = 0.08  # of colours in [0, 1]: 20 of 255
BAND = 1 / 8  # of the height


def pasted(image: Image.Image, places: list[tuple[float, float]]) -> bool | None:
    """Of a picture whose things have their middles at ``places`` (x, y) in [0, 1]; None where no two of them
    are beside each other.
    """
    pixels = np.asarray(image.convert("RGB"), np.float64) / 255
    found = [_seam(pixels, *pair) for pair in _beside(places)]
    return any(found) if found else None


def _beside(places: list[tuple[float, float]]) -> list[tuple[float, float, float, list[int]]]:
    """Of each two things with nothing between them (left end, middle, right end) in [0, 1], and the bands
    that they are near: 0 the upper one.
    """
    ordered = sorted(places)
    rows = [
        [one for one in ordered if abs(one[1] - two[1]) <= abs(one[0] - two[0]) or one == two]
        for two in ordered
    ]
    found = []
    for (ax, ay), (bx, by) in {pair for row in rows for pair in pairwise(row)}:
        if bx - ax <= abs(by - ay):
            continue
        y = (ay + by) / 2
        found.append(
            (
                max(0.0, 1.5 * ax - 0.5 * bx),
                (ax + bx) / 2,
                min(1.0, 1.5 * bx - 0.5 * ax),
                [band for band, near in enumerate((y <= 0.6, y >= 0.4)) if near],
            )
        )
    return found


def _seam(pixels: np.ndarray, start: float, middle: float, end: float, bands: list[int]) -> bool:
    height, width = pixels.shape[:2]
    deep, k = max(1, round(height * BAND)), max(1, width // 16)
    low, mid, high = (round(width * at) for at in (start, middle, end))
    for band in bands:
        columns = pixels[:deep].mean(0) if band == 0 else pixels[-deep:].mean(0)
        gap = _rms(columns[low:mid].mean(0) - columns[mid:high].mean(0))
        near = range(max(k, mid - width // 8), min(width - k, mid + width // 8) + 1)
        step = max((_rms(columns[x - k : x].mean(0) - columns[x : x + k].mean(0)) for x in near), default=0.0)
        if gap >= GAP and step >= gap / 2:
            return True
    return False


def _rms(colour: np.ndarray) -> float:
    return float(np.sqrt(np.square(colour).mean()))
