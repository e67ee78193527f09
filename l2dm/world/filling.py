"""A version's folder while it is written: a file that its parent has too is linked, so that a version takes
the room of what is new in it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from .recorded import Recorded


class Filling:
    """``folder``, which ``store.write_folder`` fills; ``source``: the files that may be linked, such as the
    parent's. ``linked``: what was, and what is recorded of it."""

    def __init__(self, folder: Path, source: Recorded | None):
        self.folder, self.source = folder, source
        self.linked: dict[str, str] = {}

    @property
    def given(self) -> Recorded:
        """The source, asked for only where there is one."""
        assert self.source is not None
        return self.source

    def carry(self, name: str, target: str = "") -> None:
        """Link a file of the source, unread, maybe under another name."""
        target = target or name
        self.linked[target] = self.given.link(name, self.folder / target)

    def put(self, name: str, content: bytes) -> None:
        """Write a file, or link the source's where that is recorded to be the same."""
        if self.source and self.source.files.get(name) == hashlib.sha256(content).hexdigest():
            self.carry(name)
        else:
            (self.folder / name).write_bytes(content)
