"""How the judge says of pictures of several things whether all are there."""

from __future__ import annotations

import torch

from ..evaluation.composition_verdict import places, verdict
from ..evaluation.flat import shown
from ..evaluation.judging import find_judge
from ..evaluation.pasted import pasted
from ..evaluation.shipped_judge import Judge
from .scorer import Scorer
from .subjects import Subject


def seeing(source: str) -> Judge:
    """The judge called ``source``; a SettingsError for one that cannot say which of several things are in a
    picture.
    """
    judge = find_judge(source)
    if not isinstance(judge, Judge):
        judge.presence((), torch.empty(0))
    return judge


def judge_concepts(scorer: Scorer, images: list, group: tuple[Subject, ...]) -> list[dict[str, bool]]:
    """A ``Verdict`` of each picture of the learnt concepts ``group``, and whether it is ``pasted``, where
    that can be told.
    """
    judge = scorer.judge
    cells = judge.look(images)[0]
    side = int(cells.shape[1] ** 0.5)
    like = torch.einsum("bcw,pw->bpc", shown(cells, images), scorer.known).unflatten(-1, (side, side))
    named = [scorer.tokens.index(s.token) for s in group]
    said = [verdict(row, named, judge.found, judge.sure).as_dict() for row in like]
    seams = [pasted(image, places(row, named)) for image, row in zip(images, like)]
    return [v if seam is None else {**v, "pasted": seam} for v, seam in zip(said, seams)]


def judge_nouns(judge: Judge, images: list, group: tuple[Subject, ...]) -> list[dict[str, bool]]:
    """Of each picture, whether the judge names every noun of ``group`` with a probability of 1/2 or more: no
    looks are asked for.
    """
    logits = judge.look(images)[2][:, [judge.nouns.index(s.noun) for s in group]]
    return [{"success": bool(found)} for found in shown((logits >= 0).all(1), images)]
