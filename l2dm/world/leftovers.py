"""What writers leave in a world that were killed, or that the system kept from cleaning up."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import WorldDamaged
from . import store
from .manifest import Manifest
from .names import LOG
from .recorded import Recorded
from .schema import DRAFT


def clear(world: Path, manifest: Manifest) -> None:
    """Remove half-done work, versions that the manifest does not have, and checkpoints of a lesson that began
    at another version than the present one, so that it can never be taken up; the world's lock is held."""
    store.sweep(world)
    (world / "learning" / LOG).unlink(missing_ok=True)
    for folder in (world / "versions").glob("*"):
        if re.fullmatch("[0-9]{4,9}", folder.name) and int(folder.name) not in manifest.versions:
            store.remove_folder(folder)
    if any(_parent(step) not in (None, manifest.head) for step in (world / "learning").glob("[0-9]*")):
        store.remove_folder(world / "learning")


def _parent(step: Path) -> int | None:
    """The version that a checkpoint's lesson began at; None where it is damaged, which is for
    ``LessonCheckpoint`` to say.
    """
    try:
        return Recorded.by_itself(step, "").json("draft.json", DRAFT)["identity"]["parent"]
    except WorldDamaged:
        return None
