"""Where each thing of a prompt was looked for: its attention map at chosen steps, taken from the sampling
itself, and the part of the picture that it was held to.

The pipeline's own forwards are watched, so the maps are those of the noise that was taken away, with every
guidance and without.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backbone import Backbone
from ..guidance.attention import PromptMaps, map_size, of_words, watched, without_start
from .mentions import Mention


@dataclass(frozen=True)
class AttentionSnapshot:
    """``map`` ``(h, w)``, float32 in [0, 1]: the share of each cell's attention that ``name`` has before step
    ``step``. ``region`` ``(h', w')``, of bool: the part of the picture that it is held to in this step, where
    it is held to one.
    """

    step: int
    name: str
    map: np.ndarray
    region: np.ndarray | None = None


class AttentionRecorder:
    """Collects, for each picture in turn, the snapshots of the steps asked for."""

    def __init__(self, steps: tuple[int, ...]):
        self.steps = steps
        self.pictures: list[tuple[AttentionSnapshot, ...]] = []

    @contextmanager
    def during(
        self,
        backbone: Backbone,
        mentions: list[Mention],
        changes: dict[str, Any],
        count: int,
        size: dict[str, int],
        first: int = 0,
    ) -> Iterator[dict[str, Any]]:
        """``changes`` of the pipeline's call, with what is needed to watch it draw ``count`` pictures.
        ``first``: the step at which the things come together; what is asked of earlier ones is seen there."""
        cells = (size[side] // backbone.factor for side in ("height", "width"))
        maps = PromptMaps(backbone, map_size(backbone.denoiser, *cells))
        found: list[list[AttentionSnapshot]] = [[] for _ in range(count)]
        then, steps = changes.get("callback_on_step_end"), {max(first, step) for step in self.steps}

        def look(pipe, index: int, timestep, tensors: dict) -> dict:
            if (index := index + first) in steps:
                shown = of_words(
                    without_start(maps.probabilities(), backbone.start),
                    [mention.all for mention in mentions],
                )
                parts = [[None] * len(mentions)] * count
                if pipe.regions is not None:
                    parts = pipe.regions.expand(count, -1, -1, -1).cpu().numpy() > 0.5
                for row, own, picture in zip(shown.cpu().numpy(), parts, found):
                    picture += [
                        AttentionSnapshot(index, mention.name, map, part)
                        for mention, map, part in zip(mentions, row, own)
                    ]
            tensors = then(pipe, index - first, timestep, tensors) if then else tensors
            maps.layers.clear()  # of steps that are not shown, and of the guidance's own forwards
            return tensors

        with watched(backbone.denoiser, maps):
            yield {**changes, "callback_on_step_end": look}
        self.pictures += [tuple(picture) for picture in found]
