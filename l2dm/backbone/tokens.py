"""Personal tokens: new words for a CLIP tokenizer, and their vectors beside (not inside) the frozen embedding table."""

from __future__ import annotations

import torch
from torch import nn


class PersonalTokens(nn.Module):
    """Wraps a token embedding; ids from ``base.num_embeddings`` on are looked up in ``vectors``.

    Only the vectors are trainable: the table itself is never copied, resized or given a gradient.
    """

    def __init__(self, base: nn.Embedding):
        super().__init__()
        self.base = base
        self.vectors = nn.ParameterList()

    def add(self, vector: torch.Tensor) -> nn.Parameter:
        """Append a token's vector, shape ``(width,)``; its id is ``base.num_embeddings + len(vectors) - 1``."""
        self.vectors.append(nn.Parameter(vector.detach().clone().to(self.base.weight), requires_grad=False))
        return self.vectors[-1]

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(B, tokens) ids -> (B, tokens, width); without personal ids exactly the wrapped embedding's output."""
        if not len(self.vectors):
            return self.base(ids)
        size = self.base.num_embeddings
        personal = ids >= size
        plain = self.base(ids.masked_fill(personal, 0))
        # not by indexing, whose gradient several threads add up in an order of their own
        own = nn.functional.embedding((ids - size).clamp(min=0), torch.stack(list(self.vectors)))
        return torch.where(personal[..., None], own, plain)
