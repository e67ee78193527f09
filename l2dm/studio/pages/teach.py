"""Teaching: photos in, each judged at once; a token and a noun, checked while they are typed; settings; and
the job begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from ...concept import check_noun, check_token
from ...concept.captions import check_caption
from ...concept.photos import MOST
from ...errors import L2DMError, PhotoError, TokenError
from ...world.repository import Repository
from ..app import Studio
from ..folder import FILE
from ..forms import fields, given, text
from ..photos import PhotoSet
from ..views import exists, opened, settings
from .common import go, job_of, posted, studio_of

#: Settings with a place of their own in the form.
PLAIN = ("steps", "seed")


def show(request: Request) -> Response:
    studio, asked = studio_of(request), request.query_params
    if not exists(studio.world):
        return go("/")
    before = studio.queue.get(asked.get("like", ""))
    like = before.job.asked if before and before.job.kind == "learn" else {}
    typed = {name: asked.get(name) or like.get(name, "") for name in ("token", "noun")}
    return _page(
        studio, PhotoSet.get(studio.folder, asked.get("photos", "")), typed, like.get("settings", {})
    )


def upload(request: Request, form: Mapping[str, Any]) -> Response:
    """More photos into the set that the form names, or a new one."""
    studio = studio_of(request)
    photos = PhotoSet.get(studio.folder, text(form, "photos")) or PhotoSet.new(studio.folder)
    files = [file for file in form.getlist("files") if getattr(file, "filename", None)]  # type: ignore[attr-defined]
    _keep_captions(photos, form)
    refused = ""
    try:
        photos.add((file.filename, file.file) for file in files)
    except PhotoError as error:
        refused = str(error)
    return studio.page("photos.html", photos=photos, verdicts=photos.check(), refused=refused)


def remove(request: Request, form: Mapping[str, Any]) -> Response:
    studio = studio_of(request)
    photos = _set(studio, text(form, "photos"))
    _keep_captions(photos, form)
    photos.remove(text(form, "remove"))
    return studio.page("photos.html", photos=photos, verdicts=photos.check(), refused="")


def crop(request: Request) -> Response:
    """What is learnt of a photo: its centre square."""
    photos, file = _set(studio_of(request), request.path_params["id"]), request.path_params["file"]
    if FILE.fullmatch(file) and (path := photos.crop_path(file)).is_file():
        return FileResponse(path, media_type="image/png")
    raise HTTPException(404, "There is no such photo here.")


def words(request: Request) -> Response:
    """What is to be said of a token or noun while it is typed; nothing while it is empty."""
    studio, asked = studio_of(request), request.query_params
    world, said = Repository.open(studio.world, verify=False), ""
    name = "token" if "token" in asked else "noun"
    if typed := text(asked, name):
        try:
            free_token(world, typed) if name == "token" else check_noun(typed)
        except L2DMError as error:
            said = str(error)
    return studio.page("word.html", said=said)


def teach(request: Request, form: Mapping[str, Any]) -> Response:
    """Check everything once more, and queue the learning."""
    studio = studio_of(request)
    world = opened(studio.world)
    photos = PhotoSet.get(studio.folder, text(form, "photos"))
    shown = settings(studio.world, "learn")
    changed, typed = given(form, shown), {name: text(form, name) for name in ("token", "noun")}
    try:
        token, noun = free_token(world, typed["token"]), check_noun(typed["noun"])
        settings(studio.world, "learn", changed)
        if photos is None:
            raise PhotoError(f"no photos yet; give 1 to {MOST} photos of one thing (3 to 5 are best)")
        _keep_captions(photos, form)
        good = [verdict for verdict in photos.check() if not verdict.problem]
        if not good:
            raise PhotoError(
                f"none of these files can be used; give 1 to {MOST} photos of one thing (3 to 5 are best)"
            )
        for verdict in good:
            check_caption(Path(verdict.name), verdict.caption, token, noun, world.concepts)
    except L2DMError as error:
        return _page(
            studio, photos, typed, {k: v for k, v in changed.items() if _fits(shown, k, v)}, str(error), 422
        )
    asked = {"token": token, "noun": noun, "settings": changed, "photos": len(good)}
    found = studio.queue.add("learn", asked, photos.path)
    studio.wake("learn")
    return go(f"/jobs/{found.job.id}")


def again(request: Request, form: Mapping[str, Any]) -> Response:
    """The photos and settings of an earlier learning in a fresh form."""
    studio, found = studio_of(request), job_of(request)
    if found.job.kind != "learn":
        raise HTTPException(404, "There are no photos in this job.")
    return go(f"/teach?photos={PhotoSet.copy(studio.folder, found.path / 'photos').id}&like={found.job.id}")


def _page(
    studio: Studio,
    photos: PhotoSet | None,
    typed: dict[str, str],
    changed: dict[str, Any],
    refused: str = "",
    code: int = 200,
) -> Response:
    shown = settings(studio.world, "learn", changed)
    return studio.page(
        "teach.html",
        code,
        here="teach",
        photos=photos,
        verdicts=photos.check() if photos else [],
        typed=typed,
        refused=refused,
        fields={field.name: field for field in fields(shown)},
        plain=PLAIN,
        waiting=len(studio.queue.waiting("learn")),
    )


def _fits(shown: Any, name: str, value: Any) -> bool:
    try:
        return bool(replace(shown, **{name: value}))
    except L2DMError:
        return False


def _set(studio: Studio, id: str) -> PhotoSet:
    if photos := PhotoSet.get(studio.folder, id):
        return photos
    raise HTTPException(404, "These photos are gone; give them once more.")


def _keep_captions(photos: PhotoSet, form: Mapping[str, Any]) -> None:
    for file in photos.files:
        if f"caption-{file}" in form:
            photos.caption(file, text(form, f"caption-{file}"))


def free_token(world: Repository, token: str) -> str:
    """``token``, or the library's sentence of why not."""
    if check_token(token) in world.concepts:
        raise TokenError(
            f"token {token!r}: {world.path.name} has learnt it already, as a {world.concepts[token]}; choose "
            "another token"
        )
    return token


ROUTES = [
    Route("/teach", show),
    Route("/teach", posted(teach), methods=["POST"]),
    Route("/teach/words", words),
    Route("/photos", posted(upload, files=200), methods=["POST"]),
    Route("/photos/remove", posted(remove), methods=["POST"]),
    Route("/photos/{id}/{file}", crop),
    Route("/jobs/{id}/again", posted(again), methods=["POST"]),
]
