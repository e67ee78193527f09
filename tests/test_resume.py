"""A learning that is stopped and taken up again ends in the very weights of an unbroken one: every method,
both precisions.
"""

from __future__ import annotations

import pytest
import torch
from learning import begin
from remembering import MEMORY, PAST, latents

from l2dm.methods import METHODS
from l2dm.retention import Past

QUICK = {("dreambooth", "bfloat16"), ("l2dm", "bfloat16"), ("l2dm", "float32")}


def past() -> Past:
    return Past(
        PAST.priors, **MEMORY, companions={"a cat": latents(2, 1)}, names={"<tom>": "cat", "<ada>": "owl"}
    )


def start(photos, method, precision):
    return begin(photos, method, past=past(), steps=3, mixes=2, precision=precision)


@pytest.mark.parametrize(
    ("method", "precision"),
    [
        pytest.param(m, p, marks=[] if (m, p) in QUICK else pytest.mark.slow)
        for m in METHODS
        for p in ("float32", "bfloat16")
    ],
)
def test_a_stopped_learning_ends_in_the_same_weights(photos, method, precision):
    whole = start(photos, method, precision)
    list(whole.run())
    first = start(photos, method, precision)
    steps = first.run()
    next(steps), next(steps)
    saved, done = (
        {name: t.contiguous() for name, t in first.state().items()},
        first.done,
    )  # as a file keeps them
    steps.close()
    second = start(photos, method, precision)
    second.load_state(saved, done)
    list(second.run())
    ends = whole.state(), second.state()
    assert ends[0].keys() == ends[1].keys()
    assert [n for n in ends[0] if not torch.equal(ends[0][n], ends[1][n])] == []
