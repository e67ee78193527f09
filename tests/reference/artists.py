"""The attention artists' formulas of L2DM (arXiv 2309.04430) as loops over single cells; a map is a list of
rows.
"""

from __future__ import annotations

import math


def literal_unmix(maps: list, masks: list) -> float:
    """sum_i sum_u (1 - M_i(u)) A_i(u) / sum_u A_i(u)."""
    total = 0.0
    for a, m in zip(maps, masks):
        outside = sum((1 - m[y][x]) * a[y][x] for y in range(len(a)) for x in range(len(a[0])))
        total += outside / sum(sum(row) for row in a)
    return total


def literal_attend(maps: list, tau: float) -> tuple[float, list]:
    """sum_i w_i (1 - max_u A_i(u)) with w = m softmax((1 - max) / tau), and its gradient for constant w: -w_i
    at the maximum.
    """
    lacking = [1 - max(max(row) for row in a) for a in maps]
    e = [math.exp(value / tau) for value in lacking]
    weights = [len(maps) * value / sum(e) for value in e]
    slopes = [
        [[-w if 1 - value == lack else 0.0 for value in row] for row in a]
        for a, w, lack in zip(maps, weights, lacking)
    ]
    return sum(w * lack for w, lack in zip(weights, lacking)), slopes


def literal_centroid(a: list) -> list[float]:
    """x and y of the mean, from -1 at the first column or row to 1 at the last."""
    height, width, mass = len(a), len(a[0]), sum(sum(row) for row in a)
    cells = [(y, x) for y in range(height) for x in range(width)]
    return [
        sum((2 * x / (width - 1) - 1) * a[y][x] for y, x in cells) / mass,
        sum((2 * y / (height - 1) - 1) * a[y][x] for y, x in cells) / mass,
    ]


def literal_smooth(a: list) -> list:
    """A 3 x 3 Gaussian of variance 1/2; beyond the edge lies the mirror image without the edge itself."""
    height, width = len(a), len(a[0])

    def mirrored(i: int, n: int) -> int:
        return -i if i < 0 else 2 * (n - 1) - i if i >= n else i

    weight = {(dy, dx): math.exp(-(dy * dy + dx * dx)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
    return [
        [
            sum(w * a[mirrored(y + dy, height)][mirrored(x + dx, width)] for (dy, dx), w in weight.items())
            / sum(weight.values())
            for x in range(width)
        ]
        for y in range(height)
    ]
