"""Adapters that act only where a prompt gives cause: at which of its words, and how strongly.

Before each forward of the denoiser the tuner asks what it reads (``backbone.conditioning``): the tokens of
every row, and the concepts that its picture's prompt names. A batch may mix prompts. Where every gate is 0
exactly 0 is added.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ..backbone import Backbone, Conditioning
from ..concept import Concept
from ..settings import LearnSettings
from .low_rank import LowRank


def own_words(ids: torch.Tensor, token: tuple[int, ...], noun: list[int]) -> torch.Tensor:
    """(B, length) of bool: where ``ids`` (B, length) hold the personal ``token``, one id or several in a row,
    and its ``noun`` where that follows at once."""
    words = torch.isin(ids, torch.tensor(token, device=ids.device))
    followed, rest = ids == token[0], [*token[1:], *noun]
    for place, word in enumerate(rest, start=1):
        followed = followed & (F.pad(ids, (0, place), value=-1)[:, place:] == word)
    for place in range(1, len(rest) + 1):
        words = words | F.pad(followed, (place, 0))[:, : ids.shape[1]]
    return words


class PromptGated(LowRank):
    """An adapter for each concept, named by its token; ``gates`` says where it acts. ``now`` also has
    ``<token>/noun``, token ids, and ``<token>/noun/1`` …, those of the further encoders whose tokens are
    read.

    The backbone must know the tokens of a state before it is put in place.
    """

    loses = "its gates: it acts in every prompt and at every word, whether its token is there or not"

    def attach(self, backbone: Backbone) -> None:
        super().attach(backbone)
        self.on: list[tuple[int, str]] = []
        backbone.denoiser.register_forward_pre_hook(self._look)

    def teaching(self, tokens: Sequence[str]) -> list[str]:
        found = [name for name in self.adapters if name in tokens]
        self.at_hand(found)
        return found

    def age(self, adapter: str) -> int | str:
        return self.backbone.tokens.places([adapter])[0]

    def gates(self, reading: Conditioning) -> torch.Tensor:
        """(B, length, adapters) in [0, 1] or of bool: how strongly each adapter acts on the keys and values
        of each token.
        """
        raise NotImplementedError

    @torch.compiler.disable
    def _look(self, denoiser: torch.nn.Module, args: tuple) -> None:
        if not self.adapters:
            self.rest()
            return
        reading = self.backbone.conditioning
        if reading is None or reading.ids is None:
            raise RuntimeError("adapters act by the prompt, but nobody said what the denoiser reads")
        self.switch(reading)

    def rest(self) -> None:
        """Before a forward in which no adapter acts."""
        self.on, self.at_words = [], None

    def switch(self, reading: Conditioning) -> None:
        """Before a forward of the denoiser that reads ``reading``. ``at_words``: its gates (B, length,
        adapters). ``on``: the adapters that act in it, by number and name; found here, so that no layer asks
        all the others.
        """
        if self.later:
            self.at_hand(self.said(reading))
        self.at_words = self.gates(reading).to(reading.features)
        self.on = self.acting_in(self.at_words.flatten(0, 1))

    def acting_in(self, gates: torch.Tensor) -> list[tuple[int, str]]:
        """The adapters, by number and name, that have a gate above 0 in any row of ``gates`` (rows,
        adapters).
        """
        return [(i, name) for i, (name, acts) in enumerate(zip(self.adapters, gates.any(0).tolist())) if acts]

    def acting(
        self, layer: str, gates: torch.Tensor | None
    ) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]:
        """Each alone, so that no other adapter can change the order in which an adapter's products are added
        up. Where text and picture share keys and values, each as at the first of its words: only gates that
        are alike for all of them are for such layers.
        """
        if not self.on:  # at rest there are no gates either
            return []
        gates = self.at_words[:, 0] if gates is None else gates
        return [
            (*self.factors(name, layer), gates[..., i, None]) for i, name in self.on if self.has(name, layer)
        ]

    def begin(self, concept: Concept, settings: LearnSettings) -> None:
        self.now = {**self.now, **self.nouns(concept)}
        self.train(self.fresh(concept.token, settings))

    def resume(self, concept: Concept, settings: LearnSettings) -> None:
        self.at_hand([concept.token])
        mine = f"{concept.token}/"
        own = {name: t for name, t in self.now.items() if name.startswith(mine)}
        self.train({name: t.float() for name, t in own.items() if name.endswith((".down", ".up"))})

    def nouns(self, concept: Concept) -> dict[str, torch.Tensor]:
        """``<token>/noun`` of ``concept``, whose token the backbone knows."""
        return {
            self._noun(concept.token, part): torch.tensor(reader.following(concept.token, concept.noun))
            for part, reader in enumerate(self.backbone.row)
        }

    def said(self, reading: Conditioning) -> list[str]:
        """The adapters whose concepts the batch names, or reads the tokens of."""
        known, named = self.backbone.tokens.places(self.adapters), set()
        if reading.named is not None:
            named = set(reading.named.any(0).nonzero().flatten().tolist())
        read = self._read_in(reading.ids)
        return [name for name, place in zip(self.adapters, known) if place in named or name in read]

    def _read_in(self, ids: torch.Tensor) -> set[str]:
        """The adapters whose tokens stand in ``ids`` (B, length)."""
        row, found = self.backbone.row, set()
        for reader, part in zip(row, ids.split([reader.length for reader in row], 1)):
            there, known = set(part.unique().tolist()), reader.tokens.ids
            found |= {name for name in self.adapters if known[name][0] in there}
        return found

    def words(self, ids: torch.Tensor) -> torch.Tensor:
        """(B, length, adapters) of bool: each concept's own words. Only those are looked for that stand in
        ``ids`` at all.
        """
        row, read = self.backbone.row, self._read_in(ids)
        marks = torch.zeros(*ids.shape, len(self.adapters), dtype=torch.bool, device=ids.device)
        spans = zip(
            marks.split([reader.length for reader in row], 1), ids.split([reader.length for reader in row], 1)
        )
        for part, (reader, (mark, own)) in enumerate(zip(row, spans)):
            for i, name in enumerate(self.adapters):
                if name in read:
                    noun = self.now[self._noun(name, part)].tolist()
                    mark[..., i] = own_words(own, reader.tokens.ids[name], noun)
        return marks

    @staticmethod
    def _noun(token: str, part: int) -> str:
        return f"{token}/noun" if part == 0 else f"{token}/noun/{part}"
