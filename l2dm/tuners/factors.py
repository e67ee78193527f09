"""A low-rank change of a layer's weight, as LoRA files have it (Hu et al., arXiv 2106.09685): alpha / rank *
U D.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class Factors(NamedTuple):
    """D ``down`` (rank, in) and U ``up`` (out, rank); of a convolution (rank, in, height, width) and (out,
    rank, 1, 1).
    """

    down: torch.Tensor
    up: torch.Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return len(self.down)

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def change(self) -> torch.Tensor:
        """What is added to the weight, in its shape and in float32."""
        product = self.up.float().flatten(1) @ self.down.float().flatten(1)
        return product.view(len(self.up), *self.down.shape[1:]) * self.scale

    @classmethod
    def exactly(cls, change: torch.Tensor) -> Factors:
        """``change`` (out, in) of whatever rank: beside an identity of its smaller side, so that the product
        is its very numbers.
        """
        out, into = change.shape
        if into <= out:
            return cls(torch.eye(into).to(change), change, into)
        return cls(change, torch.eye(out).to(change), out)

    def padded(self, rank: int) -> Factors:
        """The same change with components of 0 up to ``rank``."""
        more = rank - self.rank
        down = torch.cat([self.down, self.down.new_zeros(more, *self.down.shape[1:])])
        up = torch.cat([self.up, self.up.new_zeros(len(self.up), more, *self.up.shape[2:])], 1)
        return Factors(down, up, self.alpha * rank / self.rank)


def side_by_side(several: list[Factors]) -> Factors:
    """The sum of ``several`` as one, whose rank is the sum of theirs; unequal scales go into the ups."""
    if len(several) == 1:
        return several[0]
    rank = sum(one.rank for one in several)
    ups = [one.up if one.scale == 1 else one.up.float() * one.scale for one in several]
    kind = torch.float32 if any(part.dtype != ups[0].dtype for part in ups) else ups[0].dtype
    downs = torch.cat([one.down.to(kind) for one in several])
    return Factors(downs, torch.cat([up.to(kind) for up in ups], 1), rank)
