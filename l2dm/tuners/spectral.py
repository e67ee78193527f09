"""SVDiff (Han et al., arXiv 2303.11305): only the singular values of the weights move.

    W = U diag(relu(s + d)) V^T,    with W_0 = U diag(s) V^T fixed and the spectral shifts d trained, at first
    0

Convolutions are read as matrices (out, in * height * width). Written as W_0 + U diag(relu(s + d) - s) V^T, so
that d = 0 gives W_0 to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.nn.utils import parametrize

from ..backbone import Backbone
from ..concept import Concept
from ..errors import SettingsError
from ..settings import LearnSettings
from .adapter_tuner import AdapterTuner


class _Shifted(torch.nn.Module):
    """A weight with the shift of its singular values that ``tuner.now`` holds under ``name``; itself where it
    holds none.
    """

    def __init__(self, tuner: Spectral, name: str):
        super().__init__()
        self.tuner, self.name = tuner, name
        self.parts: tuple[
            torch.Tensor, ...
        ] = ()  # U (out, r), s (r,), V^T (r, in), worked out when first needed

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight if self.name not in self.tuner.now else self.shifted(weight)

    def shifted(self, weight: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
        """``weight`` with ``strength`` times what its singular values' shift changes."""
        shift = self.tuner.now[self.name]
        with torch.autocast(weight.device.type, enabled=False):  # in bfloat16 the singular vectors would turn
            self.parts = self.parts or torch.linalg.svd(
                weight.detach().flatten(1).float(), full_matrices=False
            )
            u, s, v = self.parts
            change = ((u * ((s + shift).relu() - s)) @ v).view_as(weight)
            return (weight + (change if strength == 1 else strength * change)).to(weight.dtype)


class Spectral(AdapterTuner):
    """One vector of shifts for each weight matrix and convolution of the denoiser: about a thousandth of its
    size.
    """

    loses = "nothing; but concepts share these weights, so what the others taught goes along"

    def attach(self, backbone: Backbone) -> None:
        if backbone.source.quantized:
            raise SettingsError(
                f"{backbone.source.said}: its denoiser is quantized, and shifts of singular values need its "
                "own weights; choose a method with "
                "adapters, such as gated-lora"
            )
        modules = [
            (name, module)
            for name, module in backbone.denoiser.named_modules()
            if getattr(module, "weight", None) is not None
        ]
        self.sizes = {
            name: min(module.weight.flatten(1).shape) for name, module in modules if module.weight.ndim > 1
        }
        for name, module in modules:
            if name in self.sizes:
                parametrize.register_parametrization(module, "weight", _Shifted(self, name), unsafe=True)

    def begin(self, concept: Concept, settings: LearnSettings) -> None:
        self.train({name: self.now.get(name, torch.zeros(size)) for name, size in self.sizes.items()})

    @torch.no_grad()
    def merged(
        self, tokens: Sequence[str], plain: Mapping[str, torch.Tensor], strength: float = 1.0
    ) -> dict[str, torch.Tensor]:
        layers = {
            name: self.backbone.denoiser.get_submodule(name).parametrizations.weight for name in self.now
        }
        return {
            f"{name}.weight": layer[0].shifted(plain[f"{name}.weight"].to(self.backbone.device), strength)
            for name, layer in layers.items()
        }
