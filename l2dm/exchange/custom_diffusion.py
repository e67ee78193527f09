"""Custom Diffusion's weights (Kumari et al., arXiv 2212.04488): W_K and W_V of the text's layers, whole,
under diffusers' keys.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from ..errors import ExchangeError
from ..tuners.factors import Factors

_MARK = "_custom_diffusion"


def is_custom_diffusion(tensors: dict[str, torch.Tensor]) -> bool:
    return any(_MARK in key for key in tensors)


def custom_diffusion_file(
    weights: dict[str, torch.Tensor], processors: Iterable[str]
) -> dict[str, torch.Tensor]:
    """``weights``: ``<layer>.weight`` -> the whole of it, of layers ``….to_k`` and ``….to_v``.
    ``processors``: names of all attention processors; diffusers wants each named, with nothing in it where
    the layer stays as it is.
    """
    own = {f"{name.removesuffix('.weight').rpartition('.')[0]}.processor" for name in weights}
    found = {name: torch.zeros(0) for name in processors if name not in own}
    for name, weight in weights.items():
        attention, _, own = name.removesuffix(".weight").rpartition(".")
        found[f"{attention}.processor.{own}{_MARK}.weight"] = weight
    return found


def read_custom_diffusion(
    said: str, tensors: dict[str, torch.Tensor], weights: dict[str, torch.Tensor]
) -> dict[str, Factors]:
    """The difference of each layer from the base's own; ``weights``: these, of the layers that may be changed
    so, by name.
    """
    found = {}
    for key, tensor in tensors.items():
        if not tensor.numel():
            continue
        attention, _, own = key.removeprefix("unet.").partition(".processor.")
        layer = f"{attention}.{own.removesuffix('.weight').replace(_MARK, '')}"
        if layer not in weights:
            raise ExchangeError(
                f"{said}: {key[:100]}: this base has no such keys or values of the text, so the file is for "
                "another base, or of a kind that "
                "changes more than those"
            )
        if tensor.shape != weights[layer].shape:
            raise ExchangeError(
                f"{said}: {key[:100]} is {tuple(tensor.shape)}, the layer {tuple(weights[layer].shape)}; it "
                "is for another base"
            )
        change = tensor.float() - weights[layer].float()
        if change.any():
            found[layer] = Factors.exactly(change)
    if not found:
        raise ExchangeError(f"{said}: its weights are the base's own; there is nothing to take in")
    return found
