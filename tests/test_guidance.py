"""The artists' losses against hand-made maps and loops; regions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from reference.artists import literal_attend, literal_centroid, literal_smooth, literal_unmix
from reference.assignment import literal_assign
from reference.self_cross import literal_aggregated, literal_otsu, literal_overlap

from l2dm.guidance import self_cross
from l2dm.guidance.assignment import assign
from l2dm.guidance.attend_and_excite import most_neglected_loss
from l2dm.guidance.attention import smooth
from l2dm.guidance.concept_attention_artist import attend_loss, unmix_loss
from l2dm.guidance.orthogonal_attention_artist import orthogonal_loss
from l2dm.guidance.regions import anchors, centroids, layouts, masks

HALVES = torch.zeros(1, 2, 4, 4)
HALVES[:, 0, :, :2] = 1
HALVES[:, 1, :, 2:] = 1


def test_unmix_is_the_share_outside():
    maps = HALVES.clone()
    assert unmix_loss(maps, HALVES).item() == 0
    assert unmix_loss(maps.flip(1), HALVES).item() == 2
    maps[0, 0] = 0.3
    assert unmix_loss(maps, HALVES).item() == pytest.approx(0.5)


def test_the_weaker_concept_is_attended_to_more():
    maps = torch.zeros(1, 2, 3, 3)
    maps[0, 0, 1, 1], maps[0, 1, 0, 2] = 0.9, 0.2
    tau = 0.25
    weights = [math.exp(0.1 / tau), math.exp(0.8 / tau)]
    expected = 2 * (weights[0] * 0.1 + weights[1] * 0.8) / sum(weights)
    assert attend_loss(maps, tau).item() == pytest.approx(expected)
    maps.requires_grad_()
    gradient = torch.autograd.grad(attend_loss(maps, tau).sum(), maps)[0]
    assert gradient[0, 1, 0, 2] < gradient[0, 0, 1, 1] < 0 and gradient.count_nonzero() == 2
    assert most_neglected_loss(maps).item() == pytest.approx(0.8)


def test_orthogonal_loss_against_loops():
    torch.manual_seed(0)
    personal, nouns = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    for b, got in enumerate(orthogonal_loss(personal, nouns).tolist()):
        expected = 0.0
        for i in range(3):
            for j in range(3):
                v, n = personal[b, i].flatten(), nouns[b, j].flatten()
                g = float(v @ n / (v.norm() * n.norm()))
                expected += (1 - g) ** 2 if i == j else g**2
        assert got == pytest.approx(expected, rel=1e-5)
    assert orthogonal_loss(HALVES, HALVES).item() == pytest.approx(0, abs=1e-6)
    assert orthogonal_loss(HALVES, HALVES.flip(1)).item() == pytest.approx(4)


@pytest.mark.parametrize(
    "loss", [lambda m: unmix_loss(m, HALVES.double()), lambda m: orthogonal_loss(m, m.flip(1) + 0.1)]
)
def test_gradients(loss):
    torch.manual_seed(1)
    assert torch.autograd.gradcheck(loss, torch.rand(1, 2, 4, 4, dtype=torch.double, requires_grad=True))


def test_regions_follow_the_maps_and_the_words():
    assert torch.equal(masks(HALVES, [None, None]), HALVES) and torch.equal(
        masks(HALVES.flip(1), [None, None]), HALVES.flip(1)
    )
    above = HALVES.transpose(2, 3)
    assert torch.equal(masks(above, [None, None]), above)
    assert torch.equal(masks(HALVES, ["right", None]), HALVES.flip(1)), "words are stronger than maps"
    assert centroids(HALVES)[0].tolist() == [pytest.approx([-2 / 3, 0]), pytest.approx([2 / 3, 0])]
    three = masks(torch.rand(5, 3, 8, 8), [None] * 3)
    assert torch.equal(three.sum(1), torch.ones(5, 8, 8)) and (three.sum((2, 3)) >= 12).all()


def test_smoothing_keeps_what_is_flat():
    flat = torch.full((1, 1, 5, 5), 0.3)
    assert torch.allclose(smooth(flat), flat)


def test_against_slow_twins_on_odd_sizes():
    torch.manual_seed(2)
    maps = torch.rand(2, 3, 5, 7, dtype=torch.double, requires_grad=True)
    halves = masks(maps, [None] * 3)
    attend, unmix, where = attend_loss(maps), unmix_loss(maps, halves), centroids(maps)
    (slope,) = torch.autograd.grad(attend.sum(), maps)
    for b, picture in enumerate(maps.detach().tolist()):
        value, slopes = literal_attend(picture, 0.25)
        assert attend[b].item() == pytest.approx(value) and slope[b].numpy() == pytest.approx(
            np.array(slopes)
        )
        assert unmix[b].item() == pytest.approx(literal_unmix(picture, halves[b].tolist()))
        assert where[b].tolist() == [pytest.approx(literal_centroid(one)) for one in picture]
        assert smooth(maps)[b].detach().numpy() == pytest.approx(
            np.array([literal_smooth(one) for one in picture])
        )


@pytest.mark.parametrize("seed", range(20))
def test_assignment_against_every_order(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 7))
    costs = np.where(rng.random((count, count)) < 0.3, 1.0, rng.random((count, count))).tolist()
    order = assign(costs)
    assert sorted(order) == list(range(count))
    assert sum(row[j] for row, j in zip(costs, order)) == pytest.approx(literal_assign(costs)[0])


def test_forty_things_find_their_places():
    torch.manual_seed(0)
    points = torch.tensor(layouts(40)[1])[torch.randperm(40)]
    assert torch.equal(anchors(points, [None] * 40), points)


@pytest.mark.parametrize("seed", range(4))
def test_self_cross_is_the_literal_one(seed, monkeypatch):
    torch.manual_seed(seed)
    maps, own = (
        torch.rand(2, 3, 4, 4, dtype=torch.float64) ** 3,
        torch.rand(2, 16, 16, dtype=torch.float64).softmax(-1),
    )
    monkeypatch.setattr(self_cross, "smooth", lambda x: x)
    for row in range(2):
        flat = maps[row].flatten(1).tolist()
        assert self_cross.otsu(maps)[row].flatten(1).tolist() == [literal_otsu(a) for a in flat]
        seen = [literal_aggregated(a, own[row].tolist()) for a in flat]
        assert torch.allclose(
            self_cross.aggregated(maps, own)[row].flatten(1), torch.tensor(seen, dtype=torch.float64)
        )
        assert self_cross.self_cross_loss(maps, own)[row].item() == pytest.approx(literal_overlap(flat, seen))


def test_self_cross_waits_until_nothing_is_neglected():
    apart = torch.zeros(1, 2, 4, 4)
    apart[0, 0, :, :2] = apart[0, 1, :, 2:] = 0.9
    own = torch.full((1, 16, 16), 1 / 16)  # everything looks everywhere
    assert self_cross.joint_loss(apart, own).item() > 0.1 + 0.4
    assert self_cross.joint_loss(apart * 0.4, own).item() == pytest.approx(1 - 0.36)
    assert self_cross.self_cross_loss(apart[:, :1], own).tolist() == [0.0]
    assert self_cross.otsu(torch.ones(1, 1, 2, 2)).all()
