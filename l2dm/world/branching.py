"""A branch: a new world that is another one as it was at a version, with all that led there. What either does
later, the other does not see.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ..errors import WorldError
from . import store
from .founding import check_empty
from .manifest import Manifest, entry, folder_of, steadily
from .recorded import RECORD


def branch(world: Path, number: int | None, target: Path) -> None:
    """Write ``target``, whole or not at all: the versions that led to ``number`` (None: to the present one),
    every file checked and copied.

    Raises WorldError where there is no such version or no room, WorldDamaged where a file is not as recorded.
    """
    check_empty(target)
    if world.resolve() in target.resolve().parents:
        raise WorldError(f"{target}: inside the world that it would be a branch of; choose a path beside it")
    if target.is_dir():
        target.rmdir()

    def write(manifest: Manifest) -> None:
        here = manifest.head if number is None else manifest.known(world, number)
        store.write_folder(target.absolute(), lambda place: _fill(place, world, manifest, here))

    steadily(world, write)


def _fill(place: Path, world: Path, manifest: Manifest, number: int) -> None:
    line, first = dataclasses.replace(manifest, head=number).lineage(), {}
    for version in line:
        folder, files = folder_of(place, version.version), manifest.recorded(world, version.version)
        folder.mkdir(parents=True)
        if files.by == RECORD:
            (folder / RECORD).write_bytes(store.read(files.folder / RECORD))
        for name, digest in files.files.items():  # what versions share is on the disk once
            if before := first.get((name, digest)):
                store.link(before, folder / name)
            else:
                (folder / name).write_bytes(files.read(name))
                first[name, digest] = folder / name
    happened = [told for told in manifest.journal if not _is_later(told, number)]
    of = world.resolve().name.encode(errors="replace").decode()
    branched = dataclasses.replace(
        manifest,
        head=number,
        counter=number,
        versions={version.version: version for version in line},
        journal=[*happened, entry("branch", version=number, of=of)],
        pending=[],
    )
    branched.write(place)


def _is_later(told: dict[str, Any], number: int) -> bool:
    """Whether a line of the journal is of a version after ``number``; a stranger's may say anything there."""
    version = told.get("version")
    return isinstance(version, int) and version > number
