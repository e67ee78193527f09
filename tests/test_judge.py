"""The judge's training: what it is shown is what it is told, and its calibration finds the sigmoid."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mini_base import judge, judge_episodes
from mini_base.corpus import NOUNS, Icon


@pytest.fixture(scope="module")
def episodes():
    """Thirty-six things of twelve nouns, each a square of its own colour."""
    icons = []
    for i in range(36):
        rgba = np.zeros((96, 96, 4), np.uint8)
        rgba[..., :3], rgba[..., 3] = np.random.default_rng(i).integers(0, 255, 3), 255
        icons.append(Icon(list(NOUNS)[i // 3], "noto", f"i{i}", rgba))
    return judge.EpisodeSampler(icons, seed=0)


def test_a_step_tells_what_its_pictures_hold(episodes):
    pixels, nouns, there, where = episodes.step()
    references = judge.THINGS * judge.REFERENCES
    assert pixels.shape == (references + judge.QUERIES, 3, 64, 64) and pixels.abs().max() <= 1
    assert (nouns[:references].sum(1) == 1).all() and torch.equal(nouns[:references:2], nouns[1:references:2])
    nouns = nouns[references:]
    assert there.sum(1).min() >= 1 and there.sum(1).max() <= 3 and set(there.unique().tolist()) == {0, 1}
    assert ((nouns.sum(1) >= 1) & (nouns.sum(1) <= there.sum(1))).all()
    assert where.min() >= 0 and where.max() < len(judge.KINDS)


def test_look_alikes_sit_side_by_side(episodes):
    things = episodes.things(12)
    assert len(set(things)) == 12
    named = [episodes.icons[i].noun for i in things]
    assert max(named.count(noun) for noun in named) > 1


def test_a_judge_that_learns_learns(episodes, monkeypatch):
    for name, few in (("THINGS", 5), ("QUERIES", 6)):
        monkeypatch.setattr(judge, name, few)
        monkeypatch.setattr(judge_episodes, name, few)
    torch.manual_seed(0)
    loss_of, step = judge.JudgeLoss(), episodes.step()
    optimizer = torch.optim.AdamW(loss_of.parameters(), lr=2e-3)
    losses = []
    for _ in range(4):
        loss = loss_of(*step)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]


def test_calibration_finds_the_sigmoid():
    torch.manual_seed(0)
    like = torch.rand(20_000) * 2 - 1
    truth = torch.rand(20_000) < torch.sigmoid(9 * like - 3)
    assert judge.calibrate(like, truth) == pytest.approx((9, 3), rel=0.1)
    odds = float((~truth).sum() / truth.sum())
    assert judge.calibrate(like, truth, even=True) == pytest.approx((9, 3 - np.log(odds)), rel=0.1)
