"""Gated LoRA: an adapter for each concept in every layer of the denoiser, on in the pictures whose prompt
names it (ours).

    W c_p + [p is one of concept i's words] U_i D_i c_p         keys and values of the cross-attention, as
    ``gated-kv`` W x   + [the picture's prompt names concept i] U_i D_i x    attention, feed-forward and
    residual blocks

Keys and values choose among what the denoiser can draw; a concept's own shapes and textures need its other
layers. As with ``gated-kv`` a prompt that does not name concept i gives the same bits with or without it:
forgetting and drift are zero by construction. It is what creators do by hand with one LoRA file a subject,
put in and taken out; here the prompt does it, picture by picture of a batch.

Where the parts of a picture are told apart (``Conditioning.regions``), an adapter of these layers is on in
its concept's part alone; all of them then act as one of all their ranks, as quick as one of so many.

What is on for a prompt is on for its negative too. Else classifier-free guidance, which multiplies the
difference of the two, would multiply the whole adapter, and not what the prompt says: pictures turn hard, and
a grid shows on plain grounds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..backbone import Backbone, Conditioning
from ..backbone.conditioning import resized
from ..backbone.sites import key_value_layers, picture_layers
from ..backbone.text import blocks_holder
from ..concept import Concept
from ..settings import LearnSettings
from .factors import Factors
from .gated_kv import GatedKv
from .in_text import InText

_MANY = 4  # rows of a batch from which on it is quicker to change the weights than to add to what they give


class GatedLora(GatedKv):
    """``GatedKv``'s gates for keys and values; in all other layers an adapter is on in the pictures whose
    prompt names its concept.
    """

    share = 0.25  # of the rank that keys and values alone take

    def chosen(self, denoiser: torch.nn.Module) -> dict[str, torch.nn.Module]:
        return key_value_layers(denoiser) | picture_layers(denoiser)

    def attach(self, backbone: Backbone) -> None:
        self.in_text: list[str] = []  # layers of text encoders that adapters stand beside
        backbone.before_reading = self._before_reading
        super().attach(backbone)
        self.whole: dict[int, torch.Tensor | None] = {}
        self._placed: dict[tuple[int, int], torch.Tensor] = {}
        self.always: list[str] = []
        self.together: dict[tuple[tuple[int, int], ...], torch.Tensor] = {}
        self.most, self.joined, self.parted = 0, False, False

    def _before_reading(self, named: torch.Tensor) -> None:
        """What concepts have for text encoders has to be there before these read ``named`` (B, personal
        tokens).
        """
        if self.later:
            self.at_hand([t for t, said in zip(self.backbone.tokens.ids, named.any(0).tolist()) if said])

    def _stand_beside(self, name: str) -> None:
        part, _, inner = name.partition(".")
        if part not in self.backbone.parts:
            super()._stand_beside(name)
        elif name not in self.in_text:
            parent, _, own = inner.rpartition(".")
            holder = blocks_holder(self.backbone.parts[part]).get_submodule(parent)
            setattr(holder, own, InText(getattr(holder, own), name, self))
            self.in_text.append(name)

    def of_text(self, tokens: Sequence[str]) -> dict[str, Factors]:
        return self.taught_to(self.in_text, tokens)

    def begin(self, concept: Concept, settings: LearnSettings) -> None:
        super().begin(concept, settings)
        self.most = 1 + settings.mixes // 2  # the new concept, and an earlier one in every other mix

    def resume(self, concept: Concept, settings: LearnSettings) -> None:
        super().resume(concept, settings)
        self.most = 1 + settings.mixes // 2

    def rest(self) -> None:
        super().rest()
        self.always, self.joined, self.parted = [], False, False

    def switch(self, reading: Conditioning) -> None:
        """``whole``: of the adapters that are on, the pictures in which they are, (B, 1), or None for all of
        them; ``always``: those that go into the weights. While one is trained they act side by side,
        ``joined`` as one of all their ranks, or each would cost as much as the first; and always ``most`` of
        them where there are so many, with gates of 0, or every number of them would have code and memory of
        its own.
        """
        super().switch(reading)
        whole = reading.named[:, self.backbone.tokens.places(self.adapters)].to(reading.features)
        self.on = self.acting_in(whole)
        self.whole = {i: None if (whole[:, i] == 1).all() else whole[:, i, None] for i, _ in self.on}
        self._placed = {}
        if reading.regions is not None:
            parts = reading.regions[:, self.backbone.tokens.places(self.adapters)].to(whole)
            self.whole = {i: whole[:, i, None, None, None] * parts[:, i, None] for i, _ in self.on}
        alike, training = (
            all(gate is None for gate in self.whole.values()),
            any(p.requires_grad for p in self.parameters.values()),
        )
        self.always = (
            [name for _, name in self.on] if alike and len(reading) >= _MANY and not training else []
        )
        if training:
            acting = dict(self.on)
            idle = [(i, name) for i, name in enumerate(self.adapters) if i not in acting]
            self.on = sorted(self.on + idle[: max(0, self.most - len(acting))])
            self.at_hand(name for _, name in self.on)
            self.whole = {i: self.whole.get(i, whole[:, i, None]) for i, _ in self.on}
        self.parted = reading.regions is not None and len(self.on) > 1
        self.joined, self.together, self.pictures = training and len(self.on) > 1, {}, whole

    def placed(self, gate: torch.Tensor, pixels: int) -> torch.Tensor:
        """``gate`` (B, 1, h, w), one of ``whole``, as a layer of so many cells has it; worked out once a
        forward.
        """
        if (known := (id(gate), pixels)) not in self._placed:
            self._placed[known] = resized(gate, pixels)
        return self._placed[known]

    def _gates(self, gates: torch.Tensor, ranks: tuple[tuple[int, int], ...]) -> torch.Tensor:
        """(..., sum of ranks): each adapter's of ``gates`` (..., adapters) as often as its rank; ``ranks``:
        (its number, its rank).
        """
        return torch.cat([gates[..., i, None].expand(*gates.shape[:-1], rank) for i, rank in ranks], -1)

    def acting(
        self, layer: str, gates: torch.Tensor | None
    ) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]:
        words, on = gates is not None, [(i, name) for i, name in self.on if self.has(name, layer)]
        if self.parted and not words and on:
            ranks = tuple((i, len(self.now[f"{name}/{layer}.down"])) for i, name in on)
            if ranks not in self.together:
                parts = [self.whole[i].expand(-1, rank, -1, -1) for i, rank in ranks]
                self.together[ranks] = torch.cat(parts, 1)
            return [(*self.side_by_side(layer, [name for _, name in on]), self.together[ranks])]
        if self.joined and on:
            ranks = tuple((i, len(self.now[f"{name}/{layer}.down"])) for i, name in on)
            if not words and ranks not in self.together:
                self.together[ranks] = self._gates(self.pictures, ranks)
            gate = self._gates(gates, ranks) if words else self.together[ranks]
            return [(*self.side_by_side(layer, [name for _, name in on]), gate)]
        return [
            (*self.factors(name, layer), gates[..., i, None] if words else self.whole[i]) for i, name in on
        ]

    def everywhere(self, gates: torch.Tensor | None) -> list[str]:
        return [] if gates is not None else self.always
