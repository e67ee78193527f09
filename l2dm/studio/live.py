"""Server-sent events: parts of a page, rendered anew whenever there is something new to show."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from .jobs import FINAL, JobFolder

LOOK, PING = 0.25, 15.0  # seconds between two looks, and between two signs of life

#: Element id -> its new content.
Parts = Callable[[], dict[str, str]]


def live(found: JobFolder, render: Parts) -> StreamingResponse:
    """The changed ones of ``render``'s parts after each change of the job; ends, with an event ``end``, when
    the job does.
    """

    async def stream() -> AsyncIterator[str]:
        shown: dict[str, str] = {}
        stamp, quiet = None, 0.0
        while True:
            if (now := found.stamp()) != stamp:
                stamp, quiet = now, 0.0
                parts = await run_in_threadpool(render)
                if changed := {name: html for name, html in parts.items() if shown.get(name) != html}:
                    yield f"data: {json.dumps(changed)}\n\n"
                shown = parts
                if found.state in FINAL:
                    yield "event: end\ndata: end\n\n"
                    return
            elif quiet >= PING:
                yield ": still here\n\n"
                quiet = 0.0
            await anyio.sleep(LOOK)
            quiet += LOOK

    return StreamingResponse(stream(), media_type="text/event-stream")
