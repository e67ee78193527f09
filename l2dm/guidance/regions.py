"""Where each concept of a picture belongs: the masks of the unmix loss.

Two concepts get halves, split along the axis on which their own attention lies furthest apart [given: halves;
which half: reconstructed]. More get the cells around as many points on a circle. Words of the prompt ("on the
left") decide where present, and a layout by hand decides all: boxes, which may overlap, and what they leave
for what has none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ..errors import SettingsError
from .assignment import assign

#: x0, y0, x1, y1 in [0, 1], shares of the picture's sides, x right and y down
Box = tuple[float, float, float, float]

#: side -> (x, y) of its centre, in a square from -1 to 1, y down
SIDES = {"left": (-0.5, 0.0), "right": (0.5, 0.0), "top": (0.0, -0.5), "bottom": (0.0, 0.5)}


def centroids(maps: torch.Tensor) -> torch.Tensor:
    """(B, m, 2): x and y of the mean of each map (B, m, h, w), in [-1, 1]."""
    share = maps / maps.sum((2, 3), keepdim=True).clamp(min=1e-12)
    x, y = (
        torch.linspace(-1, 1, n, device=maps.device, dtype=maps.dtype) for n in (maps.shape[3], maps.shape[2])
    )
    return torch.stack([(share * x).sum((2, 3)), (share * y[:, None]).sum((2, 3))], -1)


def layouts(count: int) -> list[list[tuple[float, float]]]:
    """Anchor points that ``count`` concepts may share out among themselves."""
    turns = [0.0, 0.25] if count == 2 else [k / (4 * count) for k in range(4)]
    return [
        [
            (
                0.5 * math.cos(2 * math.pi * (i / count + turn)),
                0.5 * math.sin(2 * math.pi * (i / count + turn)),
            )
            for i in range(count)
        ]
        for turn in turns
    ]


def all_said(wanted: list[str | None]) -> bool:
    """Whether the sides that are ``wanted`` leave nothing open: of two things one will do."""
    return sum(side is None for side in wanted) <= (len(wanted) == 2)


def anchors(where: torch.Tensor, wanted: list[str | None]) -> torch.Tensor:
    """(m, 2): each concept's own anchor, the summed squared distance to the centroids ``where`` (m, 2) being
    least; ``wanted`` sides come first."""
    count = len(wanted)
    if any(wanted):
        left = [i for i, side in enumerate(wanted) if side is None]
        points = where.clone()
        for i, side in enumerate(wanted):
            if side is not None:
                points[i] = torch.tensor(SIDES[side]).to(where)
        if count == 2 and left:  # the other one goes to the other side
            points[left[0]] = -points[1 - left[0]]
        return points
    best, least = where, math.inf
    for layout in layouts(count):
        points = torch.tensor(layout).to(where)
        costs = (where[:, None] - points[None]).square().sum(-1).tolist()
        order = assign(costs)
        total = sum(row[column] for row, column in zip(costs, order))
        if total < least:
            best, least = points[order], total
    return best


def masks(maps: torch.Tensor, wanted: list[str | None]) -> torch.Tensor:
    """Zeros and ones (B, m, h, w): every pixel belongs to the concept whose anchor is nearest; no two
    overlap.
    """
    return voronoi_masks(
        torch.stack([anchors(row, wanted) for row in centroids(maps.detach())]), *maps.shape[2:]
    ).to(maps)


def voronoi_masks(where: torch.Tensor, h: int, w: int) -> torch.Tensor:
    """Zeros and ones (B, m, h, w), of the anchors ``where`` (B, m, 2): every pixel belongs to the nearest
    one.
    """
    x = torch.linspace(-1 + 1 / w, 1 - 1 / w, w, device=where.device)
    y = torch.linspace(-1 + 1 / h, 1 - 1 / h, h, device=where.device)
    grid = torch.stack([x.expand(h, w), y[:, None].expand(h, w)], -1)
    nearest = (grid[None, None] - where[:, :, None, None]).square().sum(-1).argmin(1)
    return torch.nn.functional.one_hot(nearest, where.shape[1]).permute(0, 3, 1, 2)


def of_boxes(boxes: Sequence[Box | None], h: int, w: int) -> torch.Tensor:
    """Zeros and ones (m, h, w): the cells whose middle is in each box, of a smaller box the one that its own
    middle is in; of None the cells that are nobody's. SettingsError where none is left."""
    x, y = (torch.arange(w) + 0.5) / w, (torch.arange(h) + 0.5) / h
    found = torch.zeros(len(boxes), h, w)
    for part, box in zip(found, boxes):
        if box is None:
            continue
        x0, y0, x1, y1 = box
        across, down = (x >= x0) & (x < x1), (y >= y0) & (y < y1)
        across[int(w * (x0 + x1) / 2)] |= not across.any()
        down[int(h * (y0 + y1) / 2)] |= not down.any()
        part[down[:, None] & across] = 1
    left = 1 - found.amax(0)
    if None in boxes and not left.any():
        raise SettingsError(
            "layout: no part of the picture is left for what is not placed; place every thing, or make the "
            "boxes smaller"
        )
    for part, box in zip(found, boxes):
        if box is None:
            part.copy_(left)
    return found


def said(boxes: Sequence[Box | None], sides: list[str | None], h: int, w: int) -> torch.Tensor | None:
    """Zeros and ones (m, h, w) where a layout or the prompt's own words say where everything goes; None where
    the maps are to tell.
    """
    if any(boxes):
        return of_boxes(boxes, h, w)
    if any(sides) and all_said(sides):
        return voronoi_masks(anchors(torch.zeros(len(sides), 2), sides)[None], h, w)[0].float()
    return None
