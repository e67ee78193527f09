"""The sixty prompts of interaction, and what is told of their pictures."""

from __future__ import annotations

import json
from collections import Counter

import torch

from l2dm.bench.interactions import KINDS, Interaction, interactions, told
from l2dm.bench.multi_summary import rates
from l2dm.bench.subjects import Subjects
from l2dm.generation.phrases import phrases

CONCEPTS = {s.token: s.noun for s in Subjects.read("shipped").concepts}


def test_there_are_sixty_of_every_kind_and_all_their_concepts_are_found():
    found = interactions(list(CONCEPTS))
    assert len(found) == len({one.prompt for one in found}) == 60
    assert (
        tuple(Counter(one.kind for one in found)) == KINDS
        and min(Counter(one.kind for one in found).values()) >= 7
    )
    for one in found:
        things = [thing.name for thing in phrases(one.prompt, CONCEPTS) if thing.token]
        assert set(things) == set(one.tokens) and one.tokens, one.prompt
        assert set(one.above) <= set(one.tokens) and set(one.counts) <= set(one.tokens)
        if one.kind in ("on", "under") and len(one.tokens) == 2:
            upper, lower = one.tokens if one.kind == "on" else one.tokens[::-1]
            assert one.above == (upper, lower), one.prompt
    assert {one.prompt for one in interactions(["<dog1>"])} == {
        one.prompt for one in found if one.tokens == ["<dog1>"]
    }
    assert set(Counter(token for one in found for token in one.tokens)) == set(CONCEPTS)


def seen(one: Interaction, *spots: tuple[int, int, int, float]) -> dict[str, bool]:
    """What is told where cells look like thing p at (y, x) by so much."""
    like = torch.full((3, 8, 8), -1.0)
    for p, y, x, value in spots:
        like[p, y, x] = value
    return told(like, one, ["<a>", "<b>", "<c>"], found=0.5, sure=0.55)


def test_what_is_told_by_hand():
    on = Interaction("on", "<a> on <b>", above=("<a>", "<b>"))
    high, low = (0, 1, 4, 0.9), (1, 6, 4, 0.9)
    assert seen(on, high, low)["arranged"] and seen(on, high, low)["success"]
    upside_down = seen(on, (0, 6, 4, 0.9), (1, 1, 4, 0.9))
    assert upside_down["success"] and not upside_down["arranged"]
    assert not seen(on, (0, 4, 1, 0.9), (1, 4, 6, 0.9))["arranged"], "beside"
    assert not seen(on, high)["arranged"], "nothing lies below"
    two = Interaction("counts", "two <a> and <b>", counts={"<a>": 2, "<b>": 1})
    first, second, other = (0, 1, 1, 0.9), (0, 1, 6, 0.8), (1, 6, 4, 0.9)
    assert seen(two, first, second, other)["success"] and "arranged" not in seen(two, first, second, other)
    assert not seen(two, first, other)["success"] and not seen(two, first, second)["success"]
    assert not seen(two, first, second, (0, 6, 7, 0.7), (1, 6, 2, 0.9))["success"], "three of the first"
    assert not seen(Interaction("in front of", "<a> in front of <b>"), first, second, other)["success"]


def test_rates_are_shares_of_the_verdicts_that_tell():
    verdicts = [{"prompt": "x", "success": True, "pasted": True}, {"prompt": "y", "success": False}]
    assert rates(verdicts) == {"success": 0.5, "pasted": 1.0} and rates([]) == {}
    assert json.loads(json.dumps(rates(verdicts)))
