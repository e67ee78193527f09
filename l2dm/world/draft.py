"""The checkpoints of an unfinished learning: ``learning/<step>/`` inside the world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import WorldDamaged, WorldError
from ..learner import Learning
from . import store
from .schema import DRAFT, DraftRecord, read_json
from .tensors import read_tensors, write_tensors


class Draft:
    """At most one learning is unfinished at a time. ``identity`` is what must be the same for it to be taken up."""

    def __init__(self, folder: Path, identity: dict[str, Any]):
        self.folder, self.identity = folder, identity

    def _latest(self) -> tuple[Path, DraftRecord] | None:
        for step in sorted(self.folder.glob("[0-9]*"), reverse=True):
            try:
                return step, read_json(step / "draft.json", DRAFT)
            except WorldDamaged:
                continue
        return None

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
                f"{self.folder.parent}: an unfinished learning of {found['token']} (step {found['step']}) is in the way; finish it by "
                "running its command again with the same photos and settings, or drop it with --discard"
            )
        self.remove()

    def resume(self, learning: Learning) -> float:
        """Load the last checkpoint into ``learning`` if there is one; returns the seconds already spent."""
        latest = self._latest()
        if latest is None:
            return 0.0
        learning.load_state(read_tensors(latest[0] / "state.safetensors"), latest[1]["step"])
        return latest[1]["seconds"]

    def save(self, learning: Learning, seconds: float, threads: list[tuple[int, int]]) -> None:
        """Keep the state after this step, then drop the one before."""
        target = self.folder / f"{learning.done:06d}"
        if target.exists():
            return

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

        self.folder.mkdir(exist_ok=True)
        store.write_folder(target, fill)
        for other in self.folder.glob("[0-9]*"):
            if other != target:
                store.remove_folder(other)

    def remove(self) -> None:
        store.remove_folder(self.folder)
