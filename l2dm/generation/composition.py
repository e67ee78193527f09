"""What keeps several things of one prompt apart: which way was asked for, what it comes to, and what a
picture tells of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from ..backbone import Backbone
from ..backbone.samplers import deterministic
from ..errors import SettingsError
from ..guidance.regions import all_said
from ..settings import GenerateSettings
from .layout import written
from .mentions import Mention, single_subject_prompts


@dataclass(frozen=True)
class Kind:
    """Of a composition: how many things it ``needs`` to act at all; whether it ``moves`` latents between
    steps; whether it ``places`` things, so that a layout tells it where; whether it ``confines`` each to its
    place, whatever the setting of that name.
    """

    needs: int
    moves: bool = False
    places: bool = False
    confines: bool = False


#: Compositions by the name that settings use; the losses of those that move stand in ``guided.LOSSES``.
KINDS = {
    "collage": Kind(2, places=True),
    "structure": Kind(1),
    "oaa": Kind(2, moves=True),
    "caa": Kind(1, moves=True, places=True),
    "l2dm": Kind(2, moves=True, places=True, confines=True),
    "artists": Kind(2, moves=True, places=True),
    "attend-and-excite": Kind(1, moves=True),
    "self-cross": Kind(2, moves=True),
    "mudi": Kind(2, places=True),
    "confined": Kind(2, places=True, confines=True),
}


ALONE = ("collage", "mudi")  # that draw each thing by itself before


@dataclass(frozen=True)
class Composition:
    """``name``: what acts. ``reason``: why that is not, or not all of, what was asked for; "" where it is."""

    name: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})" if self.reason else self.name


def resolve_composition(asked: str, mentions: list[Mention]) -> Composition:
    """What ``asked`` comes to: "auto" is "confined" where a layout places things, else "l2dm" where two
    concepts or more are named, else "none"; what needs more things than the prompt names is "none". What is
    placed can do without others.
    """
    count, placed = len(mentions), any(mention.box for mention in mentions)
    named = ", ".join(mention.name for mention in mentions) or "nothing that can be drawn by itself"
    if asked == "auto" and placed:
        return Composition("confined")
    if asked == "auto":
        concepts = sum(bool(mention.personal) for mention in mentions)
        return (
            Composition("l2dm")
            if concepts > 1
            else Composition("none", "auto: fewer than two concepts named")
        )
    if asked in KINDS and count < (min(1, KINDS[asked].needs) if placed else KINDS[asked].needs):
        needs = "two things or more" if KINDS[asked].needs > 1 else "a thing"
        return Composition("none", f"{asked} needs {needs}; found {named}")
    if asked == "caa" and count == 1 and not placed:
        return Composition(asked, f"its attend loss alone; found {named}")
    return Composition(asked)


def check_layout(composition: Composition, mentions: list[Mention], settings: GenerateSettings) -> None:
    """A SettingsError where a layout would change nothing, or not all that it says."""
    kind = KINDS.get(composition.name)
    if not kind or not (kind.places or (kind.moves and settings.confine)):
        able = ", ".join(name for name, kind in KINDS.items() if kind.places)
        raise SettingsError(f"layout: composition = {composition.name} places nothing; choose one of {able}")
    if composition.name in ALONE and not all(mention.box for mention in mentions):
        left = ", ".join(mention.name for mention in mentions if not mention.box)
        raise SettingsError(
            f"layout: {composition.name} needs a place for every thing; say where to put {left} too"
        )


def confines(composition: str, mentions: list[Mention], settings: GenerateSettings) -> bool:
    """Whether each of ``mentions`` is held to its part of the picture."""
    several = len(mentions) > 1 or any(mention.box for mention in mentions)
    if (kind := KINDS.get(composition)) is None or not several:
        return False
    return kind.confines or (settings.confine and (kind.moves or composition == "collage"))


def provenance(
    backbone: Backbone,
    prompt: str,
    mentions: list[Mention],
    composition: Composition,
    settings: GenerateSettings,
) -> dict[str, str]:
    """What a picture's text chunks say of its composition. ``subjects`` and ``parts`` are JSON lists: the
    things found, and of a collage the prompt that each was drawn from; ``layout``: where each was put by
    hand, as the setting of that name reads it.
    """
    said = str(composition)
    moves = composition.name in KINDS and KINDS[composition.name].moves
    if moves:
        _, changed = deterministic(backbone.pipeline(settings.sampler).scheduler)
        said += f"; sampler: {changed}" if changed else ""
        if not settings.guidance_step * settings.guidance_until:
            said += "; guidance_step or guidance_until is 0, so nothing is moved"
    sides = [mention.side for mention in mentions]
    placed = any(mention.box for mention in mentions) or (any(sides) and all_said(sides))
    confined = confines(composition.name, mentions, settings)
    if confined and settings.steps < 2 and not placed and composition.name != "collage":
        said += "; one step, so nothing is confined"
    elif confined and composition.name != "confined":
        said += "; confined"
    parts = single_subject_prompts(prompt, mentions) if composition.name in ALONE else []
    return {
        "guidance": composition.name,
        "composition": said,
        "subjects": json.dumps([prompt[slice(*mention.span)] for mention in mentions], ensure_ascii=False),
        "parts": json.dumps(parts, ensure_ascii=False),
        "layout": written(mentions),
    }
