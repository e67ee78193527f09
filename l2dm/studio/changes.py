"""The jobs that change what there is without learning: a concept is called otherwise, a world branches."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import World
from ..errors import SettingsError
from ..files import is_reserved
from ..world.repository import Repository
from .folder import StudioFolder
from .jobs import JobFolder
from .told import committed

if TYPE_CHECKING:
    from .work import Opened

#: What a new world beside this one may be called: one plain name of a folder.
NAME = re.compile(r"\w[\w .-]{0,59}")


def place_beside(folder: StudioFolder, name: str) -> Path:
    """Where a new world called ``name`` will be. Raises SettingsError for a bad name or a taken one."""
    if not NAME.fullmatch(name) or is_reserved(name) or name.lower().endswith(".studio"):
        raise SettingsError(
            f"name {name[:60]!r}: expected one plain name of a folder, such as {folder.world.name}-2"
        )
    place = folder.world.with_name(name)
    if place.exists() or place.is_symlink():
        raise SettingsError(
            f"name {name!r}: there is such a folder beside this world already; choose another"
        )
    return place


def branch(found: JobFolder, folder: StudioFolder, opened: Opened) -> dict[str, Any]:
    """Make a new world beside this one, of what this one was at a version."""
    asked = found.job.asked
    place = folder.world.with_name(asked["name"])
    if not (found.job.found.get("begun") and _is_made(place, asked["version"])):
        place_beside(folder, asked["name"])
        found.update(found={**found.job.found, "begun": True})
        found.tell(stage="branch", done=0, total=1)
        Repository.open(folder.world, verify=False).branch(place, asked["version"])
    found.tell(stage="branch", done=1, total=1)
    return {}


def _is_made(place: Path, version: int) -> bool:
    """Whether this very job made it before its process was killed: nobody else takes a name between its two
    tries.
    """
    if not place.exists():
        return False
    last = Repository.open(place, verify=False).history()[-1]
    return (last["action"], last.get("version")) == ("branch", version)


def rename(found: JobFolder, folder: StudioFolder, opened: Opened) -> dict[str, Any]:
    """Call a concept otherwise, as a new version."""
    asked = found.job.asked
    found.tell(stage="rename", done=0, total=1)
    world = World.open(folder.world)
    number = committed(found, world, asked["to"]) or world.rename(asked["token"], asked["to"]).version
    found.tell(stage="rename", done=1, total=1)
    return {"version": number}
