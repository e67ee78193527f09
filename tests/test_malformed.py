"""The malformed inputs, through the command line itself."""

from __future__ import annotations

import shutil

import pytest
from conftest import QUICK, paint
from tiny import mini

from benchmarks.malformed import verdict
from benchmarks.malformed_families import ALL
from l2dm import World


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A world that has learnt <known>."""
    place = tmp_path_factory.mktemp("taught")
    for i in range(2):
        (place / "photos").mkdir(exist_ok=True)
        paint(i).save(place / "photos" / f"{i}.png")
    World.create(place / "world", mini()).learn(place / "photos", token="<known>", noun="dog", **QUICK)
    return place / "world"


def test_there_are_many():
    assert len({case.name for case in ALL}) == len(ALL) >= 200


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_malformed_input(case, taught, tmp_path):
    shutil.copytree(taught, tmp_path / "world")
    assert verdict(case, tmp_path) == ""
