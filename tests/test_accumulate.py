"""Shares of a step, one after another, are one step over a batch as large as all of them."""

from __future__ import annotations

import pytest
import torch
from learning import begin, fresh

from l2dm.learner import Rows, objective
from l2dm.methods import METHODS
from l2dm.retention import ElasticWeights, Past


def past() -> Past:
    """Everything that a method may rehearse: prior pairs, companions, a memory."""
    draw = torch.Generator().manual_seed(7)

    def latents(count):
        return torch.randn(count, 4, 8, 8, generator=draw)

    return Past(
        priors={"a photo of a dog": latents(3)},
        companions={"a cat": latents(2), "a car": latents(2)},
        memory={"<tom>": latents(3)},
        prompts={"<tom>": ["a photo of <tom> cat"] * 3},
        names={"<tom>": "<tom> cat"},
    )


def taken(photos, method: str, **changes):
    """A learning after two steps."""
    backbone = fresh()
    backbone.add_token("<tom>", backbone.word_vector("cat"))
    rehearses = METHODS[method].memory != "nothing" or METHODS[method].distil != "nothing"
    given = past() if rehearses else Past(companions=past().companions, priors=past().priors)
    learning = begin(photos, method, backbone=backbone, past=given, steps=2, **changes)
    steps = list(learning.run())
    return learning.state(), steps


@pytest.mark.parametrize("method", ["switched", "l2dm", "l2dm-published", "lwf"])
def test_two_shares_of_one_row_are_one_of_two(photos, method):
    whole, once = taken(photos, method, batch=2, mixes=4)
    shared, twice = taken(photos, method, batch=1, mixes=2, accumulate=2)
    assert whole.keys() == shared.keys()
    for name in whole:
        assert torch.allclose(whole[name], shared[name], rtol=2e-3, atol=2e-6), name
    assert any(not torch.equal(whole[name], shared[name]) for name in whole), "added up in another order"
    for one, two in zip(once, twice):
        assert two.loss == pytest.approx(one.loss, rel=1e-4) and two.terms == pytest.approx(
            one.terms, rel=1e-4
        )


def test_a_share_holds_its_part_of_every_term(photos):
    learning = begin(photos, "switched", batch=1, mixes=0)
    seen, predict = [], learning.backbone.predict
    learning.backbone.predict = lambda noisy, t, read: seen.append((noisy, t)) or predict(noisy, t, read)
    z = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 4, 8, 8)
    parts = [Rows("concept", 1.0, z, list("abcd")), Rows("prior", 1.0, 10 + z[:2], list("ef"))]
    with torch.no_grad():
        for share in ((0, 1), (0, 2), (1, 2)):
            objective(learning.backbone, parts, torch.Generator().manual_seed(1), share=share)
    (whole, times), *halves = seen
    for (half, own), rows in zip(halves, ([0, 1, 4], [2, 3, 5])):
        assert torch.equal(half, whole[rows]) and torch.equal(own, times[rows])


def test_elastic_weights_stay_while_they_are_held():
    held, at_once = (ElasticWeights(["<a>", "<b>"]) for _ in range(2))
    with held.held():
        for task, error in (("<a>", 3.0), ("<b>", 1.0), ("<a>", 2.0)):
            held.update([task], torch.tensor([error]))
            at_once.update([task], torch.tensor([error]))
            assert held.weights().tolist() == [1, 1]
    assert held.weights().tolist() == at_once.weights().tolist() != [1, 1]
