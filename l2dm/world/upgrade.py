"""Worlds of earlier formats: read as they are, and brought up to date by the first verb that writes to them.

Format 1 had no checksums but those of versions' files. Format 2: the manifest carries its own and has a copy; each folder
of prior pairs, each checkpoint and each drawn memory has a record of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from ..files import PART
from .manifest import FORMAT, Manifest
from .recorded import RECORD, record


def kept_folders(world: Path) -> Iterator[Path]:
    """The folders that carry their own records: prior pairs, checkpoints and drawn memories; none that is not finished."""
    for place in ("prior", "learning"):
        if (world / place).is_dir():
            folders = (path for path in (world / place).iterdir() if path.is_dir())
            yield from sorted(path for path in folders if not path.name.startswith(PART))


def upgrade(world: Path, manifest: Manifest) -> Manifest:
    """The world's lock is held. The manifest comes last: a kill before leaves a world of the earlier format."""
    if manifest.format == FORMAT:
        return manifest
    for folder in kept_folders(world):
        if not (folder / RECORD).exists():
            record(folder)
    manifest = dataclasses.replace(manifest, format=FORMAT)
    manifest.write(world)
    return manifest
