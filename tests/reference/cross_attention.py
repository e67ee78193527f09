"""What the picture attends to in cross-attention, written literally: head by head and pixel by pixel."""

from __future__ import annotations

import torch


def literal_cross_attention(
    attn, hidden: torch.Tensor, context: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """(B, pixels, tokens): mean over heads of softmax(q_pixel . k_token / sqrt(d)) over the tokens that
    ``mask`` (B, 1, tokens) leaves.
    """
    query, key = attn.to_q(hidden), attn.to_k(context)
    if attn.norm_q is not None:
        query, key = attn.norm_q(query), attn.norm_k(key)
    size = query.shape[-1] // attn.heads
    out = torch.zeros(*query.shape[:2], key.shape[1], device=query.device)
    for row in range(len(query)):
        for head in range(attn.heads):
            own = slice(head * size, (head + 1) * size)
            for pixel in range(query.shape[1]):
                scores = key[row, :, own] @ query[row, pixel, own] / size**0.5
                if mask is not None:
                    scores = scores.masked_fill(mask[row, 0] < 0, -torch.inf)
                exponents = torch.exp(scores - scores.max())
                out[row, pixel] += exponents / exponents.sum() / attn.heads
    return out
