"""A world has no symbolic links: through one, files outside would be read, overwritten or removed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import WorldError, os_errors


def check_links(world: Path) -> None:
    """Refuse a world that has one in it. Into its versions it looks when these are looked at: of hundreds,
    each names all files of the one before.
    """
    versions = world / "versions"
    _refuse(world, _links(world, skipped=versions))
    if versions.is_dir():
        _refuse(world, (Path(entry.path) for entry in os.scandir(versions) if entry.is_symlink()))


def check_version(folder: Path) -> None:
    """Refuse a version's folder that has one in it."""
    _refuse(folder, _links(folder))


def _refuse(place: Path, links: Iterator[Path]) -> None:
    with os_errors(place):
        for found in links:
            raise WorldError(
                f"{found}: a symbolic link, and a world has none of its own; put the file or folder itself "
                "there"
            )


def _links(folder: Path, skipped: Path | None = None) -> Iterator[Path]:
    with (
        suppress(FileNotFoundError),
        os.scandir(folder) as entries,
    ):  # taken away by another process meanwhile
        for entry in entries:
            if entry.is_symlink():
                yield Path(entry.path)
            elif entry.is_dir(follow_symlinks=False) and Path(entry.path) != skipped:
                yield from _links(Path(entry.path))
