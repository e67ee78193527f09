"""Shares of a step, one after another, are one step over a batch as large as all of them."""

from __future__ import annotations

import pytest
import torch
from learning import begin, fresh

from l2dm.learner import Rows, objective
from l2dm.learner.objective import shared
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
    """A learning after two steps, these, and the most rows that went through the denoiser at once."""
    backbone = fresh()
    backbone.add_token("<tom>", backbone.word_vector("cat"))
    rehearses = METHODS[method].memory != "nothing" or METHODS[method].distil != "nothing"
    given = past() if rehearses else Past(companions=past().companions, priors=past().priors)
    learning = begin(photos, method, backbone=backbone, past=given, steps=2, **changes)
    rows = []
    backbone.denoiser.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    steps = list(learning.run())
    return learning.state(), steps, max(rows)


@pytest.mark.parametrize("method", ["gated-lora", "l2dm", "l2dm-published", "lwf"])
def test_two_shares_of_one_row_are_one_of_two(photos, method):
    whole, once, most = taken(photos, method, batch=2, mixes=4)
    shared, twice, fewer = taken(photos, method, batch=1, mixes=2, accumulate=2)
    assert whole.keys() == shared.keys()
    for name in whole:  # AdamW moves a weight by its rate even where rounding decides the gradient's sign
        least = 2e-4 if name.startswith("weight/") else 1e-8
        assert torch.allclose(whole[name], shared[name], rtol=2e-3, atol=least), name
    assert most == 2 * fewer
    for one, two in zip(once, twice):
        assert two.loss == pytest.approx(one.loss, rel=1e-4) and two.terms == pytest.approx(
            one.terms, rel=1e-4
        )


@pytest.mark.parametrize("count", [2, 3, 4])
def test_shares_hold_every_row_once_one_after_another(photos, count):
    learning = begin(photos, "gated-lora", batch=1, mixes=0)
    seen, predict = [], learning.backbone.predict
    learning.backbone.predict = lambda noisy, t, read: seen.append((noisy, t)) or predict(noisy, t, read)
    z = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 4, 8, 8)
    wide = torch.zeros(2, 4, 8, 12)
    parts = [
        Rows("concept", 1.0, z, list("abcd")),
        Rows("mix", 2.0, wide, list("ef")),
        Rows("prior", 0.5, 10 + z[:1], list("g")),
    ]
    losses = []
    with torch.no_grad():
        for share in [(0, 1), *((i, count) for i in range(count))]:
            losses.append(objective(learning.backbone, parts, torch.Generator().manual_seed(1), share=share))
    for shape in (z.shape[1:], wide.shape[1:]):
        (whole, times), *shares = [of for of in seen if of[0].shape[1:] == shape]
        assert torch.equal(torch.cat([noisy for noisy, _ in shares]), whole)
        assert torch.equal(torch.cat([t for _, t in shares]), times)
    rows = [sum(own.stop - own.start for own in shared(parts, i, count)) for i in range(count)]
    assert sum(rows) == 7 and max(rows) - min(rows) <= 1
    (loss, terms), *others = losses
    assert float(sum(own for own, _ in others)) / count == pytest.approx(float(loss), rel=1e-5)
    for name in terms:
        assert sum(own[name] for _, own in others) / count == pytest.approx(terms[name], rel=1e-5)


def test_a_share_of_what_nothing_trained_acts_on_is_no_error(photos):
    """Adapters of this method are on for prompts of their concept alone; in the last share are prior
    pictures.
    """
    priors = {"a photo of a dog": past().priors["a photo of a dog"]}
    learning = begin(photos, "gated-lora", batch=1, mixes=0, accumulate=2, steps=2, past=Past(priors=priors))
    assert [part.term for part in learning.rows(torch.Generator())] == ["concept", "prior"]
    assert [step.step for step in learning.run()] == [1, 2]


def test_elastic_weights_stay_while_they_are_held():
    held, at_once = (ElasticWeights(["<a>", "<b>"]) for _ in range(2))
    with held.held():
        for task, error in (("<a>", 3.0), ("<b>", 1.0), ("<a>", 2.0)):
            held.update([task], torch.tensor([error]))
            at_once.update([task], torch.tensor([error]))
            assert held.weights().tolist() == [1, 1]
    assert held.weights().tolist() == at_once.weights().tolist() != [1, 1]
