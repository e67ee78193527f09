"""Sixty prompts in which things do more than stand beside each other: on, under, in front of, holding,
wearing, inside, attributes, counts.

They name the shipped concepts. What the judge can tell of a picture is a verdict; the rest is for eyes, on a
sheet of all of them:

    success    every concept named is there, with its own looks, none doubled, no leak
    (``evaluation.composition_verdict``); of counts: as many of each
               as the prompt says, each with its own looks and no leak
    arranged   of "on" and "under" two concepts: the upper one's place is above the lower one's by a cell or
    more

Not told: whether something is held, worn, inside or in front, the colour of anything, and plain nouns.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..concept.words import TOKEN_LIKE
from ..evaluation.composition_verdict import groups, places, verdict
from ..evaluation.flat import shown
from ..generation.picture import save_png
from ..report import attention
from ..world.world import World
from .multi_summary import rates
from .scorer import Scorer

PROMPTS = Path(__file__).parent / "interactions.json"
KINDS = ("on", "under", "in front of", "holding", "wearing", "inside", "attributes", "counts")


@dataclass(frozen=True)
class Interaction:
    """``above``: of two tokens the one that is to be higher, and the other. ``counts``: token -> how many of
    it.
    """

    kind: str
    prompt: str
    above: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def tokens(self) -> list[str]:
        return list(dict.fromkeys(TOKEN_LIKE.findall(self.prompt)))


def interactions(known: list[str]) -> list[Interaction]:
    """Those of which every token is ``known``."""
    found = [
        Interaction(**{**row, "above": tuple(row.get("above", ()))})
        for row in json.loads(PROMPTS.read_text(encoding="utf-8"))
    ]
    return [one for one in found if set(one.tokens) <= set(known)]


def drawn_and_judged(scorer: Scorer, world: World, known: list[str], seed: int, path: Path) -> dict[str, Any]:
    """Of every prompt that names ``known`` concepts alone; all pictures are on a sheet beside ``path``."""
    world.backbone()
    verdicts, labelled = [], []
    for i, one in enumerate(interactions(known)):
        pictures = world.generate(one.prompt, seed=1_000_000 * (seed + 1) + 100 * i, **scorer.drawing)
        said = judged(scorer, [picture.image for picture in pictures], one)
        verdicts += [
            {"prompt": one.prompt, "kind": one.kind, "seed": p.seed, **v} for p, v in zip(pictures, said)
        ]
        labelled.append((one.prompt.removeprefix("a photo of "), pictures[0].image))
    sheet = path.with_name(f"{path.stem}-sheet.png")
    if labelled:
        save_png(attention.labelled(labelled), sheet)
    shown = {"prompt": "every interaction, for what the judge cannot tell", "seed": 1_000_000 * (seed + 1)}
    return {
        "rates": rates(verdicts),
        "pictures": len(verdicts),
        "verdicts": verdicts,
        "samples": [{**shown, "file": sheet.name}] if labelled else [],
        "by_kind": {kind: rates([v for v in verdicts if v["kind"] == kind]) for kind in KINDS},
    }


def judged(scorer: Scorer, images: list[Image.Image], one: Interaction) -> list[dict[str, bool]]:
    """Of each picture what the judge can tell; ``arranged`` is left out where it cannot."""
    cells = scorer.judge.look(images)[0]
    side = int(cells.shape[1] ** 0.5)
    like = torch.einsum("bcw,pw->bpc", shown(cells, images), scorer.known).unflatten(-1, (side, side))
    return [told(row, one, scorer.tokens, scorer.judge.found, scorer.judge.sure) for row in like]


def told(
    like: torch.Tensor, one: Interaction, tokens: list[str], found: float, sure: float
) -> dict[str, bool]:
    """As ``judged``, of one picture's ``like`` (known things, h, w), of which the first are ``tokens``."""
    named = [tokens.index(token) for token in one.tokens]
    said = verdict(like, named, found, sure).as_dict()
    if one.counts:
        own = (like.flatten(1).argmax(0).view(like.shape[1:]), like >= found)
        counted = all(
            groups((own[0] == tokens.index(token)) & own[1][tokens.index(token)]) == count
            for token, count in one.counts.items()
        )
        said["success"] = said["present"] and said["own_looks"] and said["no_leak"] and counted
    if one.above:
        (_, high), (_, low) = places(like, [tokens.index(token) for token in one.above])
        said["arranged"] = said["present"] and low - high >= 1 / like.shape[1]
    return said
