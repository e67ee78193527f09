"""Adapters in text encoders: of LoRA files that were trained with one. Each acts where the prompt names its
concept.

    W x + [the prompt names concept i] U_i D_i x

at all tokens of the prompt, and of the negative prompt beside it, which is what a program that loads the file
for that picture does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from .prompt_gated import PromptGated


class InText(torch.nn.Module):
    """A linear layer of a text encoder, and what ``tuner``'s adapters add to it."""

    def __init__(self, layer: torch.nn.Linear, name: str, tuner: PromptGated):
        super().__init__()
        self.layer, self.name, self.tuner = layer, name, tuner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, tokens, in) -> (B, tokens, out)."""
        out = self.layer(x)
        for down, up, gate in self._acting():
            hidden = F.linear(x, down.to(x.dtype))
            if gate is not None:
                hidden = gate.to(hidden)[:, None, None] * hidden
            out = out + F.linear(hidden, up.to(hidden.dtype))
        return out

    def _acting(self) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]:
        """``(down, up, gate)`` of the adapters that are on; ``gate`` (B,) of the prompts, None where it is on
        in all of them.
        """
        tuner, named = self.tuner, self.tuner.backbone.named
        if not (adapters := [name for name in tuner.adapters if tuner.has(name, self.name)]):
            return []
        if named is None:
            raise RuntimeError("adapters act by the prompt, but nobody said what the text encoder reads")
        gates = named[:, tuner.backbone.tokens.places(adapters)].T
        return [
            (*tuner.factors(name, self.name), None if gate.all() else gate)
            for name, gate in zip(adapters, gates)
            if gate.any()
        ]
