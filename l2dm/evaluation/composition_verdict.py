"""The judge's verdict on a picture of several things that it is to hold: what went wrong, if anything.

All of it comes from the judge's 8 x 8 cells: L[p, u] in [-1, 1] is how much cell u looks like thing p, for
every thing that the judge knows (the things named, the other concepts, look-alikes of the same nouns). A
thing is found at cell u where L[p, u] >= found, at which something of its kind is as likely there as not; the
cell has its looks where L[p, u] >= sure, at which it itself is, look-alikes considered. Its place u_p is its
best cell, argmax_u L[p, u].

    present        every thing named is found somewhere own looks      at its place each is the one that the
    cell looks most like, of all things known: no look-alike is nearer none doubled   of no thing named are
    there two groups of cells that are its own (found there, and nearest of all known);
                   cells up to two rows and columns apart are one group, so that a thing's own gaps do not
                   count
    no leak        the place of no thing named has another one's looks

A picture succeeds when all four hold. Which composed pictures do, right and wrong ones, is in the judge's
card. What the cells cannot tell: cells see far beyond themselves, so things that touch may count as a leak,
and of two things very close together a doubled one may count as one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch


@dataclass(frozen=True)
class Verdict:
    """One picture's."""

    present: bool
    own_looks: bool
    none_doubled: bool
    no_leak: bool

    @property
    def success(self) -> bool:
        return self.present and self.own_looks and self.none_doubled and self.no_leak

    def as_dict(self) -> dict[str, bool]:
        return {"success": self.success, **asdict(self)}


def groups(cells: torch.Tensor, reach: int = 2) -> int:
    """How many groups the true cells of ``(h, w)`` form, when those up to ``reach`` rows and columns apart
    belong together.
    """
    left, count = {tuple(cell) for cell in cells.nonzero().tolist()}, 0
    while left:
        count, edge = count + 1, [left.pop()]
        while edge:
            y, x = edge.pop()
            near = {(v, u) for v, u in left if abs(v - y) <= reach and abs(u - x) <= reach}
            left -= near
            edge += near
    return count


def places(like: torch.Tensor, named: list[int]) -> list[tuple[float, float]]:
    """Where each of ``named`` is, the middle (x, y) in [0, 1] of its best cell, of cells' likeness ``like``
    (known things, h, w).
    """
    height, width = like.shape[1:]
    best = [divmod(int(like[p].argmax()), width) for p in named]
    return [((x + 0.5) / width, (y + 0.5) / height) for y, x in best]


def verdict(like: torch.Tensor, named: list[int], found: float, sure: float) -> Verdict:
    """Of one picture with cells' likeness ``like`` (known things, h, w); ``named``: which of them it is to
    hold, each once.
    """
    flat = like.flatten(1)
    nearest = flat.argmax(0)
    place = {p: int(flat[p].argmax()) for p in named}
    own = {p: ((nearest == p) & (flat[p] >= found)).view(like.shape[1:]) for p in named}
    return Verdict(
        present=all(float(flat[p].amax()) >= found for p in named),
        own_looks=all(int(nearest[place[p]]) == p for p in named),
        none_doubled=all(groups(own[p]) <= 1 for p in named),
        no_leak=not any(float(flat[other, place[p]]) >= sure for p in named for other in named if other != p),
    )
