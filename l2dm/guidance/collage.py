"""Collage: every thing drawn alone, put in its place, and the whole drawn to its end together (ours).

A denoiser that draws one thing well and two things badly is asked for one thing at a time. For the first
``ALONE`` of the steps each thing of the prompt has a picture of its own; these are shrunken and put side by
side, each in its own part of the picture; noise is added and the prompt itself is denoised from there, so
that what lies between them fits (SDEdit, Meng et al., arXiv 2108.01073), while what lies inside a shrunken
picture is held to it, to the end (RePaint, Lugmayr et al., arXiv 2201.09865): one step of the whole prompt
alone, and concepts mingle. Nothing is trained, no gradient is taken, and two things of one noun are no harder
than others.

So late, where nothing but the ground is drawn, classifier-free guidance only makes colours hard (of little
noise: Kynkäänniemi et al., arXiv 2404.07724): the whole is drawn without it, at half the cost. m things take
m * ALONE + (1 - ALONE) / 2 of a plain picture's forwards (1.25 for two). What a collage cannot do: things
that touch or hold each other.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from PIL import Image

from ..concept import shrunken
from .regions import Box, anchors, of_boxes, voronoi_masks

ALONE = 0.5  # share of the steps
GUIDANCE = (
    2 / 3
)  # of a concept alone, as a share of ``guidance_scale``: it has one look only, and needs less to come out
TOGETHER = 0.0  # of the whole, likewise
SIZE = 1.05  # a shrunken picture's area, as a multiple of a place's; in sides


def grid(count: int) -> list[int]:
    """How many of ``count`` places each row has, about as many as there are rows: 2; 2, 1; 2, 2; 3, 2."""
    rows = round(math.sqrt(count))
    return [len(range(row, count, rows)) for row in range(rows)]


def spots(sides: list[str | None]) -> torch.Tensor:
    """(m, 2): the middle of each thing's place in [-1, 1], x right and y down. In the prompt's order, laid
    out in reading order, unless ``sides`` (left, right, top, bottom) say otherwise; sides that leave two
    things on one spot say nothing.
    """
    rows = grid(len(sides))
    places = [
        ((2 * i + 1) / n - 1, (2 * row + 1) / len(rows) - 1) for row, n in enumerate(rows) for i in range(n)
    ]
    points = torch.tensor(places)
    wanted = anchors(points, sides) if any(sides) else points
    return (
        wanted if all(float((a - b).norm()) > 0.1 for a, b in itertools.combinations(wanted, 2)) else points
    )


def middles(boxes: list[Box]) -> torch.Tensor:
    """(m, 2): the middle of each box in [-1, 1], as ``spots`` has them."""
    return torch.tensor([(x0 + x1 - 1, y0 + y1 - 1) for x0, y0, x1, y1 in boxes])


def collage(
    pictures: list[Image.Image], points: torch.Tensor, size: tuple[int, int], boxes: list[Box] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """``pictures``, shrunken, about ``points`` (m, 2) of a picture ``size`` = (width, height) pixels large;
    of a layout each as large as its box, and where boxes overlap the smaller one in front.

    The pixels (height, width, 3), uint8, and where they are a picture's own (height, width), bool: elsewhere
    its edges are drawn out.
    """
    width, height = size
    centres, rows = ((points.double() + 1) / 2 * torch.tensor(size)).tolist(), grid(len(points))
    parts = parts_of(points, height, width, boxes)
    shares = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes or ()] or [1 / (len(rows) * rows[0])] * len(
        points
    )
    pixels, inside = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), bool)
    for i in range(len(points)):
        side = max(1, round(SIZE * math.sqrt(width * height * shares[i])))
        part, counts = shrunken(pictures[i], side, size, centres[i])
        pixels[parts[i]], inside[parts[i]] = part[parts[i]], counts[parts[i]]
    return pixels, inside


def parts_of(points: torch.Tensor, h: int, w: int, boxes: list[Box] | None = None) -> np.ndarray:
    """Whose each cell is, (m, h, w) of bool: its nearest point's of ``points`` (m, 2); of a layout the
    smallest box's that it is in.
    """
    parts = voronoi_masks(points[None], h, w)[0].bool().numpy()
    inside = of_boxes(boxes, h, w).bool().numpy() if boxes else ()
    for i in sorted(range(len(inside)), key=lambda i: -int(inside[i].sum())):
        parts = parts & ~inside[i]
        parts[i] |= inside[i]
    return parts
