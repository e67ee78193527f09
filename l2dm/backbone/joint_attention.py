"""What the picture attends to in joint attention (SD 3, arXiv 2403.03206), where picture and text stand in one row of keys.

    A = mean over heads of softmax(Q_picture K_textᵀ / sqrt(d))

over the keys of the text alone: the shares of its tokens in what the picture takes from the text, as cross-attention has them. The fused
attention gives no probabilities, so they are worked out beside it, from the queries and keys that it is called with: normed, turned by
their places, of the whole batch, with their gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

#: Blocks in whose rows the picture comes first, and the multiple to which it is padded; in all others the text comes first.
_PICTURE_FIRST = {"JointTransformerBlock": 1, "ZImageTransformerBlock": 32}


def text_probabilities(
    query: torch.Tensor, key: torch.Tensor, pixels: int, picture_first: int = 0,
    attn_mask: torch.Tensor | None = None, scale: float | None = None,
) -> torch.Tensor | None:  # fmt: skip
    """(B, pixels, tokens) in [0, 1] of ``query`` (B, heads, rows, d) and ``key`` (B, heads, picture and text, d); None where the picture has
    not ``pixels``. ``picture_first``: the multiple to which a picture that comes first is padded; 0 where the text comes first.
    ``attn_mask``: of bool, or added, as ``scaled_dot_product_attention`` has it.
    """
    padded = -(-pixels // picture_first) * picture_first if picture_first else pixels
    tokens = key.shape[2] - padded
    if tokens <= 0 or query.shape[2] not in (padded, key.shape[2]):
        return None
    text = slice(padded, None) if picture_first else slice(tokens)
    picture = slice(pixels) if picture_first else slice(-pixels, None)
    scores = query[:, :, picture] @ key[:, :, text].mT * (scale or query.shape[-1] ** -0.5)
    if attn_mask is not None:
        mask = attn_mask.expand(*query.shape[:3], key.shape[2])[:, :, picture, text]
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return scores.float().softmax(-1).mean(1)


class _Fused(TorchFunctionMode):
    """Tells ``seen`` of every fused attention, before it is worked out."""

    def __init__(self, seen: Callable[..., None]):
        super().__init__()
        self.seen = seen

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if function is F.scaled_dot_product_attention:
            self.seen(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


@contextmanager
def joint_maps(
    denoiser: torch.nn.Module, names: list[str], pixels: int, take: Callable[[torch.Tensor], None]
) -> Iterator[None]:
    """Within the block every forward of the joint attention layers ``names`` hands ``take`` its ``text_probabilities``."""
    layers = {name: denoiser.get_submodule(name) for name in names}

    def forward(name: str, *args: Any, **kwargs: Any) -> Any:
        block = type(denoiser.get_submodule(name.rpartition(".")[0])).__name__

        def seen(
            query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
        ):
            found = text_probabilities(query, key, pixels, _PICTURE_FIRST.get(block, 0), attn_mask, scale)
            if found is not None:
                take(found)

        with _Fused(seen):
            return type(layers[name]).forward(layers[name], *args, **kwargs)

    try:
        for name, layer in layers.items():
            layer.forward = partial(forward, name)
        yield
    finally:
        for layer in layers.values():
            vars(layer).pop("forward", None)
