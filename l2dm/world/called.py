"""What one concept is called from version to version: ``rename`` gives it another token, and another concept
may take the old one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .manifest import Manifest, Version

#: A concept: the first version of now that holds it, and its token there.
_Concept = tuple[int, str]


@dataclass(frozen=True)
class Called:
    """The concept that ``token`` names in a world, or those one after another: what was last called so, under
    every token that it had before.
    """

    manifest: Manifest
    token: str

    @cached_property
    def _renames(self) -> dict[int, tuple[str, str]]:
        """Version -> old and new token."""
        journal: list[dict[str, Any]] = self.manifest.journal
        lines = (line for line in journal if line["action"] == "rename")
        return {line["version"]: (line["was"], line["token"]) for line in lines}

    @cached_property
    def _changes(self) -> dict[int, list[tuple[str, str]]]:
        """Version that was not taken back -> what was renamed in it, or came in ("" before)."""
        found = {number: [pair] for number, pair in self._renames.items()}
        journal: list[dict[str, Any]] = self.manifest.journal
        for line in journal:
            if line["action"] in ("learn", "import") and line.get("more") is not True:
                found.setdefault(line.get("version", 0), []).append(("", line.get("token", "")))
            elif line["action"] == "undo":
                found.pop(line.get("version", 0), None)
        return found

    @cached_property
    def _concepts(self) -> dict[tuple[int, str], _Concept]:
        """(version, token in it) -> concept."""
        found: dict[tuple[int, str], _Concept] = {}
        for number in sorted(self.manifest.versions):
            for token in self.manifest.versions[number].concepts:
                found[number, token] = found.get(self._before(number, token), (number, token))
        return found

    def _before(self, number: int, token: str) -> tuple[int, str]:
        """The version before, and what the concept ``token`` of this one is called in it, "" where it was
        learnt since. Versions between that a repair has put aside are still in the journal."""
        parent = self.manifest.versions[number].parent
        for at in range(number, parent, -1):
            for old, new in self._changes.get(at, ()):
                token = old if new == token else token
        return parent, token

    @cached_property
    def _last(self) -> dict[_Concept, str]:
        """Concept -> what it is called in the last version that has it."""
        return {concept: token for (_, token), concept in self._concepts.items()}

    @cached_property
    def elsewhere(self) -> dict[str, list[int]]:
        """Versions in which something else was called ``token``, by what it was called last."""
        found: dict[str, list[int]] = {}
        for (number, token), concept in self._concepts.items():
            if token == self.token != self._last[concept]:
                found.setdefault(self._last[concept], []).append(number)
        return found

    @cached_property
    def names(self) -> dict[int, list[str]]:
        """Version -> its tokens there, mostly one."""
        found: dict[int, list[str]] = {}
        for (number, token), concept in self._concepts.items():
            if self._last[concept] == self.token:
                found.setdefault(number, []).append(token)
        return found

    @cached_property
    def ever(self) -> set[str]:
        """All its tokens, those of versions that are gone too."""
        found = {self.token, *(token for tokens in self.names.values() for token in tokens)}
        gone = [pair for n, pair in self._renames.items() if n not in self.manifest.versions]
        while more := {t for pair in gone if found & {*pair} for t in pair} - found:
            found |= more
        return found

    def is_meant(self, number: object, token: str) -> bool:
        """Whether ``token`` is it, where a version, or the journal's line of one, says so."""
        version = self.manifest.versions.get(number) if isinstance(number, int) else None
        if version is None:
            return token in self.ever
        concept = self._concepts.get((version.version, token)) or self._concepts.get((version.parent, token))
        return token in self.ever and (concept is None or self._last[concept] == self.token)

    def tells(self, line: Mapping[str, object]) -> bool:
        """Whether a line of the journal tells of it. What an import ``was`` called in another world is no
        token of this one.
        """
        told = [value for key, value in line.items() if key != "was" or line["action"] == "rename"]
        named = [token for value in told for token in (value if isinstance(value, list) else [value])]
        return any(isinstance(token, str) and self.is_meant(line.get("version"), token) for token in named)

    def others(self, number: int, version: Version) -> dict[str, str]:
        """Token -> noun of a version's other concepts."""
        return {t: noun for t, noun in version.concepts.items() if t not in self.names.get(number, ())}

    def left_out(self, number: int, version: Version) -> set[str]:
        """Every token of it that is no other concept's in this version."""
        return self.ever - set(self.others(number, version))


def without(lines: Iterable[dict[str, Any]], called: Called, files: set[str]) -> list[dict[str, Any]]:
    """A journal's lines but for those that tell of a concept; where one of another names it, or one of its
    ``files``, that is taken out.
    """
    left = []
    for line in lines:
        if called.tells(line):
            continue
        told = {**line}
        if line["action"] != "rename" and line.get("was") in called.ever:
            del told["was"]
        if isinstance(told.get("aside"), list):
            told["aside"] = [name for name in told["aside"] if str(name).rpartition("/")[2] not in files]
        left.append(told)
    return left
