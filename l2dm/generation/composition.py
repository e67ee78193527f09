"""What keeps several things of one prompt apart: which way was asked for, what it comes to, and what a picture tells of it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ..backbone import Backbone
from ..backbone.samplers import deterministic
from ..settings import GenerateSettings
from .mentions import Mention, single_subject_prompts


@dataclass(frozen=True)
class Kind:
    """Of a composition: how many things it ``needs`` to act at all; whether it ``moves`` latents between steps."""

    needs: int
    moves: bool = False


#: Compositions by the name that settings use; the losses of those that move stand in ``guided.LOSSES``.
KINDS = {
    "collage": Kind(2), "structure": Kind(1), "oaa": Kind(2, moves=True), "caa": Kind(1, moves=True), "l2dm": Kind(1, moves=True),
    "attend-and-excite": Kind(1, moves=True), "confined": Kind(2),
}  # fmt: skip


@dataclass(frozen=True)
class Composition:
    """``name``: what acts. ``reason``: why that is not, or not all of, what was asked for; "" where it is."""

    name: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})" if self.reason else self.name


def resolve_composition(asked: str, mentions: list[Mention]) -> Composition:
    """What ``asked`` comes to: "auto" is "l2dm" where two concepts or more are named, else "none"; what needs more things than
    the prompt names is "none"."""
    count = len(mentions)
    named = ", ".join(mention.name for mention in mentions) or "nothing that can be drawn by itself"
    if asked == "auto":
        concepts = sum(bool(mention.personal) for mention in mentions)
        return (
            Composition("l2dm")
            if concepts > 1
            else Composition("none", "auto: fewer than two concepts named")
        )
    if asked in KINDS and count < KINDS[asked].needs:
        needs = "two things or more" if KINDS[asked].needs > 1 else "a thing"
        return Composition("none", f"{asked} needs {needs}; found {named}")
    if asked in ("l2dm", "caa") and count == 1:
        return Composition(asked, f"its attend loss alone; found {named}")
    return Composition(asked)


def provenance(
    backbone: Backbone, prompt: str, mentions: list[Mention], composition: Composition, settings: GenerateSettings
) -> dict[str, str]:  # fmt: skip
    """What a picture's text chunks say of its composition. ``subjects`` and ``parts`` are JSON lists: the things found, and of a
    collage the prompt that each was drawn from."""
    said = str(composition)
    moves = composition.name in KINDS and KINDS[composition.name].moves
    if moves:
        _, changed = deterministic(backbone.pipeline(settings.sampler).scheduler)
        said += f"; sampler: {changed}" if changed else ""
        if not settings.guidance_step * settings.guidance_until:
            said += "; guidance_step or guidance_until is 0, so nothing is moved"
    confines = composition.name == "confined" or (moves and settings.confine and len(mentions) > 1)
    if confines and settings.steps < 2:
        said += "; one step, so nothing is confined"
    elif confines and moves:
        said += "; confined"
    parts = single_subject_prompts(prompt, mentions) if composition.name == "collage" else []
    return {
        "guidance": composition.name,
        "composition": said,
        "subjects": json.dumps([prompt[slice(*mention.span)] for mention in mentions], ensure_ascii=False),
        "parts": json.dumps(parts, ensure_ascii=False),
    }
