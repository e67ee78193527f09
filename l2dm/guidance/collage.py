"""Collage: every thing drawn alone, put in its place, and the whole drawn to its end together (ours).

A denoiser that draws one thing well and two things badly is asked for one thing at a time. For the first ``ALONE`` of the steps
each thing of the prompt has a picture of its own; these are shrunken and put side by side, each in its own part of the picture;
noise is added and the prompt itself is denoised from there, so that what lies between them fits (SDEdit, Meng et al.,
arXiv 2108.01073), while what lies inside a shrunken picture is held to it, to the end (RePaint, Lugmayr et al., arXiv 2201.09865):
one step of the whole prompt alone, and concepts mingle. Nothing is trained, no gradient is taken, and two things of one noun are no harder than others.

What it costs: m things take m * ALONE + (1 - ALONE) of a plain picture's forwards (1.6 for two). What it cannot do: things that
touch or hold each other.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from PIL import Image

from ..concept import shrunken
from .regions import anchors, layouts, territories

ALONE = 0.6  # share of the steps
OVERLAP = 1.4  # a shrunken picture's side, as a multiple of the distance between the nearest two


def spots(sides: list[str | None]) -> torch.Tensor:
    """(m, 2): the middle of each thing's place in [-1, 1], x right and y down. In the prompt's order from left to right, unless
    ``sides`` (left, right, top, bottom) say otherwise; sides that leave two things on one spot say nothing."""
    layout = layouts(len(sides))[0 if len(sides) == 2 else -1]
    points = torch.tensor(sorted(layout))
    wanted = anchors(points, sides)
    return wanted if nearest(wanted) > 0.1 else points


def nearest(points: torch.Tensor) -> float:
    """The distance between the nearest two of ``points`` (m, 2)."""
    return min(float((a - b).norm()) for a, b in itertools.combinations(points, 2))


def collage(pictures: list[Image.Image], points: torch.Tensor, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """``pictures``, shrunken, about ``points`` (m, 2) of a picture ``size`` = (width, height) pixels large.

    The pixels (height, width, 3), uint8, and where they are a picture's own (height, width), bool: elsewhere its edges are drawn out."""
    width, height = size
    middles = (points.double() + 1) / 2 * torch.tensor(size)
    side = max(1, round(OVERLAP * nearest(middles)))
    pixels, inside = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), bool)
    for picture, middle, own in zip(pictures, middles.tolist(), territories(points[None], height, width)[0].bool().numpy()):
        part, counts = shrunken(picture, side, size, middle)
        pixels[own], inside[own] = part[own], counts[own]
    return pixels, inside
