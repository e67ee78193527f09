"""One concept: calling it otherwise, and forgetting it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ...errors import L2DMError, WorldError
from ...world.repository import Repository
from ..forms import text
from ..views import opened
from .common import go, posted, studio_of
from .teach import free_token


def renaming(request: Request) -> Response:
    """The form that asks for a new token."""
    world, token = _concept(request, request.query_params.get("token", ""))
    return studio_of(request).page("rename.html", here="world", token=token, noun=world.concepts[token])


def rename(request: Request, form: Mapping[str, Any]) -> Response:
    studio = studio_of(request)
    world, was = _concept(request, text(form, "was"))
    found = studio.queue.add("rename", {"token": was, "to": free_token(world, text(form, "token"))})
    studio.wake("learn")
    return go(f"/jobs/{found.job.id}")


def forget(request: Request, form: Mapping[str, Any]) -> Response:
    world, token = opened(studio_of(request).world), text(form, "token")
    if text(form, "for-good") == "yes":
        world.purge(token)
    else:
        world.forget(token)
    return go("/")


def forgetting(request: Request) -> Response:
    """What forgetting a concept takes and leaves, and the two ways of it."""
    world, token = _concept(request, request.query_params.get("token", ""))
    kept = [number for number, version in world.manifest.versions.items() if token in version.concepts]
    try:
        plan, refused = world.purge(token, dry=True), ""
    except L2DMError as error:
        plan, refused = None, str(error)
    return studio_of(request).page(
        "forget.html",
        here="world",
        token=token,
        noun=world.concepts[token],
        kept=kept,
        plan=plan,
        refused=refused,
    )


def _concept(request: Request, token: str) -> tuple[Repository, str]:
    world = opened(studio_of(request).world)
    if token not in world.concepts:
        raise WorldError(f"{world.path}: it has not learnt {token[:40]!r}")
    return world, token


ROUTES = [
    Route("/rename", renaming),
    Route("/rename", posted(rename), methods=["POST"]),
    Route("/forget", forgetting),
    Route("/forget", posted(forget), methods=["POST"]),
]
