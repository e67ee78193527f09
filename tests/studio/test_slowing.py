"""What benchmarks/studio.py makes of the times of steps."""

from __future__ import annotations

import os
import time

import pytest

from benchmarks.studio import WARM, Turn, processor_seconds, slowed


def test_neighbouring_turns_are_compared_without_the_studios_own_seconds():
    steps, watched, clock, processor = [], [], 0.0, 0.0
    for turn in range(6):
        began, is_open = clock, turn % 2 == 0
        for step in range(20):
            own = 3.0 if step == 10 else 0.0
            steps.append([clock, processor, own, own])
            clock += own + (1.1 if is_open else 1.0) * (
                1 + turn
            )  # slower from turn to turn, as on a busy machine
            processor += own + 1.0
        watched.append(Turn(is_open, began, clock))
    assert len(steps) > WARM
    found = slowed(steps, watched, 0)
    assert (
        len(found) == 5 and found[0] == pytest.approx(1.1 / 2 - 1) and found[1] == pytest.approx(3.3 / 2 - 1)
    )
    assert slowed(steps, watched, 1) == pytest.approx([0.0] * 5)


def test_the_processors_seconds_of_this_process_are_told():
    before = processor_seconds(os.getpid())[0]
    began = time.process_time()
    while time.process_time() < began + 0.2:
        pass
    spent, browsers = processor_seconds(os.getpid())
    assert 0.15 < spent - before < 2 and browsers >= 0
