"""The interface of all tuners."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..backbone import Backbone


class Tuner:
    """Names the weights that learning may change and remembers their pretrained values.

    The new token's vector is tuned by every tuner and is not among ``parameters``.
    """

    def __init__(self, backbone: Backbone):
        self.parameters: dict[str, torch.nn.Parameter] = self.select(backbone)
        self.pretrained_values = {name: p.detach().clone() for name, p in self.parameters.items()}

    def select(self, backbone: Backbone) -> dict[str, torch.nn.Parameter]:
        raise NotImplementedError

    def state(self) -> dict[str, torch.Tensor]:
        """The tuned values now, on the CPU."""
        return {name: p.detach().cpu().clone() for name, p in self.parameters.items()}

    @torch.no_grad()
    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Put ``state`` (from ``state()``) in place; an empty state means the pretrained values."""
        for name, p in self.parameters.items():
            p.copy_(state[name] if state else self.pretrained_values[name])

    @contextmanager
    def pretrained(self) -> Iterator[None]:
        """Within the block the backbone is the pretrained one again."""
        now = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.load({})
        try:
            yield
        finally:
            self.load(now)
