"""Confined sampling: where each thing of the prompt belongs is found in the first steps, and from there on it acts there alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..backbone import Backbone
from ..guidance.attention import PromptMaps, map_size, of_words, watched, without_start
from ..guidance.confinement import Confinement
from ..guidance.regions import all_said, masks
from .mentions import Mention
from .solver import REGION_SIGNAL, signal_share

LATEST = 0.5  # share of the steps after which regions are chosen however little signal there is


@contextmanager
def confined(
    backbone: Backbone, mentions: list[Mention], latent_size: tuple[int, int], changes: dict[str, Any],
    found: Callable[[], torch.Tensor | None] | None = None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """``changes`` of the pipeline's call, with what confines ``mentions``.

    Regions are ``found()``'s, as soon as it has any; without it they are chosen from the sampling's own attention maps, once there is
    signal to tell them by, or at once where the prompt says every side.
    """
    words = [mention.all for mention in mentions]
    concepts = [mention.name if mention.personal else None for mention in mentions]
    sides = [mention.side for mention in mentions]
    confinement, maps = (
        Confinement(backbone, words, concepts),
        PromptMaps(backbone, map_size(backbone.denoiser, *latent_size)),
    )
    maps.idle = found is not None
    then = changes.get("callback_on_step_end")

    def chosen(pipe, index: int, timestep) -> torch.Tensor | None:
        if found:
            return found()
        timesteps = pipe.scheduler.timesteps
        late = index + 1 >= LATEST * len(timesteps)
        if not late and not all_said(sides) and signal_share(pipe.scheduler, timestep) < REGION_SIGNAL:
            return None
        maps.idle = True
        return masks(of_words(without_start(maps.probabilities(), backbone.start), words), sides)

    def place(pipe, index: int, timestep, tensors: dict) -> dict:
        tensors = then(pipe, index, timestep, tensors) if then else tensors
        if confinement.regions is None and (regions := chosen(pipe, index, timestep)) is not None:
            pipe.readings = [confinement.put(regions, reading) for reading in pipe.readings]
            backbone.conditioning = pipe.readings[0]
        maps.layers.clear()
        return tensors

    with confinement.acting(), watched(backbone.denoiser, maps):
        yield {**changes, "callback_on_step_end": place}
