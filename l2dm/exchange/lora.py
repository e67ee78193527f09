"""LoRA files (Hu et al., arXiv 2106.09685): kohya's keys with an alpha of each layer, or peft's with diffusers' adapter metadata."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import torch

from ..errors import ExchangeError
from ..tuners.factors import Factors
from . import names

#: Ends of keys that hold D and U.
_DOWNS = (
    ".lora_down.weight",
    ".lora_A.weight",
    ".lora_A.default.weight",
    ".lora.down.weight",
    ".down.weight",
)
_UPS = (".lora_up.weight", ".lora_B.weight", ".lora_B.default.weight", ".lora.up.weight", ".up.weight")
#: What a key has in it -> what that is, and what to do.
_OTHERS = {
    r"dora_scale|lora_magnitude_vector": "a DoRA, whose weights are scaled by a norm of their own; merge it into its base and give that, or train it as LoRA",
    r"\.hada_": "a LoHa; resave it as LoRA with the tool that made it",
    r"\.lokr_": "a LoKr; resave it as LoRA with the tool that made it",
    r"\.oft_|\.boft_": "an OFT; merge it into its base and give that",
    r"\.lora_mid\.": "a LoCon in CP form; resave it without lora_mid",
    r"\.diff(_b)?$|\.w_norm$|\.b_norm$|\.set_weight$": "a file of whole differences; merge it into its base and give that",
    r"\.lora_B\.(default\.)?bias$": "a LoRA with biases; train it without",
    r"^bundle_emb\.": "a LoRA with an embedding within; save that to a file of its own",
}
#: Where diffusers keeps an adapter's settings, in JSON.
SETTINGS = "lora_adapter_metadata"


class Denoiser:
    """What a file is read for: the layers of a denoiser, by diffusers' names, and the convention in which its family is written."""

    def __init__(self, module: torch.nn.Module, part: str, convention: str):
        kinds = torch.nn.Linear, torch.nn.Conv2d
        self.part, self.convention = part, convention
        self.shapes = {
            name.removesuffix(".layer"): tuple(layer.weight.shape)
            for name, layer in module.named_modules()
            if isinstance(layer, kinds)
        }  # a tuner puts ``.layer`` where it stands beside one
        per_block = getattr(module.config, "layers_per_block", 0)
        self.depth = per_block if isinstance(per_block, int) else per_block[0]

    def written(self, layers: list[str]) -> names.Stems:
        return names.written(self.convention, self.part, layers, self.depth)

    def read(self) -> names.Stems:
        return names.read(self.convention, self.part, self.shapes, self.depth)


def lora_file(
    adapter: dict[str, Factors], denoiser: Denoiser, strength: float = 1.0
) -> dict[str, torch.Tensor]:
    """Tensors in the family's own convention. All alphas are one where ranks are, since diffusers gives other layers the commonest one."""
    if not all(_alike(adapter)) and all(one.scale == 1 for one in adapter.values()):
        most = max(one.rank for one in adapter.values())
        adapter = {layer: one.padded(most) for layer, one in adapter.items()}
    tensors = {}
    for stem, layers in denoiser.written(list(adapter)).items():
        down, up, alpha = _fused(
            [adapter.get(layer) for layer in layers], [denoiser.shapes[layer] for layer in layers]
        )
        if denoiser.convention == "peft":
            up = (
                up
                if alpha * strength == len(down)
                else (up.float() * (alpha * strength / len(down))).to(up.dtype)
            )
            tensors |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
        else:
            tensors |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
            tensors[f"{stem}.alpha"] = torch.tensor(float(alpha) * strength)
    return tensors


def diffusers_file(
    adapter: dict[str, Factors], denoiser: Denoiser, strength: float = 1.0
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors under peft's keys, and what ``LoraConfig`` is to be made of, as diffusers keeps it in the file's header."""
    tensors: dict[str, torch.Tensor] = {}
    for layer, one in adapter.items():
        tensors |= {
            f"{denoiser.part}.{layer}.lora_A.weight": one.down,
            f"{denoiser.part}.{layer}.lora_B.weight": one.up,
        }
    ranks = {layer: one.rank for layer, one in adapter.items()}
    alphas = {layer: one.alpha * strength for layer, one in adapter.items()}
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    config = {
        "r": rank, "lora_alpha": alpha, "target_modules": sorted(adapter), "lora_bias": False, "use_dora": False,
        "rank_pattern": {f"^{layer}": found for layer, found in ranks.items() if found != rank},
        "alpha_pattern": {f"^{layer}": found for layer, found in alphas.items() if found != alpha},
    }  # fmt: skip
    return tensors, {SETTINGS: {f"{denoiser.part}.{name}": value for name, value in config.items()}}


def _alike(adapter: dict[str, Factors]) -> tuple[bool, bool]:
    return len({one.rank for one in adapter.values()}) <= 1, len({one.alpha for one in adapter.values()}) <= 1


def _fused(several: list[Factors | None], shapes: list[tuple[int, ...]]) -> Factors:
    """Layers that are one in the file: with a D that they share, or else each with components of its own."""
    there = [one for one in several if one]
    first, downs = there[0], [one.down for one in there]
    if len(several) == 1:
        return first
    if len(downs) == len(several) and all(
        down.shape == downs[0].shape and torch.equal(down, downs[0]) for down in downs
    ):
        return Factors(downs[0], torch.cat([one.up for one in there]), first.alpha)
    whole = [
        one
        or Factors(
            first.down.new_zeros(first.rank, shape[1]), first.up.new_zeros(shape[0], first.rank), first.rank
        )
        for one, shape in zip(several, shapes)
    ]
    ups = [
        one.up if one.scale == first.scale else (one.up.float() * (one.scale / first.scale)).to(one.up)
        for one in whole
    ]
    rank = sum(one.rank for one in whole)
    return Factors(torch.cat([one.down for one in whole]), torch.block_diag(*ups), first.scale * rank)


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
    said: str, tensors: dict[str, torch.Tensor], told: dict[str, str], denoiser: Denoiser
) -> tuple[dict[str, Factors], list[str]]:
    """The adapter in a file, by diffusers' names of layers, and the stems of it that are a text encoder's.

    Raises ExchangeError for what is no LoRA, and what does not fit the denoiser."""
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
    known, of_text, found = denoiser.read(), [], {}
    settings = _settings(said, told, denoiser.part)
    for stem, part in parts.items():
        if names.is_of_text(stem):
            of_text.append(stem)
        elif stem in known:
            layers = known[stem]
            one = _checked(f"{said}: {stem}", part, [denoiser.shapes[layer] for layer in layers])
            if "alpha" not in part and settings:
                one = one._replace(alpha=_alpha_of(layers[0], settings, one.rank))
            found |= zip(
                layers,
                _split(one, [denoiser.shapes[layer][0] for layer in layers]) if len(layers) > 1 else [one],
            )
        else:
            raise ExchangeError(
                f"{said}: {stem[:100]}: this base has no such layer, so the file is for another base; take one that was made for it"
            )
    return found, of_text


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
            f"{said}: its factors are {tuple(down.shape)} and {tuple(up.shape)}, the layer is {(out, *into)}; expected {wanted[0]} and {wanted[1]}: "
            "it is for another base, or broken"
        )
    alpha = part.get("alpha")
    if alpha is not None and alpha.numel() != 1:
        raise ExchangeError(f"{said}: its alpha has {alpha.numel()} numbers; expected one")
    kind = torch.promote_types(down.dtype, up.dtype)
    kind = torch.float32 if kind == torch.float64 else kind
    return Factors(down.to(kind), up.to(kind), float(rank if alpha is None else alpha.item()))


def _settings(said: str, told: dict[str, str], part: str) -> dict[str, Any]:
    """diffusers' adapter metadata of the denoiser; empty where the file has none."""
    if SETTINGS not in told:
        return {}
    try:
        found = json.loads(told[SETTINGS])
        found = {
            name.removeprefix(f"{part}."): value
            for name, value in found.items()
            if name.startswith(f"{part}.")
        }
        patterns = dict(found.get("alpha_pattern") or {})
        settings = {
            "alpha": float(found["lora_alpha"]),
            "patterns": {str(n): float(a) for n, a in patterns.items()},
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ExchangeError(
            f"{said}: its header's {SETTINGS} is not as diffusers writes it; save it again"
        ) from None
    if found.get("use_dora"):
        raise ExchangeError(f"{said}: this is {_OTHERS['dora_scale|lora_magnitude_vector']}")
    if found.get("use_rslora"):
        raise ExchangeError(f"{said}: a LoRA of use_rslora, whose scale is another; save it without")
    return settings


def _alpha_of(layer: str, settings: dict[str, Any], rank: int) -> float:
    for name, alpha in settings["patterns"].items():
        own = name.removeprefix("^")
        if layer == own or (not name.startswith("^") and layer.endswith(f".{own}")):
            return alpha
    return settings["alpha"]
