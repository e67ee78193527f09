"""One job: how far it is, live; pause, resume, cancel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from ..app import Studio
from ..folder import PICTURE, inside
from ..forms import text
from ..jobs import LANES, JobFolder
from ..live import live
from ..outcomes import outcome
from ..progress import curve, duration, progress, summary
from .common import go, job_of, posted, studio_of

#: The parts of a job's page that change while one looks.
PARTS = ("stage", "progress", "samples", "actions")


def parts(studio: Studio, found: JobFolder) -> dict[str, str]:
    shown = progress(found)
    came = outcome(shown.job, studio.world.name)
    facts = {"p": shown, "came": came, "duration": duration, "curve": curve, "control": found.control}
    return {name: studio.render(f"job-{name}.html", **facts) for name in PARTS}


def show(request: Request) -> Response:
    studio, found = studio_of(request), job_of(request)
    if found.job.kind in ("draw", "compare"):
        return go(f"/{found.job.kind}?job={found.job.id}")
    here = {"learn": "teach", "export": "exchange", "import": "exchange"}.get(found.job.kind, "world")
    came = outcome(found.job, studio.world.name)
    return studio.page("job.html", here=here, p=progress(found), came=came, parts=parts(studio, found))


def stream(request: Request) -> Response:
    studio, found = studio_of(request), job_of(request)
    return live(found, lambda: parts(studio, found))


def ask(request: Request, form: Mapping[str, Any]) -> Response:
    """Pause, resume or cancel."""
    studio, found = studio_of(request), job_of(request)
    what, state = text(form, "what"), found.state
    allowed = {"running": ("pause", "cancel"), "queued": ("cancel",), "paused": ("resume", "cancel")}.get(
        state, ()
    )
    if what not in allowed:
        raise HTTPException(409, f"This job is {state}; there is nothing to {what[:10] or 'do'} now.")
    found.ask(what)
    studio.wake(LANES[found.job.kind])
    return go(f"/jobs/{found.job.id}")


def sample(request: Request) -> Response:
    if path := inside(job_of(request).path, request.path_params["name"], PICTURE):
        return FileResponse(path, media_type="image/png")
    raise HTTPException(404, "There is no such picture here.")


def status(request: Request) -> Response:
    """The line in the header of every page."""
    studio = studio_of(request)
    return studio.page("status.html", watching=summary(studio.queue))


ROUTES = [
    Route("/status", status),
    Route("/jobs/{id}", show),
    Route("/jobs/{id}", posted(ask), methods=["POST"]),
    Route("/jobs/{id}/events", stream),
    Route("/jobs/{id}/{name}", sample),
]
