"""Photos as people have them: any common format, in any colours, rotated, transparent, broken, or twice the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..errors import PhotoError
from .captions import Captions, is_caption
from .decoding import decoded
from .folder import MOST, files_of, too_many

SMALLEST = 32


@dataclass(frozen=True)
class Photo:
    """One readable photo: its pixels as sRGB, upright, at most about 1,024 a side; its caption, if there is one beside it."""

    path: Path
    image: Image.Image = field(repr=False, compare=False)
    caption: str | None
    notes: tuple[str, ...] = ()
    digest: str = ""
    size: tuple[int, int] = (0, 0)  # width and height of the file's own picture, upright

    def square(self, side: int) -> Image.Image:
        """The centre square, ``side`` pixels."""
        return ImageOps.fit(self.image, (side, side), Image.LANCZOS)


@dataclass(frozen=True)
class PhotoReport:
    """What a folder holds: photos that can be used, and a sentence about each file that cannot."""

    folder: Path
    photos: tuple[Photo, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()  # about what else lies there

    def usable(self, skip_bad: bool = False) -> tuple[Photo, ...]:
        """The photos, or a PhotoError naming what is wrong and the way out."""
        if self.problems and not skip_bad:
            more = f" (and {len(self.problems) - 1} more; see l2dm check)" if len(self.problems) > 1 else ""
            raise PhotoError(f"{self.problems[0]}{more}; remove the file or pass --skip-bad")
        if not self.photos:
            raise PhotoError(
                f"{self.folder}: no usable photo; put 1 to {MOST} photos (3 to 5 are best) into this folder"
            )
        return self.photos


def check_photos(folder: str | Path) -> PhotoReport:
    """Read every photo of ``folder`` (not of its subfolders), one after another.

    Raises PhotoError if there is no such folder, and, before any is read, if it holds more than MOST photos."""
    folder = Path(folder)
    files = files_of(folder)
    captions = Captions(files)
    photos: list[Photo] = []
    problems: list[str] = []
    seen: dict[str, Path] = {}
    for path in (path for path in files if not is_caption(path)):
        try:
            photo = _read(path, captions)
        except PhotoError as error:
            problems.append(str(error))
            continue
        if photo.digest in seen:
            problems.append(f"{path}: the same picture as {seen[photo.digest].name}")
            continue
        seen[photo.digest] = path
        photos.append(photo)
        if len(photos) > MOST:
            raise PhotoError(too_many(folder, f"more than {MOST}"))
    return PhotoReport(
        folder, tuple(photos), tuple(problems + captions.problems), tuple(captions.without_photo())
    )


def _read(path: Path, captions: Captions) -> Photo:
    caption, told = captions.of(path)
    image, size, notes = decoded(path)
    if min(size) < SMALLEST:
        raise PhotoError(f"{path}: {size[0]} x {size[1]} pixels; at least {SMALLEST} a side are needed")
    short, long = sorted(size)
    if 3 * long > 4 * short:
        told = [f"the middle {short / long:.0%} is learnt, the centre square", *told]
    digest = hashlib.sha256(f"{size}".encode() + image.tobytes()).hexdigest()
    return Photo(path, image, caption, (*notes, *told), digest, size)


def shrunken(
    image: Image.Image, side: int, room: tuple[int, int], middle: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """``image``, ``side`` pixels square, about ``middle`` (x, y) of ``room`` (width, height), its edges drawn out or cut off.

    The pixels (height, width, 3), and where they are the image's own (height, width)."""
    small = np.asarray(image.convert("RGB").resize((side, side), Image.LANCZOS))
    x, y = (np.arange(length) - round(at - side / 2) for length, at in zip(room, middle))
    own = ((y >= 0) & (y < side))[:, None] & ((x >= 0) & (x < side))
    return small[y.clip(0, side - 1)][:, x.clip(0, side - 1)], own
