"""LoRA files (Hu et al., arXiv 2106.09685), written: kohya's keys with an alpha of each layer, or peft's with
diffusers' adapter metadata.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch

from ..tuners.factors import Factors
from . import names

#: Where diffusers keeps an adapter's settings, in JSON.
SETTINGS = "lora_adapter_metadata"


class Layers:
    """What LoRA files may change of a base: the layers of its denoiser ``module``, called ``part``, by
    diffusers' names, and those of its text encoders, by ``backbone.encoder_layers``; ``convention``: how the
    family's files call them, see ``names``.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        part: str,
        convention: str,
        of_text: Mapping[str, torch.nn.Linear] = MappingProxyType({}),
    ):
        kinds = torch.nn.Linear, torch.nn.Conv2d
        self.part, self.convention = part, convention
        own = {
            name.removesuffix(".layer"): tuple(layer.weight.shape)
            for name, layer in module.named_modules()
            if isinstance(layer, kinds)
        }  # a tuner puts ``.layer`` where it stands beside one
        self.of_denoiser, self.of_text = list(own), list(of_text)
        self.shapes = own | {name: tuple(layer.weight.shape) for name, layer in of_text.items()}
        per_block = getattr(module.config, "layers_per_block", 0)
        self.depth = per_block if isinstance(per_block, int) else per_block[0]

    def written(self, layers: Iterable[str], convention: str = "") -> names.Stems:
        """Their stems in a file, in the base's own ``convention`` or another one."""
        convention, (own, of_text) = convention or self.convention, self.apart(layers)
        stems = names.written(convention, self.part, own, self.depth)
        return stems | names.written_of_text(convention, of_text)

    def apart(self, layers: Iterable[str]) -> tuple[list[str], list[str]]:
        """Those of the denoiser, and those of text encoders."""
        layers, of_text = list(layers), set(self.of_text)
        return [layer for layer in layers if layer not in of_text], [
            layer for layer in layers if layer in of_text
        ]

    def read(self) -> names.Stems:
        own = names.read(self.convention, self.part, self.of_denoiser, self.depth)
        return own | names.read_of_text(self.of_text)


def lora_file(adapter: dict[str, Factors], known: Layers, strength: float = 1.0) -> dict[str, torch.Tensor]:
    """Tensors in the family's own convention. All alphas are one where ranks are, since diffusers gives other
    layers the commonest one.
    """
    own, of_text = known.apart(adapter)
    adapter = _evened(adapter, own) | _evened(adapter, of_text)
    tensors = {}
    for stem, layers in known.written(adapter).items():
        down, up, alpha = _fused(
            [adapter.get(layer) for layer in layers], [known.shapes[layer] for layer in layers]
        )
        if known.convention == "peft":
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
    adapter: dict[str, Factors], known: Layers, strength: float = 1.0
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors under peft's keys, and what ``LoraConfig`` is to be made of, as diffusers keeps it in the
    file's header.
    """
    tensors, told = {}, {}
    for stem, (layer,) in known.written(adapter, "peft").items():
        tensors |= {f"{stem}.lora_A.weight": adapter[layer].down, f"{stem}.lora_B.weight": adapter[layer].up}
    own, of_text = known.apart(adapter)
    parts = {known.part: {f"^{layer}": adapter[layer] for layer in own}} if own else {}
    for (
        layer
    ) in of_text:  # a pattern's end may be all of a name: some encoders have ``text_model.`` before it
        part, _, inner = layer.partition(".")
        parts.setdefault(part, {})[inner] = adapter[layer]
    for part, patterns in parts.items():
        told |= {f"{part}.{name}": value for name, value in _config(patterns, strength).items()}
    return tensors, {SETTINGS: told}


def _config(adapter: dict[str, Factors], strength: float) -> dict[str, Any]:
    """What ``LoraConfig`` is made of for ``adapter``: pattern of a layer's name -> its factors."""
    ranks = {pattern: one.rank for pattern, one in adapter.items()}
    alphas = {pattern: one.alpha * strength for pattern, one in adapter.items()}
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    return {
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": sorted(pattern.removeprefix("^") for pattern in adapter),
        "lora_bias": False,
        "use_dora": False,
        "rank_pattern": {pattern: found for pattern, found in ranks.items() if found != rank},
        "alpha_pattern": {pattern: found for pattern, found in alphas.items() if found != alpha},
    }


def _evened(adapter: dict[str, Factors], layers: list[str]) -> dict[str, Factors]:
    """Those of ``layers``, of one rank, where that makes all alphas one."""
    own = {layer: adapter[layer] for layer in layers}
    ranks, alphas = {one.rank for one in own.values()}, {one.alpha for one in own.values()}
    if (len(ranks) > 1 or len(alphas) > 1) and all(one.scale == 1 for one in own.values()):
        return {layer: one.padded(max(ranks)) for layer, one in own.items()}
    return own


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
