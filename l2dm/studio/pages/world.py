"""The world: its concepts as cards, its versions as a line that one can go back along; making one where there
is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ...errors import WorldError
from ..forms import text
from ..views import exists, facts, opened
from .common import go, posted, studio_of


def show(request: Request) -> Response:
    studio = studio_of(request)
    if not exists(studio.world):
        making = [found for found in studio.queue.waiting("learn") if found.job.kind == "create"]
        return (
            go(f"/jobs/{making[0].job.id}")
            if making
            else studio.page("create.html", refused="", base="mini", clip="")
        )
    world = opened(studio.world)
    return studio.page("world.html", here="world", **facts(world), history=world.history()[::-1])


def create(request: Request, form: Mapping[str, Any]) -> Response:
    studio = studio_of(request)
    base, clip = text(form, "base") or "mini", text(form, "clip")
    if exists(studio.world):
        raise WorldError(f"{studio.world}: already exists and holds a world")
    if any(found.job.kind == "create" for found in studio.queue.waiting("learn")):
        raise WorldError(f"{studio.world}: is being made already; look at its first page")
    found = studio.queue.add("create", {"base": base, "clip": clip})
    studio.wake("learn")
    return go(f"/jobs/{found.job.id}")


ROUTES = [
    Route("/", show),
    Route("/create", posted(create), methods=["POST"]),
]
