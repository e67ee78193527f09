"""Tuners that leave the backbone's weights alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import torch

from ..backbone import Backbone
from .tuner import ReadAdapter, Tuner


class AdapterTuner(Tuner):
    """What is learnt stands beside the weights, in ``now``: the whole state as one dictionary, which may grow
    by task.

    ``attach`` puts modules or hooks into the backbone that look into ``now`` at every forward. So the
    pretrained model is an empty dictionary, an earlier model is an earlier dictionary, and neither costs a
    copy of any weight.
    """

    changes_weights = False

    def __init__(self, backbone: Backbone):
        self.backbone = backbone
        self.now: dict[str, torch.Tensor] = {}
        self.parameters = {}
        self.pretrained_values: dict[str, torch.Tensor] = {}
        self.attach(backbone)

    def attach(self, backbone: Backbone) -> None:
        raise NotImplementedError

    def train(self, fresh: dict[str, torch.Tensor]) -> None:
        """Put copies of ``fresh`` into ``now``; they are what is trained from here on, and nothing else ever
        changes in place.
        """
        device = self.backbone.device
        self.parameters = {
            n: torch.nn.Parameter(t.detach().to(device, copy=True), requires_grad=False)
            for n, t in fresh.items()
        }
        self.now = {**self.now, **self.parameters}

    def values(self) -> dict[str, torch.Tensor]:
        return {
            name: t.detach().clone() if name in self.parameters else t.detach()
            for name, t in self.now.items()
        }

    def load(
        self, state: dict[str, torch.Tensor], later: Mapping[str, ReadAdapter] = MappingProxyType({})
    ) -> None:
        device = self.backbone.device
        self.now, self.parameters = {name: t.to(device) for name, t in state.items()}, {}

    @contextmanager
    def holding(self, state: dict[str, torch.Tensor]) -> Iterator[None]:
        now, self.now = self.now, state
        try:
            yield
        finally:
            self.now = now
