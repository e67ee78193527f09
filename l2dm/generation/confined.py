"""Confined sampling: where each thing of the prompt belongs is found in the first steps, and from there on it
acts there alone; from the first step on where a layout or the prompt itself says it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..backbone import Backbone, Conditioning
from ..backbone.sites import finest
from ..guidance.attention import PromptMaps, map_size, of_words, watched, without_start
from ..guidance.confinement import Confinement
from ..guidance.regions import masks, said
from .mentions import Mention
from .solver import REGION_SIGNAL, signal_share

LATEST = 0.5  # share of the steps after which regions are chosen however little signal there is


@contextmanager
def confined(
    pipe,
    backbone: Backbone,
    mentions: list[Mention],
    latent_size: tuple[int, int],
    changes: dict[str, Any],
    found: Callable[[], torch.Tensor | None] | None = None,
    known: torch.Tensor | None = None,
) -> Iterator[dict[str, Any]]:
    """``changes`` of the call of ``pipe``, with what confines ``mentions``.

    Regions are ``known`` (m, h, w), or what is said, else ``found()``'s, as soon as it has any; without it
    they are chosen from the sampling's own attention maps, once there is signal to tell them by.
    """
    words = [mention.all for mention in mentions]
    concepts = [mention.name if mention.personal else None for mention in mentions]
    sides = [mention.side for mention in mentions]
    confinement, boxes = Confinement(backbone, words, concepts), [mention.box for mention in mentions]
    if known is None:
        known = said(boxes, sides, *finest(backbone.denoiser, *latent_size))
    if known is not None:

        def read(reading: Conditioning, count: int) -> Conditioning:
            pipe.regions = known.to(backbone.device).expand(count, -1, -1, -1)
            return confinement.put(pipe.regions, reading)

        pipe.on_reading = read
        try:
            with confinement.acting():
                yield changes
        finally:
            del pipe.on_reading
        return
    maps = PromptMaps(backbone, map_size(backbone.denoiser, *latent_size))
    then = changes.get("callback_on_step_end")
    maps.idle = found is not None

    def chosen(pipe, index: int, timestep) -> torch.Tensor | None:
        if found:
            return found()
        timesteps = pipe.scheduler.timesteps
        late = index + 1 >= LATEST * len(timesteps)
        if not late and signal_share(pipe.scheduler, timestep) < REGION_SIGNAL:
            return None
        maps.idle = True
        return masks(of_words(without_start(maps.probabilities(), backbone.start), words), sides)

    def place(pipe, index: int, timestep, tensors: dict) -> dict:
        tensors = then(pipe, index, timestep, tensors) if then else tensors
        if confinement.regions is None and (regions := chosen(pipe, index, timestep)) is not None:
            pipe.regions = regions
            pipe.readings = [confinement.put(regions, reading) for reading in pipe.readings]
            backbone.conditioning = pipe.readings[0]
        maps.layers.clear()
        return tensors

    with confinement.acting(), watched(backbone.denoiser, maps):
        yield {**changes, "callback_on_step_end": place}
