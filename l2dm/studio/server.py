"""Opening the studio: a socket on this machine, a token, a worker wherever there is work, until Ctrl-C."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import uvicorn
from filelock import Timeout

from ..errors import SettingsError, because
from .app import studio_app
from .folder import StudioFolder
from .jobs import Queue
from .photos import sweep
from .security import Access
from .worker import is_held, lane_lock

LOCAL = "127.0.0.1"


class Workers:
    """Starts the process of a lane where none is at work. It has a session of its own, so that Ctrl-C here
    does not reach it.
    """

    def __init__(self, folder: StudioFolder):
        self.folder, self._children = folder, {}

    def wake(self, lane: str) -> None:
        child = self._children.get(lane)
        if (child and child.poll() is None) or is_held(lane_lock(self.folder, lane)):
            return
        command = [
            sys.executable,
            "-m",
            "l2dm.studio.worker",
            str(self.folder.world),
            str(self.folder.root),
            lane,
        ]
        with (self.folder.root / f"{lane}.log").open("ab") as log:
            self._children[lane] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises SettingsError where the system refuses."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(128)
    except (OSError, OverflowError) as error:
        found.close()
        why = because(error) if isinstance(error, OSError) else "no such port"
        raise SettingsError(
            f"--host {host} --port {port}: {why}; choose another, or --port 0 for any that is free"
        ) from None
    return found


def access(host: str, port: int, token: str) -> Access:
    """The studio's names: those of this machine alone, and the host that was asked for."""
    names = {LOCAL, "localhost", "[::1]", f"[{host}]" if ":" in host else host}
    hosts = {f"{name}:{port}".lower() for name in names} | (
        {name.lower() for name in names} if port == 80 else set()
    )
    return Access(token, frozenset(hosts), f"l2dm-studio-{port}")


def serve(world: Path, host: str, port: int, root: Path | None, say: Callable[[str], None]) -> None:
    """Answer until Ctrl-C. ``say`` is told the address. Raises SettingsError where it cannot be opened."""
    folder = StudioFolder(world, root)
    folder.make()
    try:
        lock = lane_lock(folder, "studio").acquire(timeout=2)
    except Timeout:
        raise SettingsError(
            f"{folder.root}: a studio of this world is open already; use its address, or close it first"
        ) from None
    sweep(folder)
    Queue(folder).prune()
    with lock, listen(host, port) as sock:
        port, token = sock.getsockname()[1], secrets.token_urlsafe(32)
        app = studio_app(folder, access(host, port, token), Workers(folder).wake)
        config = uvicorn.Config(
            app,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            date_header=False,
            ws="none",
            timeout_graceful_shutdown=1,
        )
        shown = f"[{host}]" if ":" in host else host
        say(f"{world}: the studio is open at http://{shown}:{port}/?token={token}")
        say("Ctrl-C closes it; what is being learnt goes on.")
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[sock])
