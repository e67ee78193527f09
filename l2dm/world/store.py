"""Files that appear whole or not at all: written beside their place, flushed to the disk, then renamed into
it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import SettingsError
from ..files import PART, replace, scratch_in, sync, write_whole

FOLDERS = ("versions", "prior", "learning")
#: Where damaged files are kept, out of the way.
QUARANTINE = "quarantine"


def read(path: Path, most: int = -1) -> bytes:
    """A file's content, or its first ``most`` bytes."""
    with path.open("rb") as file:
        return file.read(most)


def write_folder(target: Path, fill: Callable[[Path], Collection[str] | None]) -> None:
    """Create ``target``, which must not exist yet, with what ``fill`` writes into an empty folder; it may
    return names of files that are on the disk already."""
    if new := not target.parent.exists():
        target.parent.mkdir(parents=True)
    scratch = scratch_in(target.parent)
    scratch.mkdir()
    try:
        there = set(fill(scratch) or ())
        for path in sorted(scratch.rglob("*"), reverse=True):
            if path.name not in there:
                sync(path)
        sync(scratch)
        replace(scratch, target)
        sync(target.parent)
        if new:
            sync(target.parent.parent)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def link(source: Path, target: Path) -> None:
    """Give the file ``source`` a second name; a copy where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        sync(target)


def as_json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def write_json(target: Path, value: Any) -> None:
    write_whole(target, as_json(value))


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_writable(world: Path) -> None:
    """Raise the system's OSError unless files can be made in a world and in the folders that it has."""
    for folder in (world, *(world / name for name in FOLDERS)):
        if folder.is_dir():
            probe = folder / f"{PART}{os.getpid()}"
            try:
                probe.touch()
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(folder)) from None
            probe.unlink()


def check_outside(world: Path, target: Path, option: str) -> None:
    """Refuse a place for output in the folders of a world that its writers clear."""
    place, own = target.resolve(), [world.resolve() / name for name in (*FOLDERS, QUARANTINE)]
    if any(folder in (place, *place.parents) for folder in own):
        raise SettingsError(
            f"{option} {target}: inside a folder that {world} keeps for itself and clears; choose another "
            "place"
        )


def sweep(folder: Path) -> None:
    """Remove what a killed writer left half done; a finished version has nothing of the kind in it."""
    places = [folder, *(folder / name for name in ("versions", "prior", "learning", QUARANTINE))]
    places += [inner for name in ("prior", "learning") for inner in (folder / name).glob("*/")]
    for path in [path for place in places for path in place.glob(f"{PART}*")]:
        remove_folder(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Remove a folder with all that is in it; links are never followed, neither in it nor in its parent's
    place.
    """
    if not shutil.rmtree.avoids_symlink_attacks:
        if not path.is_symlink() and not path.parent.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        return
    try:
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # no such folder, or a link in its place
        return
    try:
        shutil.rmtree(path.name, ignore_errors=True, dir_fd=parent)
    finally:
        os.close(parent)


def set_aside(world: Path, path: Path) -> Path:
    """Move a damaged file or folder of ``world`` into its ``quarantine/``, under a name of its own; returns
    where it is now.
    """
    aside, name = world / QUARANTINE, "-".join(path.relative_to(world).parts).removeprefix("versions-")
    aside.mkdir(exist_ok=True)
    names = itertools.chain([name], (f"{name}-{count}" for count in itertools.count(2)))
    target = next(aside / free for free in names if not (aside / free).exists())
    replace(path, target)
    for folder in (path.parent, aside, world):
        sync(folder)
    return target


def size(folder: Path) -> int:
    """Bytes that the files of ``folder`` take; one with several names counts once, one that goes meanwhile
    not at all.
    """
    found: dict[int, int] = {}
    _weigh(str(folder), found)
    return sum(found.values())


def _weigh(folder: str, found: dict[int, int]) -> None:
    """Add each file's number and size; one that has several names is asked once."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _weigh(entry.path, found)
            elif entry.is_file(follow_symlinks=False) and entry.inode() not in found:
                with suppress(OSError):
                    found[entry.inode()] = entry.stat(follow_symlinks=False).st_size
