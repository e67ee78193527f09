"""Samples of what is being learnt take little of the learning's time."""

from __future__ import annotations

import types

import pytest
from PIL import Image

from l2dm.studio import told
from l2dm.studio.jobs import Queue
from l2dm.studio.told import SHARE, Told


def sampled(
    folder, monkeypatch, seconds: float, steps: range = range(1, 201)
) -> tuple[list[int], float, float]:
    """The steps of a learning of a second a step at which a sample is drawn in ``seconds``; how long all
    samples and the whole took.
    """
    now = [0.0]
    monkeypatch.setattr(told, "time", types.SimpleNamespace(monotonic=lambda: now[0], time=lambda: 0.0))

    def sample(n: int) -> list[Image.Image]:
        now[0] += seconds
        return [Image.new("RGB", (8, 8))]

    folder.make()
    found = Queue(folder).add("learn", {"token": "<rex>"})
    tell = Told(found, 1)
    for step in steps:
        now[0] += 1
        tell(types.SimpleNamespace(stage="learn", done=step, total=200, step=None, sample=sample))
    drawn = [event["step"] for event in found.events() if "sample" in event]
    return drawn, seconds * len(drawn), now[0]


def test_cheap_samples_come_at_each_eighth(folder, monkeypatch):
    assert sampled(folder, monkeypatch, 0.1)[0] == [25, 50, 75, 100, 125, 150, 175, 200]


@pytest.mark.parametrize("seconds", [1.0, 2.0, 20.0])
def test_dear_ones_are_fewer(folder, monkeypatch, seconds):
    drawn, spent, whole = sampled(folder, monkeypatch, seconds)
    assert drawn[0] == 25 and len(drawn) < 8
    assert spent <= seconds + SHARE * whole


def test_a_learning_that_goes_on_draws_no_sample_twice(folder, monkeypatch):
    assert sampled(folder, monkeypatch, 0.1, range(100, 201))[0] == [100, 125, 150, 175, 200]
    assert sampled(folder, monkeypatch, 0.1, range(101, 201))[0] == [125, 150, 175, 200]
