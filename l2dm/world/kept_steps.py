"""Which steps of a concept's lessons have weights in a world, to choose from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import TokenError
from . import names
from .manifest import Manifest


@dataclass(frozen=True)
class Kept:
    """Weights after ``step`` of the lesson of ``version``, where the concept was called ``token``."""

    step: int
    version: int
    token: str


def kept_steps(world: Path, manifest: Manifest, token: str) -> dict[int, Kept]:
    """Step -> what is kept of it, of the concept that is called ``token`` now; of two lessons' the later
    one's. Raises TokenError.
    """
    if token not in manifest.concepts:
        raise TokenError(
            f"token {token!r}: {world} has learnt {', '.join(manifest.concepts) or 'nothing yet'}"
        )
    journal: list[dict[str, Any]] = manifest.journal
    was = {line["version"]: (line["token"], line["was"]) for line in journal if line["action"] == "rename"}
    found: dict[int, Kept] = {}
    for version in reversed(manifest.lineage()):
        if token not in version.concepts:
            break
        for name in manifest.recorded(world, version.version).files:
            step = names.step_of(name)
            if step and step[1] == token:
                found.setdefault(step[0], Kept(step[0], version.version, token))
        new, old = was.get(version.version, ("", ""))
        if version.token == token and new != token and not manifest.changes_again(version):
            break  # it was learnt here
        token = old if new == token else token
    return found
