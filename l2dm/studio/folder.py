"""Where a studio keeps what is not the world's own: uploaded photos, jobs, drawn pictures. ``pets`` has
``pets.studio`` beside it.
"""

from __future__ import annotations

import datetime
import re
import secrets
from pathlib import Path

from ..errors import SettingsError, os_errors

#: The only names that come from the client and reach the disk.
ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")
PICTURE = re.compile(r"[0-9]{4,12}(-attention(-[0-9]{1,2})?)?\.png")
FILE = re.compile(r"[0-9]{2,3}\.[a-z]{3,5}")


class StudioFolder:
    """The folders of the studio of ``world``, made on first use."""

    def __init__(self, world: Path, root: Path | None = None):
        self.world = world.absolute()
        self.root = (root or self.world.with_name(f"{self.world.name}.studio")).absolute()

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    @property
    def photos(self) -> Path:
        return self.root / "photos"

    @property
    def pictures(self) -> Path:
        return self.root / "pictures"

    def make(self) -> None:
        """Make the folders. Raises SettingsError where the system refuses."""
        with os_errors(self.root, SettingsError):
            for folder in (self.jobs, self.photos, self.pictures):
                folder.mkdir(parents=True, exist_ok=True)


def new_id() -> str:
    """A name in the order of time that nothing else has."""
    now = datetime.datetime.now(datetime.UTC)
    return f"{now:%Y%m%d-%H%M%S}-{now.microsecond:05x}{secrets.randbelow(16):x}"


def inside(folder: Path, name: str, form: re.Pattern[str]) -> Path | None:
    """``folder/name`` if the name has the ``form`` of one of ours and is there, not through a link; else
    None.
    """
    path = folder / name
    return path if form.fullmatch(name) and path.exists() and not path.is_symlink() else None
