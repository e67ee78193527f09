"""LoRA files (Hu et al., arXiv 2106.09685), read: under the names of every program that is known here, with
alphas and ranks as they are.
"""

from __future__ import annotations

import json
import re
from typing import Any

import torch

from ..errors import ExchangeError
from ..tuners.factors import Factors
from . import names
from .lora import SETTINGS, Layers

#: Ends of keys that hold D and U.
_DOWNS = (
    ".lora_down.weight",
    ".lora_A.weight",
    ".lora_A.default.weight",
    ".lora.down.weight",
    ".lora_linear_layer.down.weight",
    ".down.weight",
)
_UPS = (
    ".lora_up.weight",
    ".lora_B.weight",
    ".lora_B.default.weight",
    ".lora.up.weight",
    ".lora_linear_layer.up.weight",
    ".up.weight",
)
#: What a key has in it -> what that is, and what to do.
_OTHERS = {
    r"dora_scale|lora_magnitude_vector": "a DoRA, whose weights are scaled by a norm of their own; merge it "
    "into its base and give that, or train it as LoRA",
    r"\.hada_": "a LoHa; resave it as LoRA with the tool that made it",
    r"\.lokr_": "a LoKr; resave it as LoRA with the tool that made it",
    r"\.oft_|\.boft_": "an OFT; merge it into its base and give that",
    r"\.lora_mid\.": "a LoCon in CP form; resave it without lora_mid",
    r"\.diff(_b)?$|\.w_norm$|\.b_norm$|\.set_weight$": "a file of whole differences; merge it into its base "
    "and give that",
    r"\.lora_B\.(default\.)?bias$": "a LoRA with biases; train it without",
    r"^bundle_emb\.": "a LoRA with an embedding within; save that to a file of its own",
}


def _split(one: Factors, sizes: list[int]) -> list[Factors]:
    """The layers that are one in a file, apart."""
    ups, count = one.up.split(sizes), len(sizes)
    if one.rank % count == 0:
        own = one.rank // count
        parts = [up.split(own, 1) for up in ups]
        if not any(part.any() for i, row in enumerate(parts) for j, part in enumerate(row) if i != j):
            return [
                Factors(down, parts[i][i].contiguous(), one.alpha / count)
                for i, down in enumerate(one.down.split(own))
            ]
    return [Factors(one.down, up.contiguous(), one.alpha) for up in ups]


def read_lora(
    said: str, tensors: dict[str, torch.Tensor], told: dict[str, str], known: Layers
) -> tuple[dict[str, Factors], list[str]]:
    """The adapter in a file, by the names of the layers that are ``known``, and the stems in it of text
    encoders that are not.

    Raises ExchangeError for what is no LoRA, and what does not fit the base.
    """
    for key in tensors:
        for pattern, what in _OTHERS.items():
            if re.search(pattern, key):
                raise ExchangeError(f"{said}: {key[:80]}: this is {what}")
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        stem, kind = _told(key)
        if not kind:
            raise ExchangeError(f"{said}: {key[:80]}: not a key of a LoRA file")
        parts.setdefault(stem, {})[kind] = tensor
    stems, left, found, of_text = known.read(), [], {}, set(known.of_text)
    settings = _settings(said, told)
    for stem, part in parts.items():
        if stem in stems:
            layers = stems[stem]
            one = _checked(f"{said}: {stem}", part, [known.shapes[layer] for layer in layers])
            if "alpha" not in part:
                owner, inner = layers[0].split(".", 1) if layers[0] in of_text else (known.part, layers[0])
                one = one._replace(alpha=_alpha_of(inner, settings.get(owner), one.rank))
            sizes = [known.shapes[layer][0] for layer in layers]
            found |= zip(layers, _split(one, sizes) if len(layers) > 1 else [one])
        elif names.is_of_text(stem):
            left.append(stem)
        else:
            raise ExchangeError(
                f"{said}: {stem[:100]}: this base has no such layer, so the file is for another base; take "
                "one that was made for it"
            )
    return found, left


def _told(key: str) -> tuple[str, str]:
    """A key's stem, and what it holds of it: down, up or alpha; "" where it is none of these."""
    for kind, ends in {"down": _DOWNS, "up": _UPS, "alpha": (".alpha",)}.items():
        for end in ends:
            if key.endswith(end):
                return key.removesuffix(end), kind
    return key, ""


def _checked(said: str, part: dict[str, torch.Tensor], shapes: list[tuple[int, ...]]) -> Factors:
    if missing := {"down", "up"} - set(part):
        raise ExchangeError(f"{said}: its {missing.pop()} is missing; the file is not whole, fetch it again")
    down, up, out, into = part["down"], part["up"], sum(shape[0] for shape in shapes), shapes[0][1:]
    rank = len(down) if down.dim() else 0
    if len(into) == 1 and down.dim() == 4 and down.shape[2:] == (1, 1) == up.shape[2:]:
        down, up = down.flatten(1), up.flatten(1)  # a 1 x 1 convolution is such a layer too
    wanted = (rank, *into), (out, rank, *[1] * (len(into) - 1))
    if not rank or (tuple(down.shape), tuple(up.shape)) != wanted:
        raise ExchangeError(
            f"{said}: its factors are {tuple(down.shape)} and {tuple(up.shape)}, the layer is "
            f"{(out, *into)}; expected {wanted[0]} and {wanted[1]}: "
            "it is for another base, or broken"
        )
    alpha = part.get("alpha")
    if alpha is not None and alpha.numel() != 1:
        raise ExchangeError(f"{said}: its alpha has {alpha.numel()} numbers; expected one")
    kind = torch.promote_types(down.dtype, up.dtype)
    kind = torch.float32 if kind == torch.float64 else kind
    return Factors(down.to(kind), up.to(kind), float(rank if alpha is None else alpha.item()))


def _settings(said: str, told: dict[str, str]) -> dict[str, dict[str, Any]]:
    """diffusers' adapter metadata, by the part of the base that an adapter is of; empty where the file has
    none.
    """
    if SETTINGS not in told:
        return {}
    found: dict[str, dict[str, Any]] = {}
    try:
        for name, value in json.loads(told[SETTINGS]).items():
            part, _, own = name.partition(".")
            found.setdefault(part, {})[own] = value
        settings = {
            part: {
                "alpha": float(own["lora_alpha"]),
                "patterns": {str(n): float(a) for n, a in dict(own.get("alpha_pattern") or {}).items()},
            }
            for part, own in found.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ExchangeError(
            f"{said}: its header's {SETTINGS} is not as diffusers writes it; save it again"
        ) from None
    if any(own.get("use_dora") for own in found.values()):
        raise ExchangeError(f"{said}: this is {_OTHERS['dora_scale|lora_magnitude_vector']}")
    if any(own.get("use_rslora") for own in found.values()):
        raise ExchangeError(f"{said}: a LoRA of use_rslora, whose scale is another; save it without")
    return settings


def _alpha_of(layer: str, settings: dict[str, Any] | None, rank: int) -> float:
    """By ``settings`` of the part that has the ``layer``; where there are none, its rank."""
    if settings is None:
        return rank
    for name, alpha in settings["patterns"].items():
        own = name.removeprefix("^")
        if layer == own or (not name.startswith("^") and layer.endswith(f".{own}")):
            return alpha
    return settings["alpha"]
