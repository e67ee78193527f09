"""The checkpoints of an unfinished learning: ``learning/<step>/`` inside the world."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import WorldDamaged, WorldError, WorldWarning
from . import store
from .names import LOG
from .recorded import Recorded, write_recorded
from .schema import DRAFT, DraftRecord
from .tensors import write_tensors

if TYPE_CHECKING:
    from ..learner import Learning

WAY_OUT = (
    f"it is put into {store.QUARANTINE}/, and learning goes on from the checkpoint before, if there is one"
)


class LessonCheckpoint:
    """At most one learning is unfinished at a time. ``identity`` is what must be the same for it to be taken
    up.

    Its last two checkpoints are kept. Where one is damaged it is put into quarantine, with a WorldWarning,
    and learning goes on from the one before, or begins anew.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]):
        self.folder, self.identity = folder, identity
        self._found: tuple[Recorded, DraftRecord] | tuple[()] | None = None

    def _latest(self) -> tuple[Recorded, DraftRecord] | None:
        """The last whole checkpoint, looked at once."""
        if self._found is None:
            self._found = next(self._whole(), ())
        return self._found or None

    def _whole(self) -> Iterator[tuple[Recorded, DraftRecord]]:
        for step in _steps(self.folder):
            try:
                yield _checked(step)
            except WorldDamaged as damage:
                store.set_aside(self.folder.parent, step)
                warnings.warn(str(damage), WorldWarning, stacklevel=2)

    @property
    def history(self) -> list[tuple[int, int]]:
        """From which step on how many threads made the last checkpoint; empty where that is not known."""
        latest = self._latest()
        return latest[1].get("threads", []) if latest else []

    @property
    def threads(self) -> int:
        """How many made its last step; 0: not known."""
        return self.history[-1][1] if self.history else 0

    def check(self, discard: bool) -> None:
        """Drop a checkpoint that can no longer be taken up; refuse to drop one that can, unless told to."""
        latest = self._latest()
        if latest is None or latest[1]["identity"] == self.identity:
            return
        found = latest[1]
        if found["identity"]["parent"] == self.identity["parent"] and not discard:
            raise WorldError(
                f"{self.folder.parent}: an unfinished learning of {found['token']} (step {found['step']}) is "
                "in the way; finish it by "
                "running its command again with the same photos and settings, or drop it with --discard"
            )
        self.remove()

    def resume(self, learning: Learning) -> float:
        """Load the last checkpoint into ``learning`` if there is one; returns the seconds already spent."""
        latest = self._latest()
        if latest is None:
            return 0.0
        learning.load_state(latest[0].tensors("state.safetensors"), latest[1]["step"])
        return latest[1]["seconds"]

    @property
    def log(self) -> bytes:
        """The log up to the last checkpoint."""
        latest = self._latest()
        return latest[0].read(LOG) if latest and LOG in latest[0] else b""

    def save(
        self, learning: Learning, seconds: float, threads: list[tuple[int, int]], log: bytes = b""
    ) -> None:
        """Keep the state after this step with the ``log`` up to it, and the one before it."""
        target = self.folder / f"{learning.done:06d}"
        if target.exists():
            return
        for earlier in _steps(self.folder)[1:]:
            store.remove_folder(earlier)

        def fill(place: Path) -> None:
            write_tensors(place / "state.safetensors", learning.state())
            record = {
                "identity": self.identity,
                "token": learning.concept.token,
                "step": learning.done,
                "seconds": seconds,
                "threads": threads,
            }
            store.write_json(place / "draft.json", record)
            (place / LOG).write_bytes(log)

        write_recorded(target, fill)

    def remove(self) -> None:
        """All of it at one stroke; what a kill, or the system, keeps of it is for the next writer."""
        self._found = ()
        gone = self.folder.with_name(f"{store.PART}{self.folder.name}-{os.getpid()}")
        with suppress(OSError):
            store.replace(self.folder, gone)
        store.remove_folder(gone)


def unfinished(folder: Path) -> str:
    """Token of the concept whose learning is unfinished; empty where none is, or none that is whole. Only
    looks: it needs no lock.
    """
    for step in _steps(folder):
        with suppress(WorldDamaged):
            return _checked(step)[1]["token"]
    return ""


def _steps(folder: Path) -> list[Path]:
    """The checkpoints' folders, the last one first."""
    return sorted(folder.glob("[0-9]*"), reverse=True)


def _checked(step: Path) -> tuple[Recorded, DraftRecord]:
    """A checkpoint whose every byte is as recorded. Raises WorldDamaged."""
    checkpoint = Recorded.by_itself(step, WAY_OUT)
    checkpoint.check()
    return checkpoint, checkpoint.json("draft.json", DRAFT)
