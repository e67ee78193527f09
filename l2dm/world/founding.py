"""A world's folder is made whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ..errors import WorldError
from ..files import is_reserved
from . import store
from .lock import LOCK, MARKER, locked
from .manifest import COPY, NAME, Manifest


def check_free(path: Path, system: str = os.name) -> None:
    """Refuse a place where something stands; an empty folder, or what a killed ``create`` left, may be taken.

    ``system``, as ``os.name``: Windows refuses some names, or takes them for others."""
    if system == "nt" and is_reserved(path.name):
        raise WorldError(f"{path}: Windows has the name {path.name!r} for itself; choose another name")
    if (path / NAME).exists():
        raise WorldError(f"{path}: already exists and holds a world")
    if path.exists() and (not path.is_dir() or any(not is_leftover(file) for file in path.iterdir())):
        raise WorldError(f"{path}: already exists; choose another path")


def check_empty(path: Path) -> None:
    """``check_free``, and not even leftovers: for a folder that appears whole."""
    check_free(path)
    if path.is_dir() and any(path.iterdir()):
        raise WorldError(f"{path}: already exists; choose another path")


def is_leftover(path: Path) -> bool:
    """Whether a killed ``World.create`` may have left this file."""
    return path.name in (LOCK, MARKER, COPY) or path.name.startswith(store.PART)


def found(path: Path, manifest: Manifest) -> None:
    """Make the folder and write its manifest; when that fails, nothing that was made stays."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        with locked(path):
            check_free(path)
            store.sweep(path)
            try:
                manifest.write(path)
            except BaseException:
                (path / NAME).unlink(missing_ok=True)
                raise
    except BaseException:
        if (path / NAME).exists():  # another's, made meanwhile
            raise
        for file in filter(is_leftover, path.iterdir()):
            file.unlink(missing_ok=True)
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise
