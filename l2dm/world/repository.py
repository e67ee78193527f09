"""A world's files: what is recorded of them, and the verbs that change them without a model."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from ..errors import TokenError, WorldError, os_errors
from . import store
from .branching import branch
from .leftovers import clear
from .lesson_checkpoint import LessonCheckpoint, unfinished
from .lock import locked
from .manifest import Line, Manifest, Version, entry, folder_of
from .purging import Purge, finish, plan, purge
from .recorded import Recorded
from .repair import Findings, examine, repair
from .upgrade import upgrade
from .without import version_without


class Repository:
    """The folder of a world, and its ``manifest`` as it was last read or written. A number of a version is
    never given twice.
    """

    def __init__(self, path: Path, manifest: Manifest):
        self.path, self.manifest = path, manifest

    @classmethod
    def open(cls, path: str | Path, verify: bool = True) -> Self:
        """Open a world's files. Raises WorldError when there is none, WorldDamaged when it is not whole
        (``verify=False``: don't look).
        """
        path = Path(path).expanduser()
        return cls(path, Manifest.read(path, verify))

    @property
    def concepts(self) -> dict[str, str]:
        """Token -> class noun, in the order of learning."""
        return self.manifest.concepts

    @property
    def version(self) -> int:
        """Number of the present version; 0 when nothing is learnt."""
        return self.manifest.head

    @property
    def _files(self) -> Recorded:
        return self.manifest.recorded(self.path, self.version)

    def history(self) -> list[dict[str, object]]:
        """Everything that happened to the world, oldest first."""
        return [dict(entry) for entry in self.manifest.journal]

    def branch(self, path: str | Path, version: int | None = None) -> Self:
        """A new world at ``path`` that is this one as it was at ``version`` (None: now; 0: fresh), with all
        that led there; later changes of either are not the other's. Its files are copies, each checked.
        Raises WorldError, WorldDamaged.
        """
        path = Path(path).expanduser()
        with os_errors(path):
            branch(self.path, version, path)
        return type(self).open(path)

    def undo(self) -> Version:
        """Take the last change back (learnt or forgotten); returns the version that was dropped."""
        with self._writing(verify=False):
            dropped = self.manifest.present
            if dropped is None:
                raise WorldError(f"{self.path}: nothing to undo; nothing is learnt")
            self._check_before(dropped)
            versions = {n: v for n, v in self.manifest.versions.items() if n != dropped.version}
            line = entry("undo", version=dropped.version, token=dropped.token)
            self.record(line, head=dropped.parent, versions=versions)
            store.remove_folder(folder_of(self.path, dropped.version))
        return dropped

    def _check_before(self, dropped: Version) -> None:
        """Refuse to go back to a version that is broken, or that more than the last change lies between."""
        before = self.manifest.versions[dropped.parent].concepts if dropped.parent else {}
        renamed = (line for line in self.manifest.journal if line["action"] == "rename")
        was = {line["was"] for line in renamed if line["version"] == dropped.version}
        changed = set() if self.manifest.changes_again(dropped) else {dropped.token, *was}
        if set(before) ^ set(dropped.concepts) != changed:
            raise WorldError(
                f"{self.path}: the version before the last one was put aside by a repair, so undo would take "
                "back more than "
                f"{dropped.token}; to take back one concept use: l2dm forget"
            )
        self.manifest.recorded(self.path, dropped.parent).check()

    def verify(self, deep: bool = False) -> Findings:
        """What is broken, and what of it can be saved; see ``examine``. Nothing is changed."""
        return examine(self.path, deep)

    def repair(self) -> Findings:
        """Go to the newest whole version, or to the present one without concepts whose own weights are
        broken; what is broken is moved into ``quarantine/``, never removed. Returns what was found."""
        found = repair(self.path)
        self.manifest = Manifest.read(self.path, verify=False)
        return found

    def forget(self, token: str) -> Version:
        """Remove a learnt concept on purpose: its token, vector, features, prompts and memory go, as a new
        version, and what the world's tuner holds for it alone.

        What learning it did to shared weights stays; ``undo`` takes the last concept back whole. Where
        weights of its own are damaged, it can still be forgotten, and the world is whole without it.
        """
        with self._writing(verify=False):
            if token not in self.concepts:
                near = difflib.get_close_matches(token, self.concepts, 1)
                raise TokenError(
                    f"token {token!r}: {self.path} has not learnt it; "
                    + (f"did you mean {near[0]}?" if near else "see l2dm show")
                )
            version = version_without(self.path, self.manifest, [token], self._files)
            self.commit(entry("forget", version=version.version, token=token), version)
        return version

    def drop_unfinished(self, token: str) -> None:
        """Drop the checkpoints of a learning of ``token`` that was stopped; those of another concept stay."""
        with self._writing(verify=False):
            if unfinished(self.path / "learning") == token:
                LessonCheckpoint(self.path / "learning", {}).remove()

    def purge(self, token: str, dry: bool = False) -> Purge:
        """Rewrite the history as if the concept had never been learnt: no version, memory, picture or
        checkpoint holds anything of it, for good. ``dry``: only say what that would do.

        Raises TokenError where there is nothing of it, WorldError where weights that concepts share hold it.
        """
        if dry:
            return plan(self.path, self.manifest, token)
        with self._writing(verify=False):
            done = purge(self, token)
        return done

    def commit(self, line: Line, version: Version, **changes: object) -> None:
        """Record a finished version as the present one."""
        versions = {**self.manifest.versions, version.version: version}
        self.record(line, head=version.version, counter=version.version, versions=versions, **changes)

    def record(self, line: Line, **changes: object) -> None:
        """Write the manifest with ``changes`` and one more line in its journal; the world's lock is held."""
        journal = [*self.manifest.journal, line]
        manifest = dataclasses.replace(self.manifest, journal=journal, **changes)  # type: ignore[arg-type]
        manifest.write(self.path)
        self.manifest = manifest

    @contextmanager
    def _writing(self, verify: bool = True) -> Iterator[None]:
        """Hold the world's lock, with the manifest as on disk now and no half-done work in the folder."""
        with os_errors(self.path), locked(self.path):
            store.check_writable(self.path)
            self.manifest = Manifest.read(self.path, verify)
            clear(self.path, self.manifest)
            self.manifest = upgrade(self.path, self.manifest)
            self.manifest.renew_copy(self.path)
            self.manifest = finish(self.path, self.manifest)
            yield
