"""What ``World.learn`` does in the process that writes: everything is checked before anything is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..concept import Concept, Photos, check_noun, check_token
from ..errors import SettingsError, TokenError, out_of_memory
from ..methods import METHODS
from ..processes import Processes
from ..settings import LearnSettings
from .again import check_again
from .examining import OnProgress
from .lesson import Lesson
from .manifest import Version

if TYPE_CHECKING:
    from .world import World


def teach(
    world: World,
    photos: Photos,
    token: str,
    noun: str,
    settings: LearnSettings,
    skip_bad: bool,
    discard: bool,
    on_progress: OnProgress,
    earlier: dict[str, Photos],
    processes: Processes,
    more: bool,
) -> Version:
    """As ``World.learn``."""
    if more:
        noun = check_again(world, check_token(token), check_noun(noun) if noun else "", settings.method)
    concept = Concept.read(photos, token, noun, skip_bad, world.concepts, settings.masks)
    with world._writing():
        _tune(world, settings.method)
        if more:
            check_again(world, token, concept.noun, settings.method)
        elif token in world.concepts:
            raise TokenError(
                f"token {token!r}: {world.path} has learnt it already, as a {world.concepts[token]}; choose "
                "another token, or add --more "
                "(more=True) for more steps"
            )
        elif METHODS[settings.method].apart and world.concepts:
            raise SettingsError(
                f"method {settings.method!r} gives every concept a world of its own; {world.path} holds one "
                "already"
            )
        if unknown := set(earlier) - {*world.concepts} | {*earlier} & {token}:
            raise TokenError(
                f"earlier={sorted(unknown)}: {world.path} has learnt "
                f"{', '.join(world.concepts) or 'nothing yet'}"
            )
        others = {
            other: Concept.read(folder, other, world.concepts[other], skip_bad, world.concepts)
            for other, folder in earlier.items()
        }
        work = (
            f"{world.path}: learning {token} with batch = {settings.batch}, mixes = {settings.mixes}, "
            f"precision = {settings.precision}"
        )
        way_out = (
            "the world is as it was (choose a smaller batch or fewer mixes, or precision = bfloat16 "
            "where it is not yet)"
        )
        with out_of_memory(work, way_out):
            return Lesson(world, concept, settings, on_progress, others, processes).run(discard)


def _tune(world: World, method: str) -> None:
    """The first concept decides what a world tunes; a ``method`` that tunes something else is refused from
    then on.
    """
    tuner = METHODS[method].tuner
    if tuner == world.manifest.tuner:
        return
    if world.manifest.versions:
        same = [name for name, row in METHODS.items() if row.tuner == world.manifest.tuner]
        raise SettingsError(
            f"method {method!r} tunes {tuner}, but {world.path} has learnt by {world.manifest.tuner}; "
            f"choose one that tunes it too ({', '.join(same)}), or make another world"
        )
    world.begin_with(tuner)
