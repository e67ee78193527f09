"""Maps of what the picture attends to in the text, taken while the denoiser runs.

The processors that are there go on working unchanged: what they attend to is computed beside them at the one
resolution that is asked for, here for cross-attention, in ``backbone/joint_attention.py`` for joint
attention. Everything is put back in ``finally``, also after an error.

Where nothing but the maps is wanted, the forward ends at the last layer that gives one: what lies behind it
has no part in them, nor in their gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F

from ..backbone import Backbone, Conditioning
from ..backbone.joint_attention import joint_maps
from ..backbone.sites import is_joint, map_size, picture_attention, text_attention

__all__ = ["AttentionMaps", "PromptMaps", "map_size", "of_words", "smooth", "watched", "without_start"]


class _HaveAll(Exception):
    """The last map is there; ends a forward that was made for the maps alone. Never leaves this file."""


class _Watching:
    """A processor around a processor: same result, and its probabilities for ``maps`` where the resolution is
    theirs.
    """

    def __init__(self, processor, maps: AttentionMaps):
        self.processor, self.maps = processor, maps

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, *args, **kwargs):
        fits = hidden_states.ndim == 3 and hidden_states.shape[1] == self.maps.height * self.maps.width
        if fits and not self.maps.idle:
            context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
            self.maps.take(attn, hidden_states, context, attention_mask)
        return self.processor(attn, hidden_states, encoder_hidden_states, attention_mask, *args, **kwargs)


class AttentionMaps:
    """Collects what the attention layers with ``size`` = (height, width) pixels attend to in the text; with
    ``own`` also what they attend to in the picture."""

    def __init__(self, size: tuple[int, int], own: bool = False):
        (self.height, self.width), self.layers = size, []
        self.wants_own, self.own_layers = own, []
        #: (B, pixels, pixels) in [0, 1], of the last ``of``: of each cell the shares of all cells in what it
        #: takes from the picture
        self.own: torch.Tensor | None = None
        self.idle = False  # nothing is collected
        self.depth = self.enough = (
            0  # layers that a whole forward has, once one ran; after how many to end this one, or 0
        )

    def take(
        self, attn, hidden: torch.Tensor, context: torch.Tensor, mask: torch.Tensor | None = None
    ) -> None:
        """Keep one layer's probabilities, mean over heads: (B, pixels, tokens); of a ``context`` that is the
        picture itself (B, pixels, pixels). ``mask`` (B, 1, tokens) is added."""
        of_picture = context is hidden
        if attn.norm_cross and not of_picture:
            context = attn.norm_encoder_hidden_states(context)
        query, key = attn.to_q(hidden), attn.to_k(context)
        normed = attn.norm_q is not None
        at_once = (
            normed and attn.norm_q.weight.shape[-1] == query.shape[-1]
        )  # Sana 1.5: over all heads together
        if at_once:
            query, key = attn.norm_q(query), attn.norm_k(key)
        query, key = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (query, key))
        if normed and not at_once:  # SD 3.5: each head by itself
            query, key = attn.norm_q(query), attn.norm_k(key)
        scores = query @ key.mT * attn.scale
        found = (scores if mask is None else scores + mask[:, None]).float().softmax(-1).mean(1)
        self.own_layers.append(found) if of_picture else self.keep(found)

    def keep(self, probabilities: torch.Tensor) -> None:
        """Keep one layer's (B, pixels, tokens)."""
        self.layers.append(probabilities)
        if len(self.layers) == self.enough:
            raise _HaveAll

    def of(
        self,
        backbone: Backbone,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        context: Conditioning | torch.Tensor,
    ) -> torch.Tensor:
        """The ``probabilities`` of one forward, which ends with the last of them: the first call finds out
        which that is.
        """
        with watched(backbone.denoiser, self):
            self.enough = self.depth
            try:
                backbone.predict(latents, timestep, context)
            except _HaveAll:
                pass
            finally:
                self.enough = 0
            self.depth = len(self.layers)
            self.own = torch.stack(self.own_layers).mean(0) if self.own_layers else None
            return self.probabilities()

    def probabilities(self) -> torch.Tensor:
        """(B, tokens, height, width) in [0, 1]: the mean over the layers since the last call."""
        if not self.layers:
            raise RuntimeError(f"no cross-attention layer with {self.height} x {self.width} pixels ran")
        mean = torch.stack(self.layers).mean(0).mT.unflatten(-1, (self.height, self.width))
        self.layers.clear()
        return mean


class PromptMaps(AttentionMaps):
    """Of the rows that read the prompt, not of those that read what it is guided away from."""

    def __init__(self, backbone: Backbone, size: tuple[int, int]):
        super().__init__(size)
        self.backbone = backbone

    def keep(self, probabilities: torch.Tensor) -> None:
        negative = self.backbone.conditioning.negative
        kept = probabilities if negative is None else probabilities[~negative]
        if len(kept):
            super().keep(kept)


def without_start(probabilities: torch.Tensor, start: int = 1) -> torch.Tensor:
    """(B, tokens, h, w): the share of the first ``start`` tokens, which are no words, given to the others in
    proportion, then smoothed. Their own maps are 0."""
    rest = probabilities[:, start:] / probabilities[:, start:].sum(1, keepdim=True).clamp(min=1e-12)
    return F.pad(smooth(rest), (0, 0, 0, 0, start, 0))


def of_words(maps: torch.Tensor, groups: list[tuple[int, ...]]) -> torch.Tensor:
    """(B, groups, h, w): the mean map of each group of token positions."""
    return torch.stack([maps[:, list(group)].mean(1) for group in groups], 1)


def smooth(maps: torch.Tensor, sigma: float = 0.5**0.5) -> torch.Tensor:
    """A 3 x 3 Gaussian over (B, tokens, h, w), mirrored at the edges; by default the one of Attend-and-Excite
    in diffusers.
    """
    line = torch.exp(-(torch.tensor([-1.0, 0.0, 1.0]) ** 2) / (2 * sigma**2)).to(maps)
    line = line / line.sum()
    padded = F.pad(maps, (1, 1, 1, 1), mode="reflect")
    rows = sum(line[i] * padded[..., i : i + maps.shape[-2], :] for i in range(3))
    return sum(line[i] * rows[..., i : i + maps.shape[-1]] for i in range(3))


@contextmanager
def watched(denoiser: torch.nn.Module, maps: AttentionMaps) -> Iterator[AttentionMaps]:
    """Within the block every attention to the text in ``denoiser`` also fills ``maps``; afterwards its own
    processors are back.
    """
    found = text_attention(denoiser)
    joint = [name for name, layer in found.items() if is_joint(name, layer)]
    layers = [layer for name, layer in found.items() if name not in joint]
    layers += picture_attention(denoiser).values() if maps.wants_own else ()
    own = [layer.processor for layer in layers]
    try:
        for layer, processor in zip(layers, own):
            layer.processor = _Watching(processor, maps)
        own_taken = maps.own_layers.append if maps.wants_own else None
        with joint_maps(
            denoiser, joint, maps.height * maps.width, maps.keep, lambda: not maps.idle, own_taken
        ):
            yield maps
    finally:
        for layer, processor in zip(layers, own):
            layer.processor = processor
        maps.layers.clear()
        maps.own_layers.clear()
