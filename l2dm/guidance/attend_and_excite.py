"""Attend-and-Excite (Chefer et al., arXiv 2301.13826): the most neglected token's strongest point is raised.

L = max_i (1 - max_u A_i(u)),   A = smooth(softmax over the prompt's own tokens of 100 * probability)

Iterative refinement: before steps 0, 10 and 20 of 50 the latents are moved until L is at most 1 - 0.05, 1 -
0.5, 1 - 0.8.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .attention import smooth

#: share of the steps -> what the weakest token's strongest point is to reach there
GOALS = {0.0: 0.05, 0.2: 0.5, 0.4: 0.8}


def goals(steps: int) -> dict[int, float]:
    """Step -> goal, for any number of steps; where two fall on one step the higher counts."""
    return {round(share * steps): goal for share, goal in GOALS.items()}


def sharpened(probabilities: torch.Tensor, words: Sequence[int]) -> torch.Tensor:
    """(B, tokens, h, w) of the tokens at ``words``, the prompt's own; the others' maps are 0."""
    places = torch.tensor(words, device=probabilities.device)
    inner = smooth((100 * probabilities[:, places]).softmax(1))
    return torch.zeros_like(probabilities).index_copy(1, places, inner)


def most_neglected_loss(maps: torch.Tensor) -> torch.Tensor:
    """(B,) in [0, 1]: ``maps`` (B, m, h, w) of the tokens to attend to."""
    return (1 - maps.amax((2, 3))).amax(1)
