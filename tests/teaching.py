"""One lesson after another over a tiny base, and what a world draws then."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import QUICK

from l2dm.world.weights import read_weights

PROMPT = "a photo of <rex> dog"


def teach(world, photos, **changes):
    return world.learn(photos, token="<rex>", noun="dog", **{**QUICK, **changes})


def weights(world):
    return read_weights(world.manifest.recorded(world.path, world.version))


def pixels(world, **changes):
    options = {"n": 1, "steps": 2, **changes}
    return np.asarray(world.generate(PROMPT, **options)[0].image)


def slow(*methods):
    """Parameters of a test that are for the slow tier."""
    return [pytest.param(method, marks=pytest.mark.slow) for method in methods]
