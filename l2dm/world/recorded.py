"""Files whose SHA-256 is recorded: each is read once, and checked before any byte of it is used."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from PIL import Image
from pydantic import TypeAdapter

from ..errors import WorldDamaged, WorldWarning, out_of_memory, reading
from ..files import write_whole
from . import store
from .names import is_own
from .schema import FILES, MOST_BYTES, parse
from .sealed import seal, unseal
from .tensors import check_tensors, cut, parse_tensors

if TYPE_CHECKING:
    import torch

#: A folder's own record, where no manifest has one.
RECORD = "files.json"

_T = TypeVar("_T")


class _Tensors(dict[str, "torch.Tensor"]):
    """What a file holds; what it does not hold is damage."""

    def __init__(self, found: dict[str, torch.Tensor], path: Path, way_out: str):
        super().__init__(found)
        self.path, self.way_out = path, way_out

    def __missing__(self, name: str) -> torch.Tensor:
        raise WorldDamaged(f"{self.path}: {name[:80]} is not in it; {self.way_out}")


@dataclass(frozen=True)
class Recorded:
    """``folder`` and what is recorded of it. ``files``: name -> SHA-256; ``by``: who says so; ``way_out``: of
    an error.
    """

    folder: Path
    files: dict[str, str]
    by: str
    way_out: str

    @classmethod
    def by_itself(cls, folder: Path, way_out: str, expected: str = "") -> Recorded:
        """A folder that ``write_recorded`` made; ``expected``: the SHA-256 of its record, where one is known.
        Raises WorldDamaged where that is not whole."""
        path = folder / RECORD
        with reading(path):
            data = store.read(path, MOST_BYTES)
        body, whole = unseal(data)
        if not whole or (expected and hashlib.sha256(data).hexdigest() != expected):
            raise WorldDamaged(f"{path}: its content is not what its checksum says; {way_out}")
        return cls(folder, parse(body, FILES, path, way_out)["files"], RECORD, way_out)

    def missing(self, names: Collection[str]) -> Recorded:
        """The same without the files ``names``."""
        return dataclasses.replace(self, files={n: h for n, h in self.files.items() if n not in names})

    def __contains__(self, name: str) -> bool:
        return name in self.files

    def read(self, name: str) -> bytes:
        """A file's content. Raises WorldDamaged when it is not the one that was recorded."""
        path = self.folder / name
        if name not in self:
            raise WorldDamaged(f"{path}: {self.by} does not record it; {self.way_out}")
        with reading(path), out_of_memory(f"{path}: reading it", "close some programs"):
            if not path.is_file():
                raise WorldDamaged(f"{path}: missing; {self.way_out}")
            data = store.read(path)
        if hashlib.sha256(data).hexdigest() != self.files[name]:
            raise WorldDamaged(f"{path}: {self._changed}; {self.way_out}")
        return data

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """A safetensors file's; one that is not there is a WorldDamaged when it is asked for."""
        path = self.folder / name
        return _Tensors(parse_tensors(self.read(name), path, self.way_out), path, self.way_out)

    def without(self, name: str, tensors: Collection[str]) -> bytes:
        """A file's content without some of its ``tensors``; as it is where none is named."""
        data = self.read(name)
        if not tensors:
            return data
        check_tensors(data, self.folder / name, self.way_out)
        return cut(data, tensors)

    def json(self, name: str, schema: TypeAdapter[_T]) -> _T:
        return parse(self.read(name), schema, self.folder / name, self.way_out)

    def picture(self, name: str) -> Image.Image:
        """In RGB, decoded."""
        data = self.read(name)
        try:
            return Image.open(io.BytesIO(data)).convert("RGB")
        except Exception as error:  # whatever Pillow raises on a file that is no picture
            raise WorldDamaged(f"{self.folder / name}: not a picture ({error}); {self.way_out}") from None

    def broken(self, digest: Callable[[Path], str] = store.digest) -> Iterator[tuple[str, str]]:
        """Names of files that are not as recorded, and why; without a whole file in memory."""
        for name, expected in self.files.items():
            path = self.folder / name
            with reading(path):
                if not path.is_file():
                    yield name, "missing"
                elif digest(path) != expected:
                    yield name, self._changed

    def check(self) -> None:
        """Raise WorldDamaged for the first file that is not as recorded."""
        for name, why in self.broken():
            raise WorldDamaged(f"{self.folder / name}: {why}; {self.way_out}")

    def glance(self) -> None:
        """``check`` of what concepts share; of what is one concept's own, which is checked when it is read,
        only that it is there.
        """
        with reading(self.folder):
            there = {entry.name for entry in os.scandir(self.folder)} if self.files else set()
        for name in self.files:
            if name not in there:
                raise WorldDamaged(f"{self.folder / name}: missing; {self.way_out}")
        own = [name for name in self.files if is_own(name)]
        self.missing(own).check()

    def link(self, name: str, target: Path) -> str:
        """Link a file, unread, into a folder that ``store.write_folder`` fills; returns what is recorded of
        it.
        """
        path = self.folder / name
        with reading(path):
            if not path.is_file():
                raise WorldDamaged(f"{path}: missing; {self.way_out}")
            store.link(path, target)
        return self.files[name]

    @property
    def _changed(self) -> str:
        return f"its content is not what {self.by} records"


def record(folder: Path, known: Mapping[str, str] = MappingProxyType({})) -> str:
    """Write a folder's own record of the files in it, of which the digests of some are ``known``; returns the
    record's SHA-256.
    """
    names = sorted(path.name for path in folder.iterdir() if path.name != RECORD)
    return record_of(folder, {name: known.get(name) or store.digest(folder / name) for name in names})


def record_of(folder: Path, files: dict[str, str]) -> str:
    """Write ``files``, name -> SHA-256, as a folder's own record, if it is there; returns the record's
    SHA-256.
    """
    content = seal({"files": files})
    if folder.is_dir():
        write_whole(folder / RECORD, content)
    return hashlib.sha256(content).hexdigest()


def write_recorded(target: Path, fill: Callable[[Path], dict[str, str] | None]) -> str:
    """``store.write_folder`` with a record of its own in it, whose SHA-256 is returned. ``fill`` may return
    the digests of files that it has carried over from elsewhere."""
    found = ""

    def fill_and_record(place: Path) -> Collection[str]:
        nonlocal found
        known = fill(place) or {}
        found = record(place, known)
        return known

    store.write_folder(target, fill_and_record)
    return found


def made_once(world: Path, folder: Path, make: Callable[[Path], None], read: Callable[[Recorded], _T]) -> _T:
    """What ``read`` finds in a ``folder`` of the world that ``make`` fills where it is not there yet. A
    damaged one is put into quarantine and made anew, with a WorldWarning."""
    if folder.exists():
        try:
            return read(Recorded.by_itself(folder, f"it is put into {store.QUARANTINE}/ and made anew"))
        except WorldDamaged as damage:
            store.set_aside(world, folder)
            warnings.warn(str(damage), WorldWarning, stacklevel=2)
    write_recorded(folder, make)
    return read(Recorded.by_itself(folder, "try again"))
