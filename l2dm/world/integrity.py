"""Whether a world's files are what its manifest records: no links, nothing missing, no byte changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import WorldDamaged, WorldError, os_errors
from .store import digest


def check_links(world: Path) -> None:
    """Refuse a world that has a symbolic link in it: through one, files outside would be read, overwritten or removed."""
    with os_errors(world):
        for found in _links(world):
            raise WorldError(
                f"{found}: a symbolic link, and a world has none of its own; put the file or folder itself there"
            )


def _links(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                yield Path(entry.path)
            elif entry.is_dir(follow_symlinks=False):
                yield from _links(Path(entry.path))


def broken_files(
    folder: Path, files: dict[str, str], loaded: tuple[str, ...] = ()
) -> Iterator[tuple[Path, str]]:
    """What is wrong in a version's ``folder``: path and reason. ``files``: name -> SHA-256 as recorded; ``loaded``: names
    that would be read if they were there, so that they must be recorded."""
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            yield path, "missing"
            continue
        with os_errors(path, WorldDamaged):
            if digest(path) != expected:
                yield path, "its content is not what the manifest records"
    for name in loaded:
        if name not in files and (folder / name).exists():
            yield folder / name, "the manifest does not record it"
