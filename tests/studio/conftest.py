"""A browser for the studio, and worlds for it."""

from __future__ import annotations

import shutil

import pytest
from starlette.testclient import TestClient
from tiny import mini

from l2dm import World
from l2dm.studio.app import studio_app
from l2dm.studio.folder import StudioFolder
from l2dm.studio.security import Access

ACCESS = Access("right-token", frozenset({"127.0.0.1:8321", "localhost:8321"}))
ORIGIN = "http://127.0.0.1:8321"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A fresh world, to be copied."""
    return World.create(tmp_path_factory.mktemp("fresh") / "world", mini()).path


@pytest.fixture
def folder(tmp_path):
    return StudioFolder(tmp_path / "world")


@pytest.fixture
def world(folder, fresh):
    """A fresh world where the studio looks for one."""
    shutil.copytree(fresh, folder.world)
    return folder.world


@pytest.fixture
def browser(folder):
    """A browser that was given the token; ``woken`` are the lanes for which a worker was asked."""
    woken = []
    client = TestClient(studio_app(folder, ACCESS, woken.append), ORIGIN, headers={"origin": ORIGIN})
    assert client.get("/", params={"token": ACCESS.token}).status_code == 200
    client.woken = woken
    return client
