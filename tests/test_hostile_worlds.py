"""Manifests of strangers (with -m slow two hundred), through every command: no traceback, nothing written
outside, no network.
"""

from __future__ import annotations

import socket

import pytest
from hypothesis import HealthCheck, given, settings

from benchmarks.hostile_worlds import manifests, no_network, verdict
from l2dm.backbone import find_base
from l2dm.errors import BaseModelError

CHECKS = {
    "derandomize": True,
    "deadline": None,
    "database": None,
    "suppress_health_check": [
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.differing_executors,
    ],
}


@settings(max_examples=10, **CHECKS)
@given(manifests())
def test_hostile_manifests(tmp_path, photos, manifest):
    assert verdict(manifest, tmp_path / "place", photos) == ""


@pytest.mark.slow
@settings(max_examples=200, **CHECKS)
@given(manifests())
def test_two_hundred_hostile_manifests(tmp_path, photos, manifest):
    assert verdict(manifest, tmp_path / "place", photos) == ""


def test_opening_a_strangers_world_asks_no_hub():
    with no_network() as asked:
        with pytest.raises(BaseModelError, match="not in this machine's hub cache"):
            find_base("owner/name", download=False)
        assert asked == []
        with pytest.raises(OSError, match="no network"):
            socket.create_connection(("localhost", 9))
        assert asked, "the guard sees what does ask"
