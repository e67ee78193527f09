"""Rainbow selection of the short-term memory (L2DM, arXiv 2309.04430, Algorithm 1 and Eq. 5 [given]).

    S(a, i) = [sum over all generated b of (1 - sim(f_a, f_b))] / N_g  +  beta_S * sim(f_a, f_i)

f_a, f_b are features of generated pictures, f_i a stored feature of the same task as a; sim is the cosine.
The first term prefers pictures unlike the others (diverse), the second pictures like the real concept
(guided).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def rainbow_score(
    candidates: torch.Tensor, generated: torch.Tensor, stored: torch.Tensor, guide: float = 1.0
) -> torch.Tensor:
    """Scores (a, n) of ``candidates`` (a, d) for each ``stored`` feature (n, d) of their task.

    ``generated`` (N_g, d) are the features of all generated pictures of all tasks, the candidates among them;
    ``guide`` is beta_S. Features need not be normalised. The first term lies in [0, 2], the second in beta_S
    * [-1, 1].
    """
    candidates, generated, stored = (F.normalize(f.float(), dim=-1) for f in (candidates, generated, stored))
    diversity = 1 - candidates @ generated.mean(0)
    return diversity[:, None] + guide * candidates @ stored.T


def select(
    candidates: torch.Tensor,
    generated: torch.Tensor,
    stored: torch.Tensor,
    guide: float = 1.0,
    own: torch.Tensor | None = None,
) -> torch.Tensor:
    """For every stored feature the index of the candidate with the highest score, shape ``(n,)``; one may
    serve twice. ``own`` (a, n) of bool: which candidates were drawn from the stored feature's prompt; the
    others do not compete for it.
    """
    scores = rainbow_score(candidates, generated, stored, guide)
    return (scores if own is None else scores.masked_fill(~own, -torch.inf)).argmax(0)
