"""What the picture attends to in joint attention, written literally: head by head and pixel by pixel, from
the layer's own projections.
"""

from __future__ import annotations

import math

import torch


def literal_text_attention(attn, call: dict, pixels: int, tokens: int) -> torch.Tensor:
    """(B, pixels, tokens): mean over heads of softmax(q_pixel . k_token / sqrt(d)) over the text's tokens
    alone.

    ``call``: what the layer ``attn`` was called with. Text with keys of its own comes from ``add_k_proj``; in
    a row of one stream it stands before the picture or behind it: where the row's places (``freqs_cis``) are
    given it stands behind, the picture padded to 32.
    """
    hidden, context = call["hidden_states"], call.get("encoder_hidden_states")
    if hidden.ndim == 4:  # DeepFloyd IF
        context = attn.norm_encoder_hidden_states(context)
        hidden = attn.group_norm(hidden.flatten(2)).mT
    if hasattr(attn, "to_qkv_mlp_proj"):  # FLUX.2's single blocks
        query, key = attn.to_qkv_mlp_proj(hidden)[..., : 2 * attn.inner_dim].chunk(2, -1)
    else:
        query, key = attn.to_q(hidden), attn.to_k(hidden)
    norm_query, norm_key = getattr(attn, "norm_q", None), getattr(attn, "norm_k", None)
    query, key = _heads(query, attn.heads, norm_query), _heads(key, attn.heads, norm_key)
    places, turns = call.get("image_rotary_emb"), call.get("freqs_cis")
    if turns is not None:
        query, key = _turned_as_complex(query, turns), _turned_as_complex(key, turns)
    elif places is not None and context is None:
        query, key = _turned(query, *places), _turned(key, *places)
    if context is not None:
        words = _heads(attn.add_k_proj(context), attn.heads, getattr(attn, "norm_added_k", None))
        if places is not None:
            cos, sin = places
            query, words = (
                _turned(query, cos[tokens:], sin[tokens:]),
                _turned(words, cos[:tokens], sin[:tokens]),
            )
    elif turns is not None:
        query, words = query[:, :, :pixels], key[:, :, math.ceil(pixels / 32) * 32 :]
    else:
        query, words = query[:, :, tokens:], key[:, :, :tokens]
    mask = call.get("attention_mask")
    out = torch.zeros(len(query), pixels, tokens, device=query.device)
    for row in range(len(query)):
        for pixel in range(pixels):
            for head in range(attn.heads):
                scores = words[row, head] @ query[row, head, pixel] / math.sqrt(query.shape[-1])
                if turns is not None and mask is not None:
                    scores[~mask[row, -tokens:]] = -math.inf
                exponents = torch.exp(scores - scores.max())
                out[row, pixel] += exponents / exponents.sum() / attn.heads
    return out


def _heads(x: torch.Tensor, heads: int, norm) -> torch.Tensor:
    """(B, heads, rows, d)."""
    x = x.unflatten(-1, (heads, -1)).transpose(1, 2)
    return norm(x) if norm is not None else x


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Each pair of numbers turned by the angle of its place; ``cos`` and ``sin`` (rows, d) have every angle
    twice.
    """
    out = torch.empty_like(x)
    for i in range(0, x.shape[-1], 2):
        a, b = x[..., i], x[..., i + 1]
        out[..., i] = a * cos[:, i] - b * sin[:, i]
        out[..., i + 1] = b * cos[:, i] + a * sin[:, i]
    return out


def _turned_as_complex(x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """The same by complex numbers ``turns`` (B, rows, d / 2)."""
    return torch.stack(
        [
            _turned(row[None], t.real.repeat_interleave(2, -1), t.imag.repeat_interleave(2, -1))[0]
            for row, t in zip(x, turns)
        ]
    )
