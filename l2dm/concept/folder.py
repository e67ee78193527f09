"""A folder of photos, before any of them is opened: which files it has, and whether they are too many."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import PhotoError

MOST = 30
SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".mpo", ".avif", ".heic", ".heif",
}  # fmt: skip
#: What OneTrainer calls the mask of a photo: that of ``rex.jpg`` is ``rex-masklabel.png``.
MASK = "-masklabel.png"


def is_mask(path: Path) -> bool:
    return path.name.lower().endswith(MASK)


def files_of(folder: Path) -> list[Path]:
    """The files of ``folder`` (not of its subfolders) by name; a PhotoError where there is no such folder, or more than MOST have a
    photo's name."""
    if not folder.exists():
        raise PhotoError(f"{folder}: no such folder; give a folder with 1 to {MOST} photos")
    if not folder.is_dir():
        raise PhotoError(f"{folder}: not a folder; put the photos into a folder and give its path")
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_file())
    except OSError as error:
        raise PhotoError(f"{folder}: cannot be read ({error.strerror}); mend its permissions") from None
    photos = (name for name in names if not name.lower().endswith(MASK))
    if (count := sum(os.path.splitext(name)[1].lower() in SUFFIXES for name in photos)) > MOST:
        raise PhotoError(too_many(folder, f"{count:,}"))
    return [folder / name for name in names]


def too_many(folder: Path, count: str) -> str:
    return f"{folder}: {count} photos; a concept takes at most {MOST} (3 to 5 are best); put the best into a folder of their own"
