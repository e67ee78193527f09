"""Out and in: concepts as files of other programs, and such files as concepts."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from ...concept import check_noun, check_token
from ...errors import ExchangeError, SettingsError, TokenError
from ...settings import check_strength
from ..exchange_names import FORMATS, IN, OUT
from ..folder import new_id
from ..forms import text
from ..views import cards, exists, opened
from .common import go, job_of, posted, studio_of
from .teach import free_token

DTYPES = ("", "float32", "float16", "bfloat16")


def show(request: Request) -> Response:
    studio = studio_of(request)
    if not exists(studio.world):
        return go("/")
    done = [
        found.job
        for found in studio.queue.all("export")
        if found.job.state == "done" and (found.path / OUT).is_file()
    ]
    return studio.page(
        "exchange.html",
        here="exchange",
        cards=cards(opened(studio.world).manifest),
        formats=FORMATS,
        dtypes=DTYPES,
        done=done,
    )


def out(request: Request, form: Mapping[str, Any]) -> Response:
    studio = studio_of(request)
    world, kind, dtype = opened(studio.world), text(form, "format"), text(form, "dtype")
    tokens = [token for token in world.concepts if token in form.getlist("tokens")]  # type: ignore[attr-defined]
    if kind not in FORMATS or dtype not in DTYPES:
        raise SettingsError(
            f"format {kind!r}, dtype {dtype!r}: expected one of {', '.join(FORMATS)}, and of "
            f"{', '.join(DTYPES[1:])}"
        )
    strength = _strength(text(form, "strength"))
    if kind != "world" and not tokens:
        raise TokenError(
            f"export: choose at least one concept; {world.path.name} has learnt "
            f"{', '.join(world.concepts) or 'nothing yet'}"
        )
    asked = {"tokens": tokens, "format": kind, "dtype": dtype, "strength": strength}
    if kind == "world":  # it goes whole and as it is
        asked = {"tokens": [], "format": kind}
    found = studio.queue.add("export", asked)
    studio.wake("draw")
    return go(f"/jobs/{found.job.id}")


def _strength(typed: str) -> float:
    try:
        strength = float(typed or 1)
    except ValueError:
        raise SettingsError(f"strength = {typed[:20]!r}: expected a number") from None
    return check_strength(strength)


def bring(request: Request, form: Mapping[str, Any]) -> Response:
    studio, file = studio_of(request), form.get("file")
    world = opened(studio.world)
    name = getattr(file, "filename", "") or ""
    suffix = Path(name).suffix.lower()
    if suffix not in (".safetensors", ".zip"):
        raise ExchangeError(f"{name or 'no file'}: give a .safetensors file, or the .zip of another world")
    token = free_token(world, text(form, "token"))
    noun = check_noun(text(form, "noun")) if suffix != ".zip" else ""
    there = check_token(text(form, "there") or token) if suffix == ".zip" else ""
    given = studio.folder.photos / new_id()
    given.mkdir()
    with (given / f"{IN}{suffix}").open("xb") as target:
        shutil.copyfileobj(file.file, target)  # type: ignore[union-attr]
    asked = {
        "token": token,
        "there": there,
        "noun": noun,
        "trigger": text(form, "trigger"),
        "denoiser_only": "denoiser_only" in form,
        "file": name[-200:],
    }
    found = studio.queue.add("import", asked, given)
    studio.wake("learn")
    return go(f"/jobs/{found.job.id}")


def download(request: Request) -> Response:
    studio, found = studio_of(request), job_of(request)
    if not (path := found.path / OUT).is_file() or found.job.state != "done":
        raise HTTPException(404, "There is no such file here.")
    asked = found.job.asked
    name = "-".join(
        [studio.world.name, *(token.strip("<>") for token in asked["tokens"][:4]), asked["format"]]
    )
    return FileResponse(path, media_type="application/zip", filename=f"{name}.zip")


ROUTES = [
    Route("/exchange", show),
    Route("/exchange/out", posted(out), methods=["POST"]),
    Route("/exchange/in", posted(bring, files=1), methods=["POST"]),
    Route("/jobs/{id}/export.zip", download),
]
