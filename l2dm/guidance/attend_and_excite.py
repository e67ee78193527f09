"""Attend-and-Excite (Chefer et al., arXiv 2301.13826): the most neglected token's strongest point is raised.

L = max_i (1 - max_u A_i(u)),   A = smooth(softmax over the prompt's own tokens of 100 * probability)
"""

from __future__ import annotations

import torch

from .attention import smooth


def sharpened(probabilities: torch.Tensor, words: int) -> torch.Tensor:
    """(B, tokens, h, w) of the ``words`` tokens between start and end token; the others' maps are 0."""
    inner = smooth((100 * probabilities[:, 1 : words + 1]).softmax(1))
    return torch.nn.functional.pad(inner, (0, 0, 0, 0, 1, probabilities.shape[1] - words - 1))


def most_neglected_loss(maps: torch.Tensor) -> torch.Tensor:
    """(B,) in [0, 1]: ``maps`` (B, m, h, w) of the tokens to attend to."""
    return (1 - maps.amax((2, 3))).amax(1)
