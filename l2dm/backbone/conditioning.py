"""What a denoiser reads: text features, and beside them the words they were made of and the concepts that are
named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Conditioning:
    """A row for each picture of a batch; ``c[rows]`` and ``cat`` take and join rows of all parts. Parts that
    a base has no use for are None.

    ``features`` (B, length, width) of the tokens; ``ids`` (B, length) these tokens; ``named`` (B, personal
    tokens) of bool: the concepts that the picture's prompt names, for a negative prompt those of the prompt
    that it stands beside. ``pooled`` (B, width) features of the whole text; ``mask`` (B, length): which
    tokens are read; ``negative`` (B,) of bool: the rows that a pipeline is guided away from. ``regions`` (B,
    personal tokens, h, w) in [0, 1]: where in the picture each concept acts; None: everywhere.
    """

    features: torch.Tensor
    ids: torch.Tensor | None = None
    named: torch.Tensor | None = None
    pooled: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    negative: torch.Tensor | None = None
    regions: torch.Tensor | None = None

    @classmethod
    def of(cls, given: Conditioning | torch.Tensor) -> Conditioning:
        """``given``; mere features (B, length, width) will do where nothing acts by the prompt."""
        return cls(given) if isinstance(given, torch.Tensor) else given

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: slice | Sequence[int] | torch.Tensor) -> Conditioning:
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        return Conditioning(**{name: None if part is None else part[rows] for name, part in parts.items()})

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        """The rows of ``parts``, all of one base, one after another."""
        names = [f.name for f in fields(Conditioning) if getattr(parts[0], f.name) is not None]
        return Conditioning(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def resized(regions: torch.Tensor, pixels: int) -> torch.Tensor:
    """``regions`` (B, n, h, w) as the ``pixels`` cells of another level have them: a finer cell is its
    nearest one's, a coarser one belongs to all that its own belong to, so that no part is lost. ValueError
    where no grid of that many cells has their shape.
    """
    h, w = regions.shape[2:]
    height = round((pixels * h / w) ** 0.5)
    width = pixels // max(1, height)
    if height * width != pixels or height * w != width * h:
        raise ValueError(f"{pixels} cells are no picture of {h} x {w} in another size")
    if height < h:
        return F.adaptive_max_pool2d(regions, (height, width))
    return regions if height == h else F.interpolate(regions, (height, width), mode="nearest-exact")
