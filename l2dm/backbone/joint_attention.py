"""What the picture attends to in joint attention (SD 3, arXiv 2403.03206), where picture and text stand in
one row of keys.

    A = mean over heads of softmax(Q_picture K_textᵀ / sqrt(d))

over the keys of the text alone: the shares of its tokens in what the picture takes from the text, as
cross-attention has them. The fused attention gives no probabilities, so they are worked out beside it, from
the queries and keys that it is called with: normed, turned by their places, of the whole batch, with their
gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from .sites import PICTURE_FIRST

#: What the fused attention is called with, in its order.
_GIVEN = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")


def _padded(pixels: int, picture_first: int) -> int:
    return -(-pixels // picture_first) * picture_first if picture_first else pixels


def _text_and_picture(rows: int, keys: int, pixels: int, picture_first: int) -> tuple[slice, slice] | None:
    """Where among ``keys`` the text stands and where among ``rows`` the picture; None where this is no
    attention of both. ``picture_first``: the multiple to which a picture that comes first is padded; 0 where
    the text comes first.
    """
    tokens = keys - (padded := _padded(pixels, picture_first))
    if tokens <= 0 or rows not in (padded, keys):
        return None
    return (slice(padded, None), slice(pixels)) if picture_first else (slice(tokens), slice(-pixels, None))


def text_probabilities(
    query: torch.Tensor,
    key: torch.Tensor,
    pixels: int,
    picture_first: int = 0,
    attn_mask: torch.Tensor | None = None,
    scale: float | None = None,
    of_picture: bool = False,
) -> torch.Tensor | None:
    """(B, pixels, tokens), or ``of_picture`` (B, pixels, pixels), the shares among the picture's own keys, in
    [0, 1] of ``query`` (B, heads, rows, d) and ``key`` (B, heads, picture and text, d); None where the
    picture has not ``pixels``. ``picture_first`` as above. ``attn_mask``: of bool, or added, as
    ``scaled_dot_product_attention`` has it.
    """
    found = _text_and_picture(query.shape[2], key.shape[2], pixels, picture_first)
    if found is None:
        return None
    text, picture = found
    text = picture if of_picture else text
    scores = query[:, :, picture] @ key[:, :, text].mT * (scale or query.shape[-1] ** -0.5)
    if attn_mask is not None:
        mask = attn_mask.expand(*query.shape[:3], key.shape[2])[:, :, picture, text]
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return scores.float().softmax(-1).mean(1)


class _Fused(TorchFunctionMode):
    """Tells ``seen`` of every fused attention, before it is worked out; a mask that it returns is used in
    place of its own.
    """

    def __init__(self, seen: Callable[..., torch.Tensor | None]):
        super().__init__()
        self.seen = seen

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if function is not F.scaled_dot_product_attention:
            return function(*args, **(kwargs or {}))
        given = dict(zip(_GIVEN, args)) | (kwargs or {})
        mask = self.seen(**given)
        return function(**given | ({} if mask is None else {"attn_mask": mask}))


@contextmanager
def _told(
    denoiser: torch.nn.Module, names: list[str], tell: Callable[..., torch.Tensor | None]
) -> Iterator[None]:
    """Within the block ``tell`` hears of every fused attention in the layers ``names``: ``PICTURE_FIRST`` of
    its block, and what it is called with.
    """
    layers = [denoiser.get_submodule(name) for name in names]
    before = [vars(layer).get("forward") for layer in layers]

    def forward(own: Callable, first: int, *args: Any, **kwargs: Any) -> Any:
        with _Fused(partial(tell, first)):
            return own(*args, **kwargs)

    try:
        for name, layer in zip(names, layers):
            block = type(denoiser.get_submodule(name.rpartition(".")[0])).__name__
            layer.forward = partial(forward, layer.forward, PICTURE_FIRST.get(block, 0))
        yield
    finally:
        for layer, own in zip(layers, before):
            vars(layer).pop("forward", None)
            if own is not None:
                layer.forward = own


def joint_maps(
    denoiser: torch.nn.Module,
    names: list[str],
    pixels: int,
    take: Callable[[torch.Tensor], None],
    wanted: Callable[[], bool],
    take_own: Callable[[torch.Tensor], None] | None = None,
) -> AbstractContextManager[None]:
    """Within the block every forward of the joint attention layers ``names`` hands ``take`` its
    ``text_probabilities``, while they are ``wanted``, and before that ``take_own`` those of the picture."""

    def tell(first: int, query, key, value, attn_mask=None, scale=None, **others: Any) -> None:
        if not wanted():
            return
        found = text_probabilities(query, key, pixels, first, attn_mask, scale)
        if found is not None:
            if take_own:
                take_own(text_probabilities(query, key, pixels, first, attn_mask, scale, of_picture=True))
            take(found)

    return _told(denoiser, names, tell)


def joint_biases(
    denoiser: torch.nn.Module,
    names: list[str],
    pixels: Callable[[], int],
    bias: Callable[[int, int], torch.Tensor | None],
) -> AbstractContextManager[None]:
    """Within the block ``bias(pixels(), tokens)``, (B, pixels, tokens) or None, is added to the scores of the
    picture's queries on the text's keys in the joint attention layers ``names``."""

    def tell(first: int, query, key, value, attn_mask=None, **others: Any) -> torch.Tensor | None:
        rows, keys = query.shape[2], key.shape[2]
        count = (
            rows if rows != keys else pixels()
        )  # where the picture alone asks, levels have sizes of their own
        found = _text_and_picture(rows, keys, count, first)
        if found is None or (added := bias(count, keys - _padded(count, first))) is None:
            return None
        mask = query.new_zeros(len(query), 1, rows, keys)
        mask[:, 0, found[1], found[0]] = added.to(mask)
        if attn_mask is None:
            return mask
        return mask.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else mask + attn_mask

    return _told(denoiser, names, tell)
