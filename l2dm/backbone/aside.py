"""Parts of a base that have nothing to do for a while leave the memory: an accelerator's for the computer's
own, and that of a large base on a CPU altogether, to be read again from the base's folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from .loading import load_part
from .precision import is_large
from .tokens import PersonalTokens

if TYPE_CHECKING:
    from .backbone import Backbone


class Aside:
    """Of one backbone: its parts that are away now. Networks and parameters stay the objects that they are;
    only their numbers go.
    """

    def __init__(self, backbone: Backbone):
        self.backbone = backbone
        self.parts: tuple[str, ...] = ()

    @contextmanager
    def leave(self, *parts: str) -> Iterator[None]:
        """Within the block these ``parts``, where the base has them, are away."""
        before, there = self.parts, tuple(part for part in parts if part in self.backbone.parts)
        try:
            self._move(there, away=True)
            self.parts = (*before, *there)
            yield
        finally:
            self._move(there, away=False)
            self.parts = before

    @contextmanager
    def back(self) -> Iterator[None]:
        """Within the block none is away."""
        away, self.parts = self.parts, ()
        try:
            self._move(away, away=False)
            yield
        finally:
            self._move(away, away=True)
            self.parts = away

    def _move(self, parts: tuple[str, ...], away: bool) -> None:
        backbone = self.backbone
        for part in parts:
            network = backbone.parts[part]
            if backbone.device.type != "cpu":
                network.to("cpu" if away else backbone.device)
            elif is_large(backbone.source) and not backbone.source.checkpoint:
                self._forget(network) if away else self._read(part, network)

    @staticmethod
    def _forget(network: torch.nn.Module) -> None:
        for p in _read_ones(network).values():
            p.data = p.data.new_empty(0)

    def _read(self, part: str, network: torch.nn.Module) -> None:
        own = _read_ones(network)
        fresh = dict(load_part(self.backbone.source, part, self.backbone.dtype).named_parameters())
        for name, p in own.items():
            p.data = fresh[name].data


def _read_ones(network: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters that are in the base's files, by their names there: personal tokens are not, and stand
    around the table of the others.
    """
    tokens = [
        (name, module) for name, module in network.named_modules() if isinstance(module, PersonalTokens)
    ]
    own = {id(vector) for _, module in tokens for vector in module.vectors}
    found = {}
    for name, p in network.named_parameters():
        around = next((prefix for prefix, _ in tokens if name.startswith(f"{prefix}.base.")), None)
        if id(p) not in own:
            found[name if around is None else around + name.removeprefix(f"{around}.base")] = p
    return found
