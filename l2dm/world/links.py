"""A world has no symbolic links: through one, files outside would be read, overwritten or removed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import WorldError, os_errors


def check_links(world: Path) -> None:
    """Refuse a world that has one in it."""
    with os_errors(world):
        for found in _links(world):
            raise WorldError(
                f"{found}: a symbolic link, and a world has none of its own; put the file or folder itself there"
            )


def _links(folder: Path) -> Iterator[Path]:
    with (
        suppress(FileNotFoundError),
        os.scandir(folder) as entries,
    ):  # taken away by another process meanwhile
        for entry in entries:
            if entry.is_symlink():
                yield Path(entry.path)
            elif entry.is_dir(follow_symlinks=False):
                yield from _links(Path(entry.path))
