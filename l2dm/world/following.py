"""A lesson of several processes: the main one holds the world's lock, draws, examines and writes; the others
take its steps with it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..concept import Concept
from ..errors import L2DMError
from ..learner import Learning, stop_signals
from ..processes import Processes
from ..retention import Past
from ..settings import LearnSettings
from ..threads import Threads
from ..tuners import TUNERS
from .manifest import Manifest, Version

if TYPE_CHECKING:
    from .world import World


@dataclass(frozen=True)
class Begun:
    """All that a lesson is, from the step on that it is at; ``vector`` is where the token starts."""

    tuner: str
    concept: Concept
    past: Past
    settings: LearnSettings
    vector: torch.Tensor
    state: dict[str, torch.Tensor]
    done: int
    more: bool


def begin(world: World, learning: Learning, vector: torch.Tensor) -> None:
    """Of the main process: tell the others what is learnt."""
    if learning.processes.count > 1:
        learning.processes.told(
            Begun(
                world.manifest.tuner,
                learning.concept,
                learning.past,
                learning.settings,
                vector,
                learning.state(),
                learning.done,
                learning.concept.token in world.concepts,
            )
        )


def follow(world: World, processes: Processes) -> Version:
    """Of the others: take part in the lesson that the main process gives ``world``; raises what it raises."""
    told = processes.heard()
    assert isinstance(told, Begun)
    world.manifest, settings = Manifest.read(world.path, verify=False), told.settings
    world.begin_with(told.tuner)
    changed = TUNERS[told.tuner].changes_weights
    try:
        with Threads(settings.threads).during():
            backbone = world.backbone("float32" if changed else settings.precision, settings.device, False)
            token = told.concept.token
            vector = backbone.vector_of(token) if told.more else backbone.add_token(token, told.vector)
            learning = Learning(
                backbone, world.tuner, vector, told.concept, told.past, settings, processes, told.more
            )
            learning.load_state(told.state, told.done)
            with stop_signals(), suppress(L2DMError):  # the main process says whether they stop, and why
                for _ in learning.run():
                    pass
    finally:
        world.unload_unless(told.concept.token, world.version)
    processes.heard()
    world.manifest = Manifest.read(world.path, verify=False)
    return world.manifest.versions[world.version]
