"""Gated keys and values: our own way to forget nothing. A concept's keys and values differ at its own words
only.

    K_p = W_K c_p + [p is one of concept i's words] U_i D_i c_p,    V alike

Its words are the token V* and the class noun right after it. Every weight is the pretrained one and every
other concept's adapter is frozen, so a prompt that does not name concept i gives the same bits with or
without it: forgetting and drift are zero by construction, at every k, and a forward costs what the concepts
in its prompts cost. What has to be measured is the price in likeness. Adapters are what grows with k, so they
are kept in float16, in memory and on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import torch

from ..backbone import Conditioning
from ..backbone.sites import text_layers
from ..errors import SettingsError
from .prompt_gated import PromptGated
from .tuner import ReadAdapter


class GatedKv(PromptGated):
    """Each concept's adapter acts at its own words, and is read when a prompt first says them."""

    by_need = True

    def load(
        self, state: dict[str, torch.Tensor], later: Mapping[str, ReadAdapter] = MappingProxyType({})
    ) -> None:
        self.later, self._read = dict(later), {}
        super().load(state, later)

    def at_hand(self, tokens: Iterable[str]) -> None:
        """Into whatever ``now`` is, which may be a teacher's."""
        for token in tokens:
            if token not in self.later or f"{token}/noun" in self.now:
                continue
            if token not in self._read:
                device = self.backbone.device
                self._read[token] = {name: t.to(device) for name, t in self.later[token]().items()}
                self._stand_beside_all(self._read[token])
            self.now.update(self._read[token])

    @contextmanager
    def pretrained(self) -> Iterator[None]:
        later, self.later = self.later, {}
        try:
            with self.holding({}):
                yield
        finally:
            self.later = later
            self.now = self.now

    def chosen(self, denoiser: torch.nn.Module) -> dict[str, torch.nn.Module]:
        """Raises SettingsError where keys and values are no word's own."""
        if found := text_layers(denoiser):
            return found
        raise SettingsError(
            f"{self.backbone.name}: in {self.backbone.family.name} text and picture share their keys and "
            "values, so that none can differ at a "
            "concept's own words alone; choose another method, such as l2dm"
        )

    def gates(self, reading: Conditioning) -> torch.Tensor:
        """An adapter that came from elsewhere was not learnt at words: with ``<token>/everywhere`` it acts at
        all of a prompt that names it.
        """
        gates = self.words(reading.ids)
        if not (anywhere := [f"{name}/everywhere" in self.now for name in self.adapters]).count(True):
            return gates
        named = reading.named[:, self.backbone.tokens.places(self.adapters)]
        return gates | (named & torch.tensor(anywhere, device=named.device))[:, None]

    def finish(self) -> None:
        self.now, self.parameters = (
            {**self.now, **{name: p.detach().half() for name, p in self.parameters.items()}},
            {},
        )
