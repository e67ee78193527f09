"""Adapters that act only where a prompt gives cause: at which of its words, and how strongly.

Nothing but the text encoder sees the words, and nothing but the key and value layers needs to know. So the gates travel with the
text features: a hook on the encoder appends them as further columns, (B, length, width) -> (B, length, width + adapters), and
the layers take them off again (``low_rank``). A batch may mix prompts, and whatever cuts, stacks or averages features between
the two takes the gates along. Where every gate is 0 exactly 0 is added.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from ..backbone import Backbone
from ..concept import Concept
from ..settings import LearnSettings
from .low_rank import LowRank


def on_reading(backbone: Backbone, change: Any) -> None:
    """``change(ids, features)`` -> the features (B, length, width or more) that the text encoder gives instead."""

    def hook(module: torch.nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
        ids = args[0] if args else kwargs["input_ids"]
        output.last_hidden_state = change(ids, output.last_hidden_state)
        return output

    backbone.text_encoder.register_forward_hook(hook, with_kwargs=True)


def own_words(ids: torch.Tensor, token: int, noun: list[int]) -> torch.Tensor:
    """(B, length) of bool: where ``ids`` (B, length) hold the personal ``token``, and its ``noun`` where that follows at once."""
    named = ids == token
    followed = named
    for place, word in enumerate(noun, start=1):
        followed = followed & (F.pad(ids, (0, place), value=-1)[:, place:] == word)
    words = named
    for place in range(1, len(noun) + 1):
        words = words | F.pad(followed, (place, 0))[:, : ids.shape[1]]
    return words


class _Ungated(torch.nn.Module):
    """A module that reads the text features and knows nothing of gates."""

    def __init__(self, module: torch.nn.Module, width: int):
        super().__init__()
        self.module, self.width = module, width

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.module(features[..., : self.width].contiguous())


class ByPrompt(LowRank):
    """An adapter for each concept, named by its token; ``gates`` says where it acts. ``now`` also has ``<token>/noun``, token ids.

    The tokenizer must know the tokens of a state before it is put in place.
    """

    def attach(self, backbone: Backbone) -> None:
        super().attach(backbone)
        self.on: list[tuple[int, str]] = []
        self.width = backbone.text_width
        backbone.denoiser.register_forward_pre_hook(self._look, with_kwargs=True)
        if (
            getattr(backbone.denoiser, "add_embedding", None) is not None
        ):  # reads the features beside the cross-attention
            backbone.denoiser.add_embedding = _Ungated(backbone.denoiser.add_embedding, self.width)
        on_reading(
            backbone, lambda ids, x: torch.cat([x, self.gates(ids, x).to(x)], -1) if self.adapters else x
        )

    def age(self, adapter: str) -> int | str:
        return self.backbone.tokenizer.convert_tokens_to_ids(adapter)

    def gates(self, ids: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """(B, length, adapters) in [0, 1] for prompts ``ids`` (B, length) with ``features`` (B, length, width)."""
        raise NotImplementedError

    def _look(self, denoiser: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        features = args[2] if len(args) > 2 else kwargs["encoder_hidden_states"]
        self.switch(features[..., self.width :])

    def switch(self, gates: torch.Tensor) -> None:
        """Before a forward with these ``gates`` (B, length, adapters). ``on``: the adapters that act in it, by number and name; found
        here, so that no layer asks all the others. Gates of adapters that are not in ``now`` fall away."""
        self.on = [
            (i, name)
            for i, (name, acts) in enumerate(zip(self.adapters, gates.flatten(0, 1).any(0).tolist()))
            if acts
        ]

    def acting(
        self, layer: str, gates: torch.Tensor
    ) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]:
        """Each alone, so that no other adapter can change the order in which an adapter's products are added up."""
        return [(*self.factors(name, layer), gates[..., i, None]) for i, name in self.on]

    def begin(self, concept: Concept, settings: LearnSettings) -> None:
        noun = self.backbone.tokenizer(concept.noun, add_special_tokens=False).input_ids
        self.now = {**self.now, f"{concept.token}/noun": torch.tensor(noun)}
        self.train(self.fresh(concept.token, settings))

    def words(self, ids: torch.Tensor) -> torch.Tensor:
        """(B, length, adapters) of bool: each concept's own words."""
        tokens = self.backbone.tokenizer.convert_tokens_to_ids(self.adapters)
        marks = [
            own_words(ids, token, self.now[f"{name}/noun"].tolist())
            for name, token in zip(self.adapters, tokens)
        ]
        return torch.stack(marks, -1)
