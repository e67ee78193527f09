"""The world: its concepts as cards, its versions as a line that one can go back along; making one where there is none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ...concept import check_noun, check_token
from ...errors import L2DMError, WorldError
from ..forms import text
from ..views import exists, facts, opened, sheet
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
    found = studio.queue.add("create", {"base": base, "clip": clip})
    studio.wake("learn")
    return go(f"/jobs/{found.job.id}")


def undo(request: Request, form: Mapping[str, Any]) -> Response:
    world = opened(studio_of(request).world)
    if text(form, "version") != str(world.version):
        raise WorldError(
            f"{world.path}: it is at version {world.version} by now, not at {text(form, 'version')[:9]}; look again"
        )
    world.undo()
    return go("/")


def forget(request: Request, form: Mapping[str, Any]) -> Response:
    world, token = opened(studio_of(request).world), text(form, "token")
    if text(form, "for-good") == "yes":
        world.purge(token)
    else:
        world.forget(token)
    return go("/")


def forgetting(request: Request) -> Response:
    """What forgetting a concept takes and leaves, and the two ways of it."""
    studio, token = studio_of(request), request.query_params.get("token", "")
    world = opened(studio.world)
    if token not in world.concepts:
        raise WorldError(f"{world.path}: it has not learnt {token[:40]!r}")
    kept = [number for number, version in world.manifest.versions.items() if token in version.concepts]
    try:
        plan, refused = world.purge(token, dry=True), ""
    except L2DMError as error:
        plan, refused = None, str(error)
    return studio.page(
        "forget.html",
        here="world",
        token=token,
        noun=world.concepts[token],
        kept=kept,
        plan=plan,
        refused=refused,
    )


def picture(request: Request) -> Response:
    """The examination's pictures of a token or noun; ``cell``: one of them."""
    world, name = opened(studio_of(request).world), request.query_params.get("of", "")
    name = check_token(name) if name.startswith("<") else check_noun(name)
    cell = request.query_params.get("cell", "")
    one = int(cell) if re.fullmatch("[0-9]{1,2}", cell) else None
    content = sheet(world, request.path_params["version"], name, one)
    kept = {
        "Cache-Control": "private, max-age=86400, immutable"
    }  # a number of a version is never given twice
    return Response(content, media_type="image/png", headers=kept)


ROUTES = [
    Route("/", show),
    Route("/create", posted(create), methods=["POST"]),
    Route("/undo", posted(undo), methods=["POST"]),
    Route("/forget", posted(forget), methods=["POST"]),
    Route("/forget", forgetting),
    Route("/versions/{version:int}/picture", picture),
]
