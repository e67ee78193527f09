"""One version: what the world was then; going back to it, and branching from it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ...concept import check_noun, check_token
from ...errors import WorldError
from ...world.repository import Repository
from ..changes import place_beside
from ..forms import text
from ..views import cards, opened, sheet, versions
from .common import go, posted, studio_of


def show(request: Request) -> Response:
    studio, number = studio_of(request), request.path_params["version"]
    shown = version_facts(opened(studio.world), number)
    return studio.page("version.html", here="world", **shown, name=free_name(studio.folder, number))


def version_facts(world: Repository, number: int) -> dict[str, Any]:
    """What the page of a version needs. Raises a 404."""
    line = versions(world.manifest)
    here = next((stop for stop in line if stop.number == number), None)
    if here is None:
        raise HTTPException(404, f"The world has no version {number}, or no longer.")
    return {
        "stop": here,
        "cards": cards(dataclasses.replace(world.manifest, head=number)),
        "later": [stop for stop in line if stop.number > number],
        "before": [stop for stop in line if stop.number < number],
        "head": world.version,
    }


def free_name(folder: Any, number: int) -> str:
    """What a branch might be called: the world's name and the version's number, and a letter where that is
    taken.
    """
    names = (f"{folder.world.name}-v{number}{letter}" for letter in ("", *"bcdefghijklmnopqrstuvwxyz"))
    return next((name for name in names if not folder.world.with_name(name).exists()), "")


def branch(request: Request, form: Mapping[str, Any]) -> Response:
    studio, typed, name = studio_of(request), text(form, "version"), text(form, "name")
    number = int(typed) if re.fullmatch("[0-9]{1,9}", typed) else -1
    opened(studio.world).manifest.known(studio.world, number)
    place_beside(studio.folder, name)
    found = studio.queue.add("branch", {"version": number, "name": name})
    studio.wake("draw")
    return go(f"/jobs/{found.job.id}")


def undo(request: Request, form: Mapping[str, Any]) -> Response:
    """Take back the last change, or all after the version ``to``; nothing that came after the ``version``
    that the user saw as the present one.
    """
    path, seen = studio_of(request).world, text(form, "version")
    line = [0, *(version.version for version in opened(path).manifest.lineage())]
    if seen != str(line[-1]):
        raise WorldError(f"{path}: it is at version {line[-1]} by now, not at {seen[:9]}; look again")
    to = text(form, "to") or str(line[-2:][0])
    if to not in map(str, line[:-1] or line):
        raise WorldError(f"{path}: there is no version {to[:9]} before version {seen}")
    for number in [number for number in line[:0:-1] if number > int(to)] or line:
        world = opened(path)
        if world.version != number:
            raise WorldError(f"{path}: it is at version {world.version} by now, not at {number}; look again")
        world.undo()
    return go("/")


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
    Route("/versions/{version:int}", show),
    Route("/versions/{version:int}/picture", picture),
    Route("/branch", posted(branch), methods=["POST"]),
    Route("/undo", posted(undo), methods=["POST"]),
]
