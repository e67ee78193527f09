"""What photos are given as: a folder, or a list of files and of pictures that are open in Pillow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..errors import PhotoError
from .captions import METADATA, is_caption
from .folder import MASK, MOST, files_of, is_mask, too_many

Photos = str | Path | Sequence[str | Path | Image.Image]


@dataclass(frozen=True)
class Given:
    """``place``: how messages name all of it; ``photos``: the path of each, and the picture where it is open
    already; ``beside``: files that may belong to them; ``whole``: whether these are all of a folder, so that
    one that belongs to none is worth a word.
    """

    place: Path
    photos: list[tuple[Path, Image.Image | None]]
    beside: list[Path]
    whole: bool


def given(photos: Photos) -> Given:
    """Raises PhotoError where there is no such folder, where something in a list is no photo, or where they
    are more than MOST.
    """
    if isinstance(photos, (str, os.PathLike)):
        folder = Path(photos).expanduser()
        files = files_of(folder)
        beside = [path for path in files if is_caption(path) or is_mask(path)]
        alone: list[tuple[Path, Image.Image | None]] = [
            (path, None) for path in files if not (is_caption(path) or is_mask(path))
        ]
        return Given(folder, alone, beside, True)
    place, found = Path("the photos given"), []
    for number, photo in enumerate(photos, 1):
        if isinstance(photo, Image.Image):
            found.append((Path(f"picture {number}"), photo))
        elif isinstance(photo, (str, os.PathLike)):
            found.append((_file(Path(photo).expanduser()), None))
        else:
            raise PhotoError(
                f"photo {number}: a {type(photo).__name__}; give a path or a picture of Pillow "
                "(PIL.Image.Image)"
            )
    if len(found) > MOST:
        raise PhotoError(too_many(place, f"{len(found):,}"))
    return Given(
        place, found, [file for path, image in found if image is None for file in _beside(path)], False
    )


def _file(path: Path) -> Path:
    if path.is_dir():
        raise PhotoError(f"{path}: a folder in a list of photos; give the folder alone, or its files")
    if not path.is_file():
        raise PhotoError(f"{path}: no such file")
    return path


def _beside(photo: Path) -> list[Path]:
    """Captions and a mask that may be those of ``photo``."""
    own, mask = (photo.name, photo.stem), photo.stem + MASK
    return [
        path
        for path in sorted(photo.parent.iterdir())
        if path.name == mask or (is_caption(path) and (path.stem in own or path.name.lower() == METADATA))
    ]
