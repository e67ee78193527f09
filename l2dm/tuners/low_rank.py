"""LoRA (Hu et al., arXiv 2106.09685): a low-rank change beside each weight.

W x + U D x,    D (rank, in) at first random, U (out, rank) at first 0

on the key and value projections of the cross-attention layers (the paper takes the attention's W_q and W_v),
so that the rows of the comparison differ in how they keep, not in where they learn. In torch rather than with
peft: an adapter here acts row by row and word by word (``prompt_gated``), which peft's named adapters,
switched for a whole batch, cannot.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import torch
import torch.nn.functional as F

from ..backbone import Backbone, is_quantized
from ..backbone.sites import key_value_layers, rows_of, text_layers
from ..concept import Concept
from ..settings import LearnSettings
from .adapter_tuner import AdapterTuner
from .factors import Factors, side_by_side
from .tuner import ReadAdapter


class _Added(torch.nn.Module):
    """A linear layer or a convolution, and what the tuner's adapters add to it: W x + sum_i g_i * U_i D_i x.

    ``reads_text``: whether x are text features; there ``tuner.at_words`` are the gates of the tokens. Beside
    a convolution stand one of the same size, stride and padding (D), and one of 1 x 1 (U). ``rows``: what x
    has in its rows, see ``rows_of``.
    """

    def __init__(
        self,
        layer: torch.nn.Linear | torch.nn.Conv2d,
        name: str,
        tuner: LowRank,
        reads_text: bool,
        rows: tuple[str, ...],
    ):
        super().__init__()
        self.layer, self.name, self.tuner, self.reads_text, self.rows = layer, name, tuner, reads_text, rows
        self.quantized = is_quantized(layer.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(self.layer, torch.nn.Conv2d):
            through = F.conv2d
            into = partial(F.conv2d, stride=self.layer.stride, padding=self.layer.padding)
        else:
            into, through = F.linear, F.linear
        gates = self.tuner.at_words if self.reads_text else None
        if gates is not None:
            x = x.view_as(x)  # a layer's gradients of the text are added up before those of all layers
        if (adapters := self.tuner.everywhere(gates)) and not self.quantized:
            weight = (self.layer.weight + self.tuner.change(self.name, adapters)).to(x.dtype)
            return into(x, weight, self.layer.bias)
        out = self.layer(x)
        for down, up, gate in self.tuner.acting(self.name, gates):
            hidden = into(x, down.to(x.dtype))
            if gate is not None:
                hidden = (gate if gates is not None else self._whole(gate, hidden)) * hidden
            out = out + through(hidden, up.to(hidden.dtype))
        return out

    def _whole(self, gate: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """``gate`` (B, 1 or rank) of whole pictures, or (B, 1, h, w) of their parts, in the shape of
        ``hidden``.
        """
        convolves = isinstance(self.layer, torch.nn.Conv2d)
        if gate.dim() == 4:
            return self._placed(gate, hidden)
        (rows, width), alike = gate.shape, [1] * (hidden.dim() - 2)
        return gate.view(rows, width, *alike) if convolves else gate.view(rows, *alike, width)

    def _placed(self, gate: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """``gate`` (B, 1, h, w) of parts of pictures where ``hidden`` has these parts. What has no place in
        the picture is on where any part is: text; and what reads the time alone acts by its part's share."""
        if hidden.dim() == 2:
            return gate.mean((2, 3))
        if hidden.dim() == 4:
            return self.tuner.placed(gate, hidden.shape[2] * hidden.shape[3])
        if self.rows == ("picture",):
            return self.tuner.placed(gate, hidden.shape[1]).flatten(2).mT
        whole, count = gate.amax((2, 3))[:, None], gate.shape[2] * gate.shape[3]
        if self.rows == ("text",):
            return whole
        placed, rest = gate.flatten(2).mT, whole.expand(-1, hidden.shape[1] - count, -1)
        return torch.cat([placed if part == "picture" else rest for part in self.rows], 1)


class LowRank(AdapterTuner):
    """Adapters on the layers that read the prompt. ``now``: ``<adapter>/<layer>.down`` (rank, in),
    ``<adapter>/<layer>.up`` (out, rank), and of one that came from elsewhere ``<adapter>/<layer>.alpha``: it
    may stand beside any layers, and in each have a rank of its own.

    This class has one adapter for all concepts, trained on and on: its whole change has at most its rank,
    which is ``share`` of settings.rank.
    """

    share = 1.0
    loses = "nothing; but concepts share these weights, so what the others taught goes along"
    at_words: torch.Tensor | None = None  # gates of the tokens that are read, where there are any

    def attach(self, backbone: Backbone) -> None:
        self.layers = self.chosen(backbone.denoiser)
        self.wrapped = {}
        self.readers = text_layers(backbone.denoiser)
        for name in self.layers:
            self._stand_beside(name)

    def _stand_beside(self, name: str) -> None:
        """Put an ``_Added`` in the place of the layer ``name``."""
        parent, _, own = name.rpartition(".")
        holder = self.backbone.denoiser.get_submodule(parent)
        self.wrapped[name] = getattr(holder, own)
        rows = rows_of(self.backbone.denoiser, name)
        setattr(holder, own, _Added(self.wrapped[name], name, self, name in self.readers, rows))

    def load(
        self, state: dict[str, torch.Tensor], later: Mapping[str, ReadAdapter] = MappingProxyType({})
    ) -> None:
        self._stand_beside_all(state)
        super().load(state, later)

    def _stand_beside_all(self, state: Iterable[str]) -> None:
        """Beside every layer that an adapter of ``state`` changes; one that came from elsewhere may change
        any.
        """
        for name in [
            name.partition("/")[2].removesuffix(".down") for name in state if name.endswith(".down")
        ]:
            if name not in self.wrapped:
                self._stand_beside(name)

    def chosen(self, denoiser: torch.nn.Module) -> dict[str, torch.nn.Module]:
        """The layers that adapters stand beside."""
        return key_value_layers(denoiser)

    @property
    def now(self) -> dict[str, torch.Tensor]:
        return self._now

    @now.setter
    def now(self, state: dict[str, torch.Tensor]) -> None:
        """``adapters``: their names in the order of learning, whatever the order in ``state``: sums depend on
        it in the last bit.
        """
        self._now = state
        named = {name.split("/")[0] for name in state if name.endswith(".down")}
        self.adapters = sorted(named.union(self.later), key=self.age)

    def age(self, adapter: str) -> int | str:
        """What grows from adapter to adapter."""
        return adapter

    def acting(
        self, layer: str, gates: torch.Tensor | None
    ) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]:
        """``(down, up, gate)`` of what does anything in this layer for this batch; here all adapters
        together.
        """
        return [(*self.side_by_side(layer, self.adapters), None)] if self.adapters else []

    def has(self, adapter: str, layer: str) -> bool:
        """Whether ``adapter`` changes ``layer``: one that came from elsewhere need not change all of them."""
        return f"{adapter}/{layer}.down" in self.now

    def side_by_side(self, layer: str, adapters: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """The factors of ``adapters`` as those of one, whose rank is the sum of theirs."""
        downs, ups = zip(*(self.factors(name, layer) for name in adapters))
        return torch.cat(downs), torch.cat(ups, 1)

    def everywhere(self, gates: torch.Tensor | None) -> list[str]:
        """Adapters that act throughout the batch and are not being trained, if it is quicker to add them to
        the weights.
        """
        return []

    def factors(self, adapter: str, layer: str) -> tuple[torch.Tensor, torch.Tensor]:
        """D (rank, in) and U (out, rank); of a convolution (rank, in, height, width) and (out, rank, 1, 1).
        In float32, however kept, and scaled."""
        down, up = self.now[f"{adapter}/{layer}.down"].float(), self.now[f"{adapter}/{layer}.up"].float()
        alpha = self.now.get(f"{adapter}/{layer}.alpha")
        return (down, up) if alpha is None else (down, up * (alpha.item() / len(down)))

    def low_rank(self, tokens: Sequence[str]) -> dict[str, Factors]:
        return self.taught_to(self.wrapped, tokens)

    def taught_to(self, layers: Iterable[str], tokens: Sequence[str]) -> dict[str, Factors]:
        """What ``tokens`` change in ``layers``."""
        named, found = self.teaching(tokens), {}
        for layer in layers:
            parts = [self._factors(name, layer) for name in named if self.has(name, layer)]
            if parts := [part for part in parts if part.rank]:
                found[layer] = side_by_side(parts)
        return found

    def teaching(self, tokens: Sequence[str]) -> list[str]:
        """The adapters that act in a prompt that names all of ``tokens``."""
        return self.adapters

    def _factors(self, adapter: str, layer: str) -> Factors:
        """As they are kept."""
        down, up = (self.now[f"{adapter}/{layer}.{part}"].detach() for part in ("down", "up"))
        alpha = self.now.get(f"{adapter}/{layer}.alpha")
        return Factors(down, up, float(len(down) if alpha is None else alpha))

    def merged(
        self, tokens: Sequence[str], plain: Mapping[str, torch.Tensor], strength: float = 1.0
    ) -> dict[str, torch.Tensor]:
        changes = {f"{layer}.weight": one.change() for layer, one in self.low_rank(tokens).items()}
        return {
            name: plain[name].to(change) + (change if strength == 1 else strength * change)
            for name, change in changes.items()
        }

    def fresh(self, adapter: str, settings: LearnSettings) -> dict[str, torch.Tensor]:
        """A new adapter that changes nothing yet."""
        generator = torch.Generator().manual_seed((settings.seed * 1_000_003 + len(self.adapters)) % 2**63)
        made = {}
        for name, layer in self.layers.items():
            (out, *shape), rank = layer.weight.shape, max(1, round(settings.rank * self.share))
            made[f"{adapter}/{name}.down"] = (
                torch.randn(rank, *shape, generator=generator) / math.prod(shape) ** 0.5
            )
            made[f"{adapter}/{name}.up"] = torch.zeros(out, rank, *[1] * len(shape[1:]))
        return made

    def change(self, layer: str, adapters: list[str]) -> torch.Tensor:
        """The sum of U_i D_i over those of ``adapters`` that change the layer, in the shape of its weight."""
        pairs = [self.factors(name, layer) for name in adapters if self.has(name, layer)]
        like = self.wrapped[layer].weight
        return sum(
            ((up.flatten(1) @ down.flatten(1)).view_as(like) for down, up in pairs), torch.zeros_like(like)
        )

    def begin(self, concept: Concept, settings: LearnSettings) -> None:
        self.train(dict(self.now) or self.fresh("shared", settings))
