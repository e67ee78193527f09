"""What all pages share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ..app import Studio
from ..jobs import JobFolder
from ..security import MOST_FORM


def studio_of(request: Request) -> Studio:
    return request.app.state.studio


def posted(
    handle: Callable[[Request, Mapping[str, Any]], Response], files: int = 0
) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint: the form is read as it comes, then ``handle(request, form)`` works beside other requests.
    ``files``: at most as many.
    """

    async def endpoint(request: Request) -> Response:
        async with request.form(max_files=files, max_fields=300, max_part_size=MOST_FORM) as form:
            return await run_in_threadpool(handle, request, form)

    return endpoint


def job_of(request: Request) -> JobFolder:
    """Raises a 404."""
    if found := studio_of(request).queue.get(request.path_params["id"]):
        return found
    raise HTTPException(404, "There is no such job here.")


def go(place: str) -> Response:
    """After a change: the page that shows it."""
    return RedirectResponse(place, 303)
