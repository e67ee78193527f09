"""Self-Cross guidance (Qiu et al., arXiv 2411.18936): what a thing's own cells attend to is not where another
thing is looked for.

    S_j = sum_{u in O_j} A_j(u) P(u, .)        O_j: the cells above Otsu's threshold of A_j; P: the picture's
    attention to itself L_SC = mean over i != j of  sum_u min(S_j(u) / sum S_j,  A_i(u) / sum A_i) L = L_AE +
    L_SC, and L_AE alone where it is above 1/2

A are the sharpened, smoothed maps of Attend-and-Excite and L_AE is its loss: the authors add L_SC to the
cross-attention loss of InitNO, which is that. Left out, as they are not part of the loss: InitNO's search for
a noise, its refinements and its loss of clean maps, and the history of maps that the code released with the
paper can average over.
"""

from __future__ import annotations

import torch

from .attend_and_excite import most_neglected_loss
from .attention import smooth
from .otsu import otsu

TOO_NEGLECTED = 0.5  # loss of the most neglected thing above which there is no shape yet to keep apart


def aggregated(maps: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """S (B, m, h, w): what each thing's cells attend to in the picture, of ``maps`` (B, m, h, w) and ``own``
    (B, pixels, pixels).
    """
    weights = (maps * otsu(maps.detach())).flatten(2)
    return smooth((weights @ own).unflatten(-1, maps.shape[2:]))


def self_cross_loss(maps: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """(B,) in [0, 1]: the mean overlap of one thing's S with another's map; of one thing 0."""
    count = maps.shape[1]
    if count < 2:
        return maps.new_zeros(len(maps))
    seen, looked = (
        x.flatten(2) / x.sum((2, 3)).clamp(min=1e-12)[..., None] for x in (aggregated(maps, own), maps)
    )
    overlap = torch.minimum(seen[:, :, None], looked[:, None]).sum(-1)
    return (overlap.sum((1, 2)) - torch.diagonal(overlap, dim1=1, dim2=2).sum(-1)) / (count * (count - 1))


def joint_loss(maps: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """(B,): L of the paper, of ``sharpened`` maps."""
    neglect = most_neglected_loss(maps)
    return neglect + (neglect.detach() <= TOO_NEGLECTED) * self_cross_loss(maps, own)
