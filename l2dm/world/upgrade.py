"""Worlds of earlier formats: read as they are, and brought up to date by the first verb that writes to them.

Format 1 had no checksums but those of versions' files. Format 2: the manifest carries its own and has a copy;
each folder of prior pairs, each checkpoint and each drawn memory has a record of its own. Format 3: each
version has one too, and the manifest only that record's checksum; of what concepts have in common with the
version before it says nothing. What is remembered and what was drawn of a concept has a file of its own from
the next lesson on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from ..files import PART
from . import store
from .manifest import FORMAT, Manifest, folder_of
from .recorded import RECORD, record, record_of
from .version import Version


def kept_folders(world: Path) -> Iterator[Path]:
    """The folders that carry their own records: prior pairs, checkpoints and drawn memories; none that is not
    finished.
    """
    for place in ("prior", "learning"):
        if (world / place).is_dir():
            folders = (path for path in (world / place).iterdir() if path.is_dir())
            yield from sorted(path for path in folders if not path.name.startswith(PART))


def upgrade(world: Path, manifest: Manifest) -> Manifest:
    """The world's lock is held. The manifest comes last: a kill before leaves the earlier format."""
    if manifest.format == FORMAT:
        return manifest
    for folder in kept_folders(world):
        if not (folder / RECORD).exists():
            record(folder)
    versions = {number: _recorded(world, version) for number, version in manifest.versions.items()}
    manifest = dataclasses.replace(manifest, format=FORMAT, versions=versions)
    manifest.write(world)
    return manifest


def _recorded(world: Path, version: Version) -> Version:
    """Write what the manifest knew of a version's files into its folder."""
    shown = dict.fromkeys([*version.concepts, *version.concepts.values(), *version.drift])
    folder = folder_of(world, version.version)
    store.sweep(folder)
    record = record_of(folder, version.files)
    return dataclasses.replace(
        version, files={}, record=record, pictures=[n for n in shown if version.shows(n)]
    )
