"""Embeddings (Textual Inversion, arXiv 2208.01618): one token a file.

A model of one text encoder: one key, ``{token: (n, width)}``, as diffusers writes it. Of several: a key for
each, ``clip_l``, ``clip_g``, ``t5xxl``, as ComfyUI and Stable Diffusion web UI read them.
"""

from __future__ import annotations

import torch

from ..errors import ExchangeError


def embedding_file(
    token: str, vectors: torch.Tensor, keys: tuple[str, ...], widths: list[int]
) -> dict[str, torch.Tensor]:
    """``vectors`` (width,) or (n, width): the encoders' parts, side by side, of ``widths`` under ``keys``."""
    parts = vectors.view(-1, vectors.shape[-1]).split(widths, -1)
    return {token: parts[0]} if len(keys) == 1 else dict(zip(keys, parts))


def looks_like_embedding(tensors: dict[str, torch.Tensor]) -> bool:
    """Whether a file is one: its keys are encoders, or a token alone; those of weights have dots."""
    named = set(tensors) <= {"clip_l", "clip_g", "t5xxl"}
    return named or (len(tensors) == 1 and not any("." in key for key in tensors))


def read_embedding(
    said: str, tensors: dict[str, torch.Tensor], keys: tuple[str, ...], widths: list[int]
) -> torch.Tensor:
    """(width,) or (n, width) of the encoders one after another, in float32. Raises ExchangeError where it is
    of another base.
    """
    if len(keys) == 1:
        found = list(tensors.values())
    elif missing := [key for key in keys if key not in tensors]:
        raise ExchangeError(
            f"{said}: it has {', '.join(sorted(tensors))[:80]} and no {missing[0]}; this base reads "
            f"{', '.join(keys)}: it is for another base"
        )
    else:
        found = [tensors[key] for key in keys]
    if len(found) != len(keys):
        raise ExchangeError(f"{said}: {len(found)} embeddings in one file; give one token a file")
    rows = [tensor.view(1, -1) if tensor.dim() == 1 else tensor for tensor in found]
    for key, row, width in zip(keys, rows, widths):
        if row.dim() != 2 or row.shape[1] != width or not len(row):
            raise ExchangeError(
                f"{said}: its vectors{' of ' + key if key else ''} are {tuple(row.shape)}, expected (number, "
                f"{width}); it is for another base"
            )
    if len({len(row) for row in rows}) > 1:
        raise ExchangeError(
            f"{said}: its encoders have {[len(row) for row in rows]} vectors; expected the same number"
        )
    vectors = torch.cat(rows, -1).float()
    return vectors if len(vectors) > 1 else vectors[0]
