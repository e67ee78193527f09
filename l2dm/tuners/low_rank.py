"""LoRA (Hu et al., arXiv 2106.09685): a low-rank change beside each weight.

    W x + U D x,    D (rank, in) at first random, U (out, rank) at first 0

on the key and value projections of the cross-attention layers (the paper takes the attention's W_q and W_v), so that the rows of
the comparison differ in how they keep, not in where they learn. In torch rather than with peft: an adapter here acts row by
row and word by word (``by_prompt``), which peft's named adapters, switched for a whole batch, cannot.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..backbone import Backbone
from ..concept import Concept
from ..settings import LearnSettings
from .beside import Beside
from .key_value import key_value_layers


class _Added(torch.nn.Module):
    """A linear layer and what the tuner's adapters add to it: W x + sum_i g_i * U_i D_i x.

    Columns of x beyond the layer's own width are the gates g_i, (B, length, adapters) in [0, 1]; without any all are 1.
    """

    def __init__(self, linear: torch.nn.Linear, name: str, tuner: LowRank):
        super().__init__()
        self.linear, self.name, self.tuner = linear, name, tuner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        width = self.linear.in_features
        x, gates = x[..., :width].contiguous(), x[..., width:]
        out = self.linear(x)
        for down, up, gate in self.tuner.acting(self.name, gates):
            hidden = F.linear(x, down)
            out = out + F.linear(hidden if gate is None else gate * hidden, up)
        return out


class LowRank(Beside):
    """Adapters on the layers that read the prompt. ``now``: ``<adapter>/<layer>.down`` (rank, in), ``<adapter>/<layer>.up`` (out, rank).

    This class has one adapter for all concepts, trained on and on: its whole change has at most its rank.
    """

    def attach(self, backbone: Backbone) -> None:
        self.layers = key_value_layers(backbone.unet)
        for name, layer in self.layers.items():
            parent, _, own = name.rpartition(".")
            setattr(backbone.unet.get_submodule(parent), own, _Added(layer, name, self))

    @property
    def now(self) -> dict[str, torch.Tensor]:
        return self._now

    @now.setter
    def now(self, state: dict[str, torch.Tensor]) -> None:
        """``adapters``: their names in the order of learning, whatever the order in ``state``: sums depend on it in the last bit."""
        self._now = state
        self.adapters = sorted({name.split("/")[0] for name in state if name.endswith(".down")}, key=self.age)

    def age(self, adapter: str) -> int | str:
        """What grows from adapter to adapter."""
        return adapter

    def acting(self, layer: str, gates: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]:
        """``(down, up, gate)`` of what does anything in this layer for this batch; here all adapters together."""
        if not self.adapters:
            return []
        pairs = [self.factors(name, layer) for name in self.adapters]
        return [(torch.cat([down for down, _ in pairs]), torch.cat([up for _, up in pairs], 1), None)]

    def factors(self, adapter: str, layer: str) -> tuple[torch.Tensor, torch.Tensor]:
        """D (rank, in) and U (out, rank)."""
        return self.now[f"{adapter}/{layer}.down"], self.now[f"{adapter}/{layer}.up"]

    def fresh(self, adapter: str, settings: LearnSettings) -> dict[str, torch.Tensor]:
        """A new adapter that changes nothing yet."""
        generator = torch.Generator().manual_seed((settings.seed * 1_000_003 + len(self.adapters)) % 2**63)
        made = {}
        for name, layer in self.layers.items():
            made[f"{adapter}/{name}.down"] = torch.randn(settings.rank, layer.in_features, generator=generator) / layer.in_features**0.5
            made[f"{adapter}/{name}.up"] = torch.zeros(layer.out_features, settings.rank)
        return made

    def change(self, layer: str, adapters: list[str]) -> torch.Tensor:
        """(out, in): the sum of U_i D_i over ``adapters``."""
        like = self.layers[layer].weight
        return sum((up @ down for down, up in (self.factors(name, layer) for name in adapters)), torch.zeros_like(like))

    def begin(self, concept: Concept, settings: LearnSettings) -> None:
        self.train(dict(self.now) or self.fresh("shared", settings))
