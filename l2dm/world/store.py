"""Files that appear whole or not at all: written beside their place, flushed to the disk, then renamed into it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..files import PART, replace, sync, write_whole


def write_folder(target: Path, fill: Callable[[Path], None]) -> None:
    """Create ``target``, which must not exist yet, with what ``fill`` writes into an empty folder."""
    scratch = target.with_name(f"{PART}{target.name}-{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        fill(scratch)
        for path in sorted(scratch.rglob("*"), reverse=True):
            sync(path)
        sync(scratch)
        replace(scratch, target)
        sync(target.parent)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def write_json(target: Path, value: Any) -> None:
    write_whole(target, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep(folder: Path) -> None:
    """Remove what a killed writer left half done."""
    for path in [*folder.glob(f"{PART}*"), *folder.glob(f"*/{PART}*")]:
        remove_folder(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Remove a folder with all that is in it; links are never followed, neither in it nor in its parent's place."""
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


def size(folder: Path) -> int:
    """Bytes that the files of ``folder`` take; one that has several names there counts once."""
    facts = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum({(f.st_dev, f.st_ino): f.st_size for f in facts}.values())
