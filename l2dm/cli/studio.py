"""The verb that opens the page in the browser: studio."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import SettingsError
from .shared import WorldPath
from .terminal import plain, say


def studio(
    world: WorldPath,
    port: Annotated[
        int, typer.Option(help="Where it listens; 0: any that is free.", min=0, max=65535)
    ] = 8321,
    host: Annotated[
        str, typer.Option(help="Address to listen at; any other than 127.0.0.1 lets other machines in.")
    ] = "127.0.0.1",
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Where it keeps uploads, jobs and pictures (default: WORLD.studio, beside the world)."
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Open nothing: write the pages as this folder, to share, and end.")
    ] = None,
) -> None:
    """Open a page in the browser: teach from photos, see what that did, draw. On this machine alone. Needs
    l2dm[studio].
    """
    if missing := [
        name
        for name in ("starlette", "uvicorn", "jinja2", "python_multipart")
        if not importlib.util.find_spec(name)
    ]:
        raise SettingsError(
            f"l2dm studio: the package {missing[0]} is not installed; pip install 'l2dm[studio]'"
        )
    if report:
        from ..studio.report import write_report

        pages = write_report(world, report, folder)
        say(f"{report}: {len(pages)} pages; open {report / pages[0]}")
        return
    from ..studio.server import LOCAL, serve

    if host not in (LOCAL, "localhost", "::1"):
        warning = (
            f"WARNING: --host {host}: other machines can reach this studio, over a connection that is not "
            "encrypted. Whoever has its "
            "address and token can teach, draw, and take concepts back."
        )
        print(plain(warning), file=sys.stderr)
    serve(world, host, port, folder, say)
