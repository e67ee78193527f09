"""Concept attention artist (L2DM, arXiv 2309.04430, Fig. 2): against concepts that are neglected.

Concepts-level unmix loss, against proximity. [given: a mask "assigns zero to half of the cross-attention map
and one to the remaining half"] [reconstructed:]
    L_CLUL = sum_i  sum_u (1 - M_i(u)) A_i(u) / sum_u A_i(u)
the share of concept i's attention that lies outside its half.

Dynamic attend loss, against disparity. [reconstructed:]
    L_DAL = sum_i w_i (1 - max_u A_i(u)),   w = m * softmax((1 - max_u A_i) / tau)
the weaker a concept is at this step, the more it is attended to.
"""

from __future__ import annotations

import torch


def unmix_loss(maps: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """(B,) in [0, m]: ``maps`` (B, m, h, w) at least 0, ``masks`` of zeros and ones, the same shape."""
    inside = (masks * maps).sum((2, 3)) / maps.sum((2, 3)).clamp(min=1e-12)
    return (1 - inside).sum(1)


def attend_loss(maps: torch.Tensor, tau: float = 0.25) -> torch.Tensor:
    """(B,): ``maps`` (B, m, h, w) in [0, 1]. The weights are constants: they choose, they are not pushed
    against.
    """
    lacking = 1 - maps.amax((2, 3))
    weights = maps.shape[1] * (lacking.detach() / tau).softmax(1)
    return (weights * lacking).sum(1)
