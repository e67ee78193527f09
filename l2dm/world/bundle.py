"""A world in one file: a zip of its manifest and of every version's files, nothing compressed, checked against the manifest on the way in."""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ExchangeError, SettingsError, WorldDamaged, WorldError, first_line
from ..files import replace, scratch_in, sync
from . import store
from .founding import check_free
from .manifest import COPY, NAME, Manifest, folder_of, steadily
from .schema import MOST_BYTES, MOST_ENTRIES

_INSIDE = re.compile(r"versions/[0-9]{4,9}/[^/\\]{1,200}")


def write_bundle(world: Path, target: Path) -> None:
    """Write the zip ``target``, which must not exist, whole or not at all. Raises WorldDamaged where a file is not as recorded."""
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
    with zipfile.ZipFile(scratch, "w", zipfile.ZIP_STORED) as packed:
        packed.writestr(NAME, store.read(world / NAME))
        for number, version in manifest.versions.items():
            files = manifest.recorded(world, number)
            for name in version.files:
                packed.writestr(f"versions/{number:04d}/{name}", files.read(name))
    with zipfile.ZipFile(scratch) as packed:
        if packed.read(NAME) != store.read(world / NAME):
            raise WorldDamaged(f"{world / NAME}: changed meanwhile; try again")


def read_bundle(path: Path, world: Path) -> None:
    """Unpack the zip ``path`` as the new world ``world``; every file is checked against the manifest in it. Raises ExchangeError, WorldError."""
    check_free(world)
    if world.exists() and any(world.iterdir()):
        raise WorldError(f"{world}: already exists; choose another path")
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
    told = {
        f"versions/{number:04d}/{name}"
        for number, version in manifest.versions.items()
        for name in version.files
    }
    found = {entry.filename for entry in entries} - {NAME}
    if odd := sorted(told ^ found):
        raise ExchangeError(
            f"{path}: {odd[0][:80]!r} is {'missing' if odd[0] in told else 'not in its manifest'}; fetch it again"
        )
    for name in sorted(told):
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(packed.read(name))
    for number in manifest.versions:
        for name, why in manifest.recorded(folder, number).broken():
            place = folder_of(Path("."), number) / name
            raise ExchangeError(f"{path}: {place.as_posix()}: {why}; fetch it again")


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The folder of a world that is one already, or, within the block, of one unpacked from its zip."""
    if path.is_dir() or not path.exists():
        yield path
        return
    with tempfile.TemporaryDirectory() as place:
        read_bundle(path, Path(place) / "world")
        yield Path(place) / "world"
