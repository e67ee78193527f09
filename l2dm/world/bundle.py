"""A world in one file: a zip of its manifest and of every version's files, nothing compressed, checked
against the manifest on the way in.
"""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ExchangeError, SettingsError, WorldDamaged, first_line
from ..files import replace, scratch_in, sync
from . import store
from .founding import check_empty
from .manifest import COPY, NAME, Manifest, folder_of, steadily
from .recorded import RECORD, Recorded
from .schema import MOST_BYTES, MOST_ENTRIES

_INSIDE = re.compile(r"versions/[0-9]{4,9}/[^/\\]{1,200}")


def write_bundle(world: Path, target: Path) -> None:
    """Write the zip ``target``, which must not exist, whole or not at all. Raises WorldDamaged where a file
    is not as recorded.
    """
    if target.exists():
        raise SettingsError(f"--out {target}: already exists; give a file that does not")
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = scratch_in(target.parent)
    try:
        steadily(world, lambda manifest: _pack(world, manifest, scratch))
        sync(scratch)
        replace(scratch, target)
        sync(target.parent)
    finally:
        scratch.unlink(missing_ok=True)


def _pack(world: Path, manifest: Manifest, scratch: Path) -> None:
    """A file that several versions have is packed with the first of them."""
    done = set()
    with zipfile.ZipFile(scratch, "w", zipfile.ZIP_STORED) as packed:
        packed.writestr(NAME, store.read(world / NAME))
        for number in manifest.versions:
            files, folder = manifest.recorded(world, number), f"versions/{number:04d}"
            if files.by == RECORD:
                packed.writestr(f"{folder}/{RECORD}", store.read(files.folder / RECORD))
            for name in [name for name, digest in files.files.items() if (name, digest) not in done]:
                packed.writestr(f"{folder}/{name}", files.read(name))
            done |= files.files.items()
    try:
        with zipfile.ZipFile(scratch) as packed:
            if packed.read(NAME) != store.read(world / NAME):
                raise WorldDamaged(f"{world / NAME}: changed meanwhile; try again")
    except zipfile.BadZipFile as error:  # zipfile's word for one that the disk does not give back, too
        said = (
            f"{scratch.parent}: the zip cannot be read back ({first_line(error)}); check the disk, try again"
        )
        raise ExchangeError(said) from None


def read_bundle(path: Path, world: Path) -> None:
    """Unpack the zip ``path`` as the new world ``world``; every file is checked against the manifest in it.
    Raises ExchangeError, WorldError.
    """
    check_empty(world)
    try:
        with zipfile.ZipFile(path) as packed:
            entries = _checked(path, packed)
            if world.is_dir():
                world.rmdir()
            store.write_folder(world.resolve(), lambda folder: _unpack(path, packed, entries, folder))
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
        raise ExchangeError(f"{path}: no readable zip ({first_line(error)}); fetch it again") from None


def _checked(path: Path, packed: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """What is in the zip, if it is what ``write_bundle`` writes."""
    entries = packed.infolist()
    if len(entries) > MOST_ENTRIES or len({entry.filename for entry in entries}) < len(entries):
        raise ExchangeError(
            f"{path}: {len(entries)} files, some of one name; it is no world that l2dm exported"
        )
    for entry in entries:
        plain = (
            entry.compress_type == zipfile.ZIP_STORED
            and not entry.flag_bits & 1
            and entry.compress_size == entry.file_size
        )
        if not plain or not (entry.filename == NAME or _INSIDE.fullmatch(entry.filename)):
            raise ExchangeError(
                f"{path}: {entry.filename[:80]!r} is not as l2dm writes it; it is no world that l2dm exported"
            )
    found = [entry for entry in entries if entry.filename == NAME]
    if not found or found[0].file_size > MOST_BYTES:
        raise ExchangeError(f"{path}: it has no manifest, so it is no world that l2dm exported")
    return entries


def _unpack(path: Path, packed: zipfile.ZipFile, entries: list[zipfile.ZipInfo], folder: Path) -> None:
    for name in (COPY, NAME):
        (folder / name).write_bytes(packed.read(NAME))
    manifest = Manifest.of(folder / NAME, f"{path} is not whole: fetch it again")
    left, first = {entry.filename for entry in entries} - {NAME}, {}

    def take(number: int, name: str, before: Path | None = None) -> Path:
        """Write a version's file, or link it to the one that a version ``before`` has."""
        inner, place = f"versions/{number:04d}/{name}", folder_of(folder, number) / name
        if inner in left:
            left.remove(inner)
            place.write_bytes(packed.read(inner))
        elif before:
            store.link(before, place)
        else:
            raise ExchangeError(f"{path}: {inner[:80]!r} is missing; fetch it again")
        return place

    for number in manifest.versions:
        folder_of(folder, number).mkdir(parents=True)
        if manifest.format > 2:
            take(number, RECORD)
        files = _sound(path, lambda n=number: manifest.recorded(folder, n))
        for name, digest in files.files.items():
            first[name, digest] = take(number, name, first.get((name, digest)))
        for name, why in files.broken():
            raise ExchangeError(f"{path}: versions/{number:04d}/{name}: {why}; fetch it again")
    if left:
        raise ExchangeError(f"{path}: {min(left)[:80]!r} is not in its manifest; fetch it again")


def _sound(path: Path, work: Callable[[], Recorded]) -> Recorded:
    try:
        return work()
    except WorldDamaged as damage:
        raise ExchangeError(f"{path} is not whole ({damage}); fetch it again") from None


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The folder of a world that is one already, or, within the block, of one unpacked from its zip."""
    if path.is_dir() or not path.exists():
        yield path
        return
    with tempfile.TemporaryDirectory() as place:
        read_bundle(path, Path(place) / "world")
        yield Path(place) / "world"
