"""The studio as a Starlette application: routes, templates, and how errors are shown."""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from .. import __version__
from ..errors import L2DMError, WorldLocked
from .folder import StudioFolder
from .jobs import Queue
from .progress import duration, summary
from .security import Access, Guard
from .views import day

STATIC = Path(__file__).with_name("static")
SUPERVISE = 2.0  # seconds between two looks for work that nobody does


def environment() -> Environment:
    """Templates in which every text is escaped, and a name that is not there is an error."""
    found = Environment(
        loader=PackageLoader("l2dm.studio"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names: MutableMapping[str, Any] = found.globals
    names.update(l2dm_version=__version__, static=False, link=str, day=day, duration=duration)
    return found


@dataclass(frozen=True)
class Studio:
    """What every page needs: ``request.app.state.studio``."""

    folder: StudioFolder
    queue: Queue
    wake: Callable[[str], None]
    templates: Environment

    @property
    def world(self) -> Path:
        return self.folder.world

    def page(self, template: str, code: int = 200, **facts: Any) -> HTMLResponse:
        return HTMLResponse(self.render(template, **facts), code)

    def render(self, template: str, **facts: Any) -> str:
        facts = {"world_name": self.world.name, "here": "", **facts}
        return self.templates.get_template(template).render(**facts, active=summary(self.queue))


def studio_app(folder: StudioFolder, access: Access, wake: Callable[[str], None]) -> Guard:
    """The application. ``wake(lane)`` sees to it that somebody works through a lane's jobs."""
    from .pages import compare, concept, draw, effect, exchange, jobs, teach, versions, world

    folder.make()
    studio = Studio(folder, Queue(folder), wake, environment())

    def look() -> None:
        for lane in ("learn", "draw"):
            if studio.queue.next(lane):
                wake(lane)

    async def supervise() -> None:
        while True:
            with suppress(OSError):  # a full disk, too many processes: it may be better in a moment
                await run_in_threadpool(look)
            await asyncio.sleep(SUPERVISE)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(supervise())
        threading.Thread(
            target=importlib.import_module, args=["l2dm.world.world"], daemon=True
        ).start()  # seconds, for torch
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    app = Starlette(
        routes=[
            *world.ROUTES,
            *versions.ROUTES,
            *concept.ROUTES,
            *teach.ROUTES,
            *effect.ROUTES,
            *draw.ROUTES,
            *compare.ROUTES,
            *exchange.ROUTES,
            *jobs.ROUTES,
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        exception_handlers={L2DMError: _refused, HTTPException: _refused, Exception: _failed},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.studio = studio
    return Guard(app, access)


def _refused(request: Request, error: Exception) -> Response:
    """What the user can mend: the library's own sentence, with the status that fits."""
    status = (
        error.status_code
        if isinstance(error, HTTPException)
        else 409
        if isinstance(error, WorldLocked)
        else 422
    )
    sentence = error.detail if isinstance(error, HTTPException) else str(error)
    return _said(request, status, sentence)


def _failed(request: Request, error: Exception) -> Response:
    return _said(
        request, 500, f"This is a fault of the studio ({type(error).__name__}); its terminal tells more."
    )


def _said(request: Request, status: int, sentence: str) -> Response:
    studio: Studio = request.app.state.studio
    if request.headers.get("hx-request"):
        return studio.page("said.html", status, sentence=sentence)
    return studio.page("error.html", status, sentence=sentence, status=status)
