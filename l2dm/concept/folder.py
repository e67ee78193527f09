"""A folder of photos, before any of them is opened: which files it has, and whether they are too many."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import PhotoError

MOST = 30
SUFFIXES = {
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".webp",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".mpo",
    ".avif",
    ".heic",
    ".heif",
}
#: What OneTrainer calls the mask of a photo: that of ``rex.jpg`` is ``rex-masklabel.png``.
MASK = "-masklabel.png"


def is_mask(path: Path) -> bool:
    return path.name.lower().endswith(MASK)


def files_of(folder: Path) -> list[Path]:
    """The files of ``folder`` (not of its subfolders) by name; a PhotoError where there is no such folder, or
    more than MOST have a photo's name."""
    files = listed(folder, f"1 to {MOST} photos")
    if (count := sum(path.suffix.lower() in SUFFIXES and not is_mask(path) for path in files)) > MOST:
        raise PhotoError(too_many(folder, f"{count:,}"))
    return files


def listed(folder: Path, what: str) -> list[Path]:
    """All files of ``folder`` (not of its subfolders) by name, hidden ones left out. Raises PhotoError where
    it is no folder with ``what``.
    """
    if not folder.exists():
        raise PhotoError(f"{folder}: no such folder; give a folder with {what}")
    if not folder.is_dir():
        raise PhotoError(f"{folder}: not a folder; put {what} into a folder and give its path")
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_file())
    except OSError as error:
        raise PhotoError(f"{folder}: cannot be read ({error.strerror}); mend its permissions") from None
    return [folder / name for name in names]


def too_many(folder: Path, count: str) -> str:
    return (
        f"{folder}: {count} photos; a concept takes at most {MOST} (3 to 5 are best); put the best into "
        "a "
        "folder of their own"
    )
