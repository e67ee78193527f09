"""Orthogonal attention artist (L2DM, arXiv 2309.04430): against looks that leak from one concept to another.

[given: it "disentangles the attention distributions of individual tokens" and "strengthens the personalized
token when it matches the concept token (i = j)"] [reconstructed:] with G_ij = cos(A_Vi, A_Nj),
    L_OAA = sum_{i != j} G_ij^2 + sum_i (1 - G_ii)^2
a personal token looks where its own noun looks, and nowhere near another's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def orthogonal_loss(personal: torch.Tensor, nouns: torch.Tensor) -> torch.Tensor:
    """(B,): maps of the personal tokens and of their nouns, each (B, m, h, w); in [0, m^2]."""
    g = F.normalize(personal.flatten(2), dim=-1) @ F.normalize(nouns.flatten(2), dim=-1).mT
    own = torch.diagonal(g, dim1=1, dim2=2)
    return g.square().sum((1, 2)) - own.square().sum(1) + (1 - own).square().sum(1)
