"""Confinement: each thing of a prompt acts in its own part of the picture alone (ours; kin: FreeFuse, arXiv
2510.23515, and TARA, arXiv 2508.08812). No gradients, no training.

A concept that is on in all of a picture changes all of it: its adapter paints its looks on whatever stands
beside it. Once it is known where each thing belongs (``regions``), two things are held to that: a thing's
words are seen from its own part alone,

    A_c(u, p) = softmax over p of (Q K^T / sqrt(d) + B),    B(u, p) = -large where p is a word of thing i and
    u is not of its part

and its concept's adapter acts there alone, in every layer that works on the picture
(``Conditioning.regions``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from ..backbone import Backbone, Conditioning
from ..backbone.conditioning import resized
from ..backbone.joint_attention import joint_biases
from ..backbone.sites import is_joint, text_attention

_UNSEEN = -1e4  # added to a score before the softmax; finite in float16


class Confinement:
    """Holds the things of one batch's pictures to their parts, as soon as ``put`` said which; before it
    nothing is different.

    ``words``: of each thing its token positions; ``concepts``: its personal token, or None of a plain noun.
    """

    def __init__(self, backbone: Backbone, words: Sequence[tuple[int, ...]], concepts: Sequence[str | None]):
        self.backbone, self.words, self.concepts = backbone, list(words), list(concepts)
        self.regions: torch.Tensor | None = None
        self._biases: dict[
            tuple[int, int, int], torch.Tensor
        ] = {}  # of a batch's readings, which live as long

    def put(self, regions: torch.Tensor, reading: Conditioning) -> Conditioning:
        """``reading`` with where each concept acts, of ``regions`` (B, things, h, w) of zeros and ones:
        everywhere, if it is no thing of the prompt, and in both parts, if it is two. Its rows are B
        pictures', once or with their negatives.
        """
        self.regions, known = regions, list(self.backbone.tokens.ids)
        found = regions.new_ones((len(regions), len(known), *regions.shape[2:]))
        for name in {name for name in self.concepts if name in known}:
            own = [i for i, concept in enumerate(self.concepts) if concept == name]
            found[:, known.index(name)] = regions[:, own].amax(1)
        times = len(reading) // len(regions)
        return replace(reading, regions=found.repeat(times, 1, 1, 1).to(reading.features))

    def bias(self, reading: Conditioning, pixels: int, length: int) -> torch.Tensor:
        """(rows, pixels, length), added to the scores of what ``pixels`` attend to in ``length`` tokens; 0 in
        the rows of negatives.
        """
        if (known := (id(reading), pixels, length)) not in self._biases:
            own = resized(self.regions, pixels).flatten(2) > 0.5
            bias = torch.zeros(len(own), pixels, length, device=own.device)
            for i, places in enumerate(self.words):
                bias[:, :, list(places)] = torch.where(own[:, i], 0.0, _UNSEEN)[:, :, None]
            bias = bias.repeat(len(reading) // len(self.regions), 1, 1)
            if reading.negative is not None:
                bias[reading.negative] = 0
            self._biases[known] = bias.to(reading.features)
        return self._biases[known]

    def now(self, pixels: int, length: int) -> torch.Tensor | None:
        """The ``bias`` of the forward that runs; None while nothing is confined in what it reads."""
        reading = self.backbone.conditioning
        known = reading is not None and reading.regions is not None
        return self.bias(reading, pixels, length) if known else None

    def _pixels(self) -> int:
        """Of a transformer's picture, which has one size throughout."""
        return 0 if self.regions is None else self.regions[0, 0].numel()

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Within the block attention to the text heeds the parts; afterwards its own processors are back."""
        denoiser = self.backbone.denoiser
        found = text_attention(denoiser)
        joint = [name for name, layer in found.items() if is_joint(name, layer)]
        layers = [layer for name, layer in found.items() if name not in joint]
        own = [layer.processor for layer in layers]
        try:
            for layer in layers:
                layer.processor = _Confined(layer.processor, self)
            with joint_biases(denoiser, joint, self._pixels, self.now):
                yield
        finally:
            for layer, processor in zip(layers, own):
                layer.processor = processor


class _Confined:
    """A processor around a processor: what it does, and nothing else while nothing is confined."""

    def __init__(self, processor, confinement: Confinement):
        self.processor, self.confinement = processor, confinement

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, *args, **kwargs):
        if (bias := self.confinement.now(hidden_states.shape[1], encoder_hidden_states.shape[1])) is not None:
            bias = bias.to(hidden_states)
            attention_mask = bias if attention_mask is None else attention_mask + bias
        return self.processor(attn, hidden_states, encoder_hidden_states, attention_mask, *args, **kwargs)
